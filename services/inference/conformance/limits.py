"""How long an answer and a prompt may be."""

from __future__ import annotations

from services.inference.conformance.case import Case
from services.inference.conformance.continuing import unless_it_continues
from services.inference.conformance.expectation import expect, expect_finish
from services.inference.conformance.subject import Subject
from services.inference.model import FinishReason, GeneratedPiece
from services.runtime.errors import Reason


async def _max_tokens(subject: Subject) -> None:
    for limit in (1, 2, 7, 20):
        answer = await subject.ask(subject.long_prompt, max_tokens=limit)
        expect_finish(answer.end, FinishReason.LENGTH)
        expect(answer.tokens == limit, f"{answer.tokens} tokens came, and the limit is {limit}")


async def _max_output_tokens(subject: Subject) -> None:
    limit = subject.entry.max_output_tokens
    for asked in (None, limit + 50):
        answer = await subject.ask(subject.long_prompt, max_tokens=asked)
        expect(answer.tokens <= limit, f"{answer.tokens} tokens came, and the model's limit is {limit}")
        expect_finish(answer.end, FinishReason.LENGTH)


async def _max_output_with_continuation(subject: Subject) -> None:
    limit = subject.entry.max_output_tokens
    whole = await subject.ask(subject.long_prompt, max_tokens=limit)
    rest = await subject.ask(subject.long_prompt, continuation=whole.pieces)
    expect(rest.tokens <= 1, f"an answer that was at the model's limit got {rest.tokens} tokens more")


async def _too_long(subject: Subject) -> None:
    length = subject.entry.context_length
    answer = await subject.ask("word " * (length + 10), max_tokens=1)
    error = answer.end.error
    expect(
        error is not None,
        f"a prompt of more than {length} tokens was not refused; where a server keeps the context, it has a longer one "
        "than the entry's context_length: let both say the same",
    )
    expect_finish(answer.end, FinishReason.ERROR)
    expect(
        error is not None and error.reason is Reason.CONTEXT_LENGTH_EXCEEDED,
        f"a prompt that is too long was refused with {error.reason.value if error else 'nothing'}",
    )
    expect(not answer.text and not answer.tokens, "a prompt that is too long got an answer")
    said = error.metadata if error is not None else {}
    expect(said.get("context_length") == str(length), f"the error says {said.get('context_length')!r}, not {length}")
    expect((await subject.ask(max_tokens=1)).tokens == 1, "the engine does not go on after it refused a prompt")


async def _fills_the_context(subject: Subject) -> None:
    length = subject.entry.context_length
    words = length - 48
    answer = await subject.ask("word " * words, max_tokens=subject.entry.max_output_tokens)
    if answer.end.error is not None:
        # The words of this model are more than a token each.
        expect(answer.end.error.reason is Reason.CONTEXT_LENGTH_EXCEEDED, f"it failed: {answer.end.error.reason.value}")
        return
    usage = answer.end.usage
    total = usage.prompt_tokens + usage.completion_tokens
    # An engine may count the token that it had no room to read any more.
    expect(total <= length + 1, f"prompt and answer have {total} tokens, and the context {length}")


async def _odd_continuation(subject: Subject) -> None:
    answer = await subject.ask(max_tokens=4, continuation=(GeneratedPiece(""),))
    expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH)
    expect(answer.tokens, "a continuation of nothing has no answer")


def _unless_small(subject: Subject) -> str:
    if subject.context_is_small:
        return ""
    return f"the context of {subject.entry.context_length} tokens is the server's, and too long to be filled here"


CASES = (
    Case("max_tokens", "an answer has exactly as many tokens as it may", _max_tokens),
    Case("max_output_tokens", "an answer is never longer than the model's own limit", _max_output_tokens),
    Case(
        "max_output_continued",
        "which is that of the whole answer",
        _max_output_with_continuation,
        unless=unless_it_continues,
    ),
    Case("context_length", "a prompt that does not fit is refused by name, and the engine goes on", _too_long),
    Case("context_is_filled", "an answer ends where the context does", _fills_the_context, unless=_unless_small),
    Case("nothing_to_continue", "a continuation without text is none", _odd_continuation),
)
