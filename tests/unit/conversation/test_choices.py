"""The answers of one completion are followed side by side, and counted together."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.choices import Choice, Completion
from services.conversation.generation_log import Completed, Delta, Event
from services.conversation.model import MessageStatus, Outcome
from services.conversation.route_model import Model, Prices, Route, RouteReceipt

PROMPT_COST = 32 * 1000 + 8 * 500
RECEIPT = RouteReceipt("auto", "m", "synthetic", "r", "only")


def completion(count: int) -> Completion:
    return Completion([Choice(index, f"g{index}", RECEIPT, with_logprobs=False) for index in range(count)])


def end(choice: Choice, *, tokens: int, cost: int | None) -> None:
    prices = None if cost is None else Prices(1.0, 0.5, 2.0)
    receipt = RouteReceipt("auto", "m", "synthetic", "r", "only", cost_nano_usd=cost)
    route = Route("a:1", "r", Model("m", 100, 10, "", prices=prices), receipt)
    outcome = Outcome(MessageStatus.COMPLETED, FinishReason.STOP, "", TokenUsage(40, tokens, 8))
    choice.end(outcome, route)
    choice.log.append(Completed(None))


@pytest.mark.parametrize("count", [1, 3])
async def test_all_that_happens_is_followed_to_the_last_end(count: int) -> None:
    running = completion(count)
    seen: list[tuple[int, Event]] = []

    async def read() -> None:
        async with aclosing(running.follow()) as follow:
            async for happened in follow:
                seen.extend((choice.index, entry.event) for choice, entry in happened)

    reader = asyncio.create_task(read())
    for choice in reversed(running.choices):
        choice.log.append(Delta("a"))
        await asyncio.sleep(0)
        choice.log.append(Delta("b"))
    assert not running.closed
    for choice in running.choices:
        end(choice, tokens=1, cost=None)
    await asyncio.wait_for(reader, 5)
    assert running.closed
    for index in range(count):
        mine = [event for at, event in seen if at == index]
        assert "".join(event.text for event in mine if isinstance(event, Delta)) == "ab"
        assert isinstance(mine[-1], Completed)


async def test_who_stops_following_leaves_nothing_behind() -> None:
    running = completion(2)
    running.choices[0].log.append(Delta("a"))
    async with aclosing(running.follow()) as follow:
        async for _ in follow:
            break
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_prompt_counts_once_and_each_answer_too() -> None:
    running = completion(3)
    for choice, tokens in zip(running.choices, (5, 6, 7), strict=True):
        end(choice, tokens=tokens, cost=PROMPT_COST + tokens * 2000)
    assert running.usage == TokenUsage(40, 18, 8)
    # Two dollars a million: so many thousand billionths a token.
    assert running.route.cost_nano_usd == PROMPT_COST + (5 + 6 + 7) * 2000


async def test_what_each_answer_had_that_was_too_weak_is_paid_for() -> None:
    running = completion(2)
    for choice, weak in zip(running.choices, (300, 500), strict=True):
        end(choice, tokens=5, cost=PROMPT_COST + 5 * 2000 + weak)
    assert running.route.cost_nano_usd == PROMPT_COST + 2 * 5 * 2000 + 300 + 500


async def test_without_prices_there_is_no_cost() -> None:
    running = completion(2)
    for choice in running.choices:
        end(choice, tokens=5, cost=None)
    assert running.route.cost_nano_usd is None
