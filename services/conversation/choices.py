"""The answers of one completion, side by side: what OpenAI calls its choices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from services.conversation.chat_model import TokenUsage
from services.conversation.extras import Extras
from services.conversation.generation_log import Entry, GenerationLog
from services.conversation.model import Outcome
from services.conversation.route_model import Prices, Route, RouteReceipt


class Choice:
    """One answer that runs. `log` ends in `completed` or `failed`; `outcome` and the whole receipt are set before that.

    Args:
        index: Which of the answers.
        generation_id: Its own.
        route: Where it begins.
        with_logprobs: Whether log-probabilities were asked for.
    """

    def __init__(self, index: int, generation_id: str, route: RouteReceipt, *, with_logprobs: bool) -> None:
        self.index = index
        self.log = GenerationLog(generation_id)
        self.extras = Extras(generation_id, with_logprobs=with_logprobs)
        self.receipt = route
        self.prices: Prices | None = None
        self.outcome: Outcome | None = None

    def end(self, outcome: Outcome, route: Route) -> None:
        """It has ended, so, and ran there."""
        self.receipt = route.receipt
        self.prices = route.model.prices
        self.outcome = outcome


class Completion:
    """A completion that runs: its answers. Most have one; what is said of the whole is said of the first."""

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.choices = tuple(choices)

    @property
    def id(self) -> str:
        """The generation under which its tokens are reserved and counted."""
        return self.log.generation_id

    @property
    def log(self) -> GenerationLog:
        """Of the first answer."""
        return self.choices[0].log

    @property
    def outcome(self) -> Outcome | None:
        """Of the first answer."""
        return self.choices[0].outcome

    @property
    def closed(self) -> bool:
        """Whether all answers have ended."""
        return all(choice.log.closed for choice in self.choices)

    @property
    def usage(self) -> TokenUsage:
        """What it took: the prompt once, and all answers."""
        used = [choice.outcome.usage for choice in self.choices if choice.outcome is not None]
        prompt = max(used, key=lambda usage: usage.prompt_tokens, default=TokenUsage())
        return replace(prompt, completion_tokens=sum(usage.completion_tokens for usage in used))

    @property
    def route(self) -> RouteReceipt:
        """The first answer's receipt, with the cost of all."""
        first, *others = self.choices
        more = sum(_cost_without_prompt(choice) for choice in others)
        cost = first.receipt.cost_nano_usd
        return first.receipt if not more or cost is None else replace(first.receipt, cost_nano_usd=cost + more)

    async def follow(self) -> AsyncGenerator[list[tuple[Choice, Entry]], None]:
        """All that happens to the answers until the last has ended, as much at a time as is there."""
        if len(self.choices) == 1:
            [choice] = self.choices
            seq = 0
            while entries := await choice.log.read(seq):
                seq = entries[-1].seq
                yield [(choice, entry) for entry in entries]
            return
        reading = {asyncio.create_task(choice.log.read(0)): choice for choice in self.choices}
        try:
            while reading:
                done, _ = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
                found: list[tuple[Choice, Entry]] = []
                for task, choice in [(task, reading.pop(task)) for task in done]:
                    entries = task.result()
                    found += [(choice, entry) for entry in entries]
                    if entries:
                        reading[asyncio.create_task(choice.log.read(entries[-1].seq))] = choice
                if found:
                    yield sorted(found, key=lambda pair: pair[0].index)
        finally:
            for task in reading:
                task.cancel()


def _cost_without_prompt(choice: Choice) -> int:
    """What an answer cost, weak ones before it included, less the prompt, which is paid for with the first answer."""
    if choice.outcome is None or choice.prices is None:
        return 0
    usage = choice.outcome.usage
    prompt = choice.prices.cost_nano_usd(replace(usage, completion_tokens=0))
    return max(0, (choice.receipt.cost_nano_usd or 0) - prompt)
