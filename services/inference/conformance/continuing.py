"""An answer that was begun here or elsewhere goes on after its last token."""

from __future__ import annotations

from services.inference.conformance.answer import Answer, pieces_of
from services.inference.conformance.case import Case, needs
from services.inference.conformance.expectation import expect, expect_finish, quote
from services.inference.conformance.subject import Subject
from services.inference.model import Capability, FinishReason, GeneratedPiece

_LIMIT = 24


async def _go_on(subject: Subject, whole: Answer, parts: int, *, known: bool) -> None:
    shown = whole.deltas[:parts]
    pieces = pieces_of(shown)
    if not known:
        pieces = tuple(GeneratedPiece(piece.text) for piece in pieces)
    told = sum(delta.token_count for delta in shown)
    text = "".join(delta.text for delta in shown)
    limit = _LIMIT - told
    rest = await subject.ask(subject.long_prompt, max_tokens=limit, seed=3, continuation=pieces)
    expect_finish(rest.end, FinishReason.STOP, FinishReason.LENGTH)
    expect(rest.tokens <= limit, f"{rest.tokens} tokens came, and the limit was {limit} new ones")
    if subject.deterministic:
        expect(text + rest.text == whole.text, f"after {parts} parts it goes on with {quote(rest.text)}")
    elif len(text.strip()) >= 12:
        expect(not rest.text.strip().startswith(text.strip()), "what was written before was written again")
    before = whole.end.usage.prompt_tokens
    if all(len(piece.token_ids) for piece in pieces):
        now = rest.end.usage.prompt_tokens
        expect(now == before + told, f"the prompt counts {now} tokens, with {told} written ones after {before}")
    else:
        expect(rest.end.usage.prompt_tokens > before, "what was written before does not count as prompt")


async def _from(subject: Subject, *, known: bool) -> None:
    whole = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, seed=3)
    spoken = len(whole.deltas) - 1
    for parts in sorted({1, spoken // 3, spoken // 2, spoken - 1}):
        if 0 < parts < spoken:
            await _go_on(subject, whole, parts, known=known)


async def _from_tokens(subject: Subject) -> None:
    await _from(subject, known=True)


async def _from_text(subject: Subject) -> None:
    await _from(subject, known=False)


async def _after_every_delta(subject: Subject) -> None:
    if not subject.deterministic:
        return
    for stop in ((), (" mesh", "copper lantern")):
        whole = await subject.ask(subject.unicode_prompt, max_tokens=60, seed=4, stop=stop)
        for parts in range(1, len(whole.deltas)):
            told = sum(delta.token_count for delta in whole.deltas[:parts])
            rest = await subject.ask(
                subject.unicode_prompt, max_tokens=60 - told, seed=4, stop=stop, continuation=whole.pieces[:parts]
            )
            text = "".join(delta.text for delta in whole.deltas[:parts])
            expect(text + rest.text == whole.text, f"after {parts} parts it goes on with {quote(rest.text)}")
            expect(told + rest.tokens == whole.tokens, f"after {parts} parts it has {rest.tokens} tokens more")


async def _stop_across(subject: Subject) -> None:
    # What a stop string needs to be met was told before: only new text is looked at, but nothing of it is shown.
    whole = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, seed=3)
    half = len(whole.deltas) // 2
    rest = await subject.ask(
        subject.long_prompt, max_tokens=8, seed=3, continuation=whole.pieces[:half], stop=("\x01", "a", "e", "i", "o")
    )
    expect_finish(rest.end, FinishReason.STOP, FinishReason.LENGTH)


async def _with_logprobs(subject: Subject) -> None:
    whole = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, seed=3)
    rest = await subject.ask(
        subject.long_prompt,
        max_tokens=6,
        seed=3,
        continuation=whole.pieces[: len(whole.deltas) // 2],
        top_logprobs=2,
        confidence=True,
    )
    expect(rest.tokens, "an answer that goes on has no tokens")
    expect(len(rest.logprobs) == rest.tokens, f"{len(rest.logprobs)} log-probabilities came for {rest.tokens} tokens")


def unless_it_continues(subject: Subject) -> str:
    """For all cases that begin with what was written before."""
    return "" if subject.continues else "this entry does not continue answers"


CASES = (
    Case(
        "continue_tokens",
        "an answer goes on after its first tokens, and repeats none",
        _from_tokens,
        unless=unless_it_continues,
    ),
    Case("continue_text", "so it does where only the text is known", _from_text, unless=unless_it_continues),
    Case(
        "continue_anywhere",
        "a deterministic engine goes on after any delta",
        _after_every_delta,
        unless=unless_it_continues,
    ),
    Case("continue_stops", "stop strings end an answer that goes on", _stop_across, unless=unless_it_continues),
    Case(
        "continue_logprobs",
        "an answer that goes on has log-probabilities of its new tokens",
        _with_logprobs,
        needs(Capability.LOGPROBS),
        unless=unless_it_continues,
    ),
)
