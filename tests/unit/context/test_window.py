"""Window arithmetic, against a plain statement of what a window is."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.context import window as window_module
from services.context.model import Assembled, ChatMessage, HistoryMessage, Role, TemplateOverhead, ToolCall
from services.context.window import Window, token_bound


def tokens_of(text: str) -> int:
    """A tokenizer: three letters are a token, any other character is one token per byte."""
    ascii_letters = sum(character.isascii() for character in text)
    return -(-ascii_letters // 3) + len(text.encode()) - ascii_letters


@dataclass(frozen=True)
class Case:
    context_length: int
    reserved: int
    overhead: TemplateOverhead
    system: str
    user: str
    history: list[HistoryMessage]
    page_sizes: list[int]
    beside: str = ""

    @property
    def limit(self) -> int:
        return self.context_length - self.reserved

    def cost(self, text: str) -> int:
        return tokens_of(text) + self.overhead.per_message

    @property
    def fixed(self) -> int:
        return self.overhead.per_prompt + sum(self.cost(text) for text in (self.system, self.beside, self.user) if text)


texts = st.text(alphabet="abc é日", max_size=30)
calls = st.builds(ToolCall, st.just("call_1"), st.just("f"), texts)
spoken_messages = (
    st.builds(ChatMessage, st.sampled_from([Role.USER, Role.ASSISTANT]), texts)
    | st.builds(ChatMessage, st.just(Role.ASSISTANT), texts, st.lists(calls, min_size=1, max_size=2).map(tuple))
    | st.builds(ChatMessage, st.just(Role.TOOL), texts, tool_call_id=st.just("call_1"))
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    spoken = draw(st.lists(spoken_messages, max_size=25))
    return Case(
        context_length=draw(st.integers(1, 300)),
        reserved=draw(st.integers(0, 50)),
        overhead=TemplateOverhead(per_message=draw(st.integers(0, 5)), per_prompt=draw(st.integers(0, 5))),
        system=draw(texts),
        user=draw(texts),
        history=[HistoryMessage(f"m{n}", message) for n, message in enumerate(spoken)],
        page_sizes=draw(st.lists(st.integers(1, 10), min_size=1, max_size=5)),
        beside=draw(texts),
    )


@dataclass
class Run:
    assembled: Assembled | None
    offered: int
    counted: list[str]


def run(case: Case) -> Run:
    """Fill a window page by page, as the assembly does; None when not even the new message fits."""
    window = Window(
        context_length=case.context_length,
        reserved_output_tokens=case.reserved,
        overhead=case.overhead,
        system_prompt=case.system,
        user_message=case.user,
        beside_messages=case.beside,
    )
    counted: list[str] = []

    def count() -> None:
        of_this_page: set[str] = set()
        while missing := window.uncounted():
            assert not of_this_page.intersection(missing), "a text was asked for again"
            of_this_page.update(missing)
            window.count({text: tokens_of(text) for text in missing})
        counted.extend(of_this_page)

    count()
    if window.overflows:
        return Run(None, 0, counted)
    offered = 0
    page = 0
    while True:
        size = case.page_sizes[page % len(case.page_sizes)]
        window.add(case.history[offered : offered + size])
        offered = min(offered + size, len(case.history))
        page += 1
        count()
        if offered == len(case.history) or window.full:
            return Run(window.close(exhausted=offered == len(case.history)), offered, counted)


def longest_run(case: Case) -> int:
    """How many of the newest messages fit."""
    total = case.fixed
    for number, entry in enumerate(case.history):
        total += case.cost(entry.message.text)
        if total > case.limit:
            return number
    return len(case.history)


@given(cases())
def test_the_window_is_the_longest_newest_run_that_fits(case: Case) -> None:
    done = run(case).assembled
    if case.fixed > case.limit:
        assert done is None
        return
    assert done is not None
    fits = longest_run(case)
    assert done.truncated is (fits < len(case.history))
    if done.truncated:
        while fits and case.history[fits - 1].message.role in (Role.ASSISTANT, Role.TOOL):
            fits -= 1
    taken = case.history[:fits]
    system = [ChatMessage(Role.SYSTEM, case.system)] if case.system else []
    newest = [ChatMessage(Role.USER, case.user)] if case.user else []
    assert list(done.messages) == [*system, *(entry.message for entry in reversed(taken)), *newest]
    assert done.oldest_message_id == (taken[-1].id if taken else "")


@given(cases())
def test_never_over_the_budget_and_the_bound_holds(case: Case) -> None:
    result = run(case)
    done = result.assembled
    if done is None:
        return
    beside = case.cost(case.beside) if case.beside else 0
    exact = case.overhead.per_prompt + beside + sum(case.cost(message.text) for message in done.messages)
    assert exact <= done.prompt_tokens <= case.limit
    assert done.available_output_tokens == case.context_length - done.prompt_tokens >= case.reserved
    if result.counted:
        assert done.prompt_tokens == exact


@given(cases())
def test_what_fits_by_its_bytes_is_not_counted(case: Case) -> None:
    fixed = [text for text in (case.system, case.beside, case.user) if text]
    everything = [*fixed, *(entry.message.text for entry in case.history)]
    bound = case.overhead.per_prompt + sum(token_bound(text) + case.overhead.per_message for text in everything)
    result = run(case)
    # The template alone may be too much, and then there is nothing to count.
    hopeless = not fixed and case.fixed > case.limit
    assert bool(result.counted) is (bound > case.limit and not hopeless)


@given(cases())
def test_nothing_is_pulled_beyond_the_page_that_fills_the_window(case: Case) -> None:
    result = run(case)
    if result.assembled is None:
        return
    largest = max(case.page_sizes)
    assert result.offered <= longest_run(case) + largest


@given(st.text())
def test_the_bound_is_the_bytes_and_one(text: str) -> None:
    assert token_bound(text) == len(text.encode()) + 1


def test_a_long_history_is_counted_in_batches_and_no_further_than_needed() -> None:
    words = "x" * (window_module.BATCH_BYTES // 4)
    window = Window(
        context_length=60_000,
        reserved_output_tokens=0,
        overhead=TemplateOverhead(per_message=0, per_prompt=0),
        system_prompt="",
        user_message="hi",
    )
    window.add([HistoryMessage(f"m{n}", ChatMessage(Role.USER, f"{n:03}{words}")) for n in range(100)])
    calls: list[int] = []
    while missing := window.uncounted():
        assert sum(map(len, missing)) <= window_module.BATCH_BYTES + len(words)
        calls.append(len(missing))
        window.count({text: tokens_of(text) for text in missing})
    assert window.full
    assert len(window.close(exhausted=False).messages) == 3
    assert len(calls) == 1


def test_a_text_larger_than_a_batch_is_counted_all_the_same() -> None:
    window = Window(
        context_length=10,
        reserved_output_tokens=0,
        overhead=TemplateOverhead(per_message=0, per_prompt=0),
        system_prompt="",
        user_message="x" * (2 * window_module.BATCH_BYTES),
    )
    assert window.uncounted() == ["x" * (2 * window_module.BATCH_BYTES)]
