"""The dialogue of an assembly: what is asked when, what is refused, what is remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from services.context.assemble import AssembleContext, Effort
from services.context.model import (
    Answer,
    Assembled,
    ChatMessage,
    HistoryMessage,
    HistoryWanted,
    Page,
    Role,
    Said,
    Start,
    Target,
    TemplateOverhead,
)
from services.context.tokens import Counts, LruCache, TokenCounter
from services.runtime.errors import DomainError, Reason


class WordTokenizer:
    """A word is a token. Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []

    async def count(self, *, address: str, model: str, texts: Sequence[str]) -> Counts:
        self.asked.append((address, model, tuple(texts)))
        return Counts(tuple(len(text.split()) for text in texts), TemplateOverhead(per_message=2, per_prompt=3))


def target(context_length: int = 1000, reserved: int = 0, *, model: str = "m", system: str = "") -> Target:
    return Target(
        model=model,
        context_length=context_length,
        reserved_output_tokens=reserved,
        tokenizer_address="h:1",
        default_system_prompt=system,
    )


class Caller:
    """Holds a history of `length` turns and answers what it is asked."""

    def __init__(self, *, length: int = 0, words: int = 1, start: Start | None = None, **changes: object) -> None:
        self.start = start or Start(system_prompt="", user_message="new")
        self.target = changes.get("target", target())
        self.history = [
            HistoryMessage(
                f"m{number}",
                ChatMessage(Role.ASSISTANT if number % 2 == 0 else Role.USER, " ".join([f"w{number}"] * words)),
            )
            for number in range(length)
        ]
        self.wanted: list[int] = []

    async def talk(self, tokens: TokenCounter, effort: Effort | None = None) -> Assembled:
        assembly = AssembleContext(tokens=tokens)
        sent = 0
        queue: list[Said] = [self.start]

        async def said() -> AsyncIterator[Said]:
            while queue:
                yield queue.pop(0)

        answers = assembly.run(said(), effort=effort or Effort())
        async for answer in answers:
            match answer:
                case HistoryWanted(most):
                    self.wanted.append(most)
                    if len(self.wanted) == 1:
                        assert isinstance(self.target, Target)
                        queue.append(self.target)
                    queue.append(
                        Page(tuple(self.history[sent : sent + most]), exhausted=sent + most >= len(self.history))
                    )
                    sent += most
                case Assembled():
                    return answer
        raise AssertionError("no prompt")


def counter(tokenizer: WordTokenizer) -> TokenCounter:
    return TokenCounter(tokenizer=tokenizer, capacity=1000)


async def test_a_short_chat_is_pulled_whole_and_nothing_is_counted() -> None:
    tokenizer = WordTokenizer()
    caller = Caller(length=3, target=target(system="default"))
    done = await caller.talk(counter(tokenizer))
    assert [message.content for message in done.messages] == ["default", "w2", "w1", "w0", "new"]
    assert not done.truncated
    assert done.oldest_message_id == "m2"
    assert caller.wanted == [20]
    assert [texts for _, _, texts in tokenizer.asked] == [()]


async def test_the_template_is_asked_for_once_per_model_and_address() -> None:
    tokenizer = WordTokenizer()
    tokens = counter(tokenizer)
    for _ in range(3):
        await Caller().talk(tokens)
    assert tokenizer.asked == [("h:1", "m", ())]
    await Caller(target=target(model="other")).talk(tokens)
    assert tokenizer.asked[1:] == [("h:1", "other", ())]


async def test_the_own_system_prompt_stands_before_the_default_one() -> None:
    caller = Caller(start=Start(system_prompt="own", user_message="new"), target=target(system="default"))
    done = await caller.talk(counter(WordTokenizer()))
    assert [message.content for message in done.messages] == ["own", "new"]


@pytest.mark.parametrize(
    ("own", "default", "instructions", "expected"),
    [
        ("own", "default", "I am Ann.", "own\n\nI am Ann."),
        ("", "default", "I am Ann.", "default\n\nI am Ann."),
        ("", "", "I am Ann.", "I am Ann."),
        ("own", "default", "", "own"),
    ],
)
async def test_custom_instructions_follow_the_system_prompt_in_one_message(
    own: str, default: str, instructions: str, expected: str
) -> None:
    start = Start(system_prompt=own, user_message="new", custom_instructions=instructions)
    done = await Caller(start=start, target=target(system=default)).talk(counter(WordTokenizer()))
    assert [(message.role, message.content) for message in done.messages] == [
        (Role.SYSTEM, expected),
        (Role.USER, "new"),
    ]


async def test_custom_instructions_are_part_of_what_must_fit() -> None:
    start = Start(system_prompt="be good", user_message="word " * 90, custom_instructions="word " * 10)
    with pytest.raises(DomainError) as refusal:
        await Caller(start=start, target=target(150, 50)).talk(counter(WordTokenizer()))
    # 3 once, 2 for each of two messages, 102 words.
    assert refusal.value.metadata["prompt_tokens"] == "109"


async def test_pages_double_to_the_largest_and_end_with_the_window() -> None:
    caller = Caller(length=5000, target=target(3000))
    effort = Effort()
    done = await caller.talk(counter(WordTokenizer()), effort)
    assert caller.wanted == [20, 40, 80, 160, 200, 200, 200, 200]
    assert done.truncated
    # 3 once, and 3 a message: one word and 2 of template.
    assert done.prompt_tokens <= 3000 < done.prompt_tokens + 6
    assert done.messages[0].role is Role.USER
    assert effort.pages == 8


@pytest.mark.parametrize(("context_length", "wanted"), [(66, [20]), (67, [20]), (68, [20, 40])])
async def test_a_window_that_is_just_full_pulls_no_more(context_length: int, wanted: list[int]) -> None:
    """6 for the new message and 3 for each of a page of 20; what is left holds no message, or just an empty one."""
    caller = Caller(length=40, target=target(context_length))
    done = await caller.talk(counter(WordTokenizer()))
    assert caller.wanted == wanted
    assert (done.prompt_tokens, done.truncated) == (66, True)
    assert done.oldest_message_id == "m19"


async def test_the_cost_is_the_window_and_not_the_history() -> None:
    wanted = []
    for length in (1_000, 100_000):
        caller = Caller(length=length, target=target(300))
        await caller.talk(counter(WordTokenizer()))
        wanted.append(caller.wanted)
    assert wanted[0] == wanted[1] == [20, 40, 80]


async def test_a_history_is_counted_once_and_not_once_a_turn() -> None:
    tokenizer = WordTokenizer()
    tokens = counter(tokenizer)
    effort = Effort()
    first = await Caller(length=50, words=10, target=target(400)).talk(tokens, effort)
    assert effort.tokens_counted > 100
    asked = len(tokenizer.asked)
    again = Effort()
    assert await Caller(length=50, words=10, target=target(400)).talk(tokens, again) == first
    assert len(tokenizer.asked) == asked
    assert again.tokens_counted == 0


async def test_other_models_count_for_themselves() -> None:
    tokenizer = WordTokenizer()
    tokens = counter(tokenizer)
    await Caller(length=50, words=10, target=target(400)).talk(tokens)
    effort = Effort()
    await Caller(length=50, words=10, target=target(400, model="other")).talk(tokens, effort)
    assert effort.tokens_counted > 0


async def test_a_message_that_does_not_fit_is_refused_with_its_figures() -> None:
    start = Start(system_prompt="be good", user_message="word " * 100)
    with pytest.raises(DomainError) as refusal:
        await Caller(start=start, target=target(150, 50)).talk(counter(WordTokenizer()))
    # 3 once, 2 for each of two messages, 102 words.
    assert refusal.value.reason is Reason.CONTEXT_LENGTH_EXCEEDED
    assert refusal.value.metadata == {"model": "m", "context_length": "150", "prompt_tokens": "109"}
    assert "room for 100" in refusal.value.message


async def test_a_message_that_just_fits_is_taken() -> None:
    start = Start(system_prompt="be good", user_message="word " * 100)
    done = await Caller(start=start, length=5, target=target(160, 51)).talk(counter(WordTokenizer()))
    assert (done.prompt_tokens, done.available_output_tokens, done.truncated) == (109, 51, True)
    assert len(done.messages) == 2


def page(length: int, *, exhausted: bool = True) -> Page:
    return Page(tuple(HistoryMessage(str(n), ChatMessage(Role.USER, "x")) for n in range(length)), exhausted)


START = Start(system_prompt="", user_message="new")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], "start"),
        ([target()], "start"),
        ([page(1)], "start"),
        ([START], "target"),
        ([START, START], "target"),
        ([START, page(1)], "target"),
        ([START, page(1), page(1)], "target"),
        ([START, target()], "history_page"),
        ([START, target(), target()], "history_page"),
        ([START, target(), START], "history_page"),
        ([START, target(), page(21)], "history_page"),
        ([START, target(), page(0, exhausted=False)], "history_page"),
        ([START, target(), page(20, exhausted=False)], "history_page"),
        ([START, target(), page(20, exhausted=False), target()], "history_page"),
        ([START, target(), page(20, exhausted=False), page(41)], "history_page"),
    ],
)
async def test_what_comes_out_of_order_is_refused(said: list[Said], expected: str) -> None:
    async def speak() -> AsyncIterator[Said]:
        for item in said:
            yield item

    answers: list[Answer] = []

    async def run() -> None:
        async for answer in AssembleContext(tokens=counter(WordTokenizer())).run(speak(), effort=Effort()):
            answers.append(answer)  # noqa: PERF401 - what came before the refusal counts too

    with pytest.raises(DomainError) as refusal:
        await run()
    assert refusal.value.reason is Reason.PROTOCOL_VIOLATION
    assert refusal.value.metadata == {"expected": expected}
    assert all(isinstance(answer, HistoryWanted) for answer in answers)


async def test_the_page_may_come_before_the_target() -> None:
    async def speak() -> AsyncIterator[Said]:
        yield START
        yield page(2)
        yield target()

    run = AssembleContext(tokens=counter(WordTokenizer())).run(speak(), effort=Effort())
    answers = [answer async for answer in run]
    assert isinstance(answers[-1], Assembled)
    assert len(answers[-1].messages) == 3


def test_the_cache_forgets_what_was_unused_for_longest() -> None:
    cache: LruCache[str, int] = LruCache(capacity=2)
    cache.put("a", 0)
    cache.put("b", 1)
    assert cache.get("a") == 0
    cache.put("c", 2)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (0, None, 2)
