"""An answer ends when nobody wants it any more."""

from __future__ import annotations

import asyncio

from services.inference.conformance.answer import Answer
from services.inference.conformance.case import Case
from services.inference.conformance.expectation import expect, expect_finish
from services.inference.conformance.subject import Subject
from services.inference.model import Delta, FinishReason


async def _running(subject: Subject, count: int) -> list[Answer]:
    answers = [
        subject.start(f"{subject.long_prompt} Number {n}.", max_tokens=subject.entry.max_output_tokens)
        for n in range(count)
    ]
    for answer in answers:
        await answer.until(lambda a: a.tokens > 0, patience_s=subject.patience_s)
    return answers


def _cancel(subject: Subject, answer: Answer) -> None:
    subject.engine.cancel(answer.request.key)
    expect(answer.ended, "a cancelled answer did not get its end at once")
    expect_finish(answer.end, FinishReason.CANCELLED)


async def _while_it_runs(subject: Subject) -> None:
    (answer,) = await _running(subject, 1)
    _cancel(subject, answer)
    told = answer.tokens
    expect(told > 0, "nothing was told before the cancel")
    subject.engine.cancel(answer.request.key)
    await subject.ask(max_tokens=4)
    answer.raise_complaints()
    expect(answer.tokens == told, "a cancelled answer went on")


async def _before_it_runs(subject: Subject) -> None:
    answer = subject.start(subject.long_prompt)
    _cancel(subject, answer)
    expect(not answer.text, "an answer that was cancelled at once has text")
    later = subject.start(subject.long_prompt)
    await asyncio.sleep(0)
    _cancel(subject, later)
    await subject.ask(max_tokens=4)
    answer.raise_complaints()
    later.raise_complaints()


async def _by_its_reader(subject: Subject) -> None:
    request = subject.request(subject.long_prompt)
    answer = Answer(request, subject.capabilities)

    def take(delta: Delta) -> None:
        answer.take(delta)
        if delta.end is None:
            subject.engine.cancel(request.key)

    subject.engine.submit(request, take)
    await answer.finished(patience_s=subject.patience_s)
    expect_finish(answer.end, FinishReason.CANCELLED)
    expect(len(answer.deltas) == 2, f"{len(answer.deltas)} deltas came, and the first one's reader cancelled")


async def _frees_its_place(subject: Subject) -> None:
    answers = await _running(subject, min(subject.entry.slots, 8))
    first, *others = answers
    # All places may be taken: only the place of the cancelled one can be free before the others end.
    going = [answer for answer in others if not answer.ended]
    _cancel(subject, first)
    after = subject.start(max_tokens=1)
    await after.finished(patience_s=subject.patience_s)
    expect(after.tokens == 1, "the answer after a cancelled one has no token")
    still = [answer for answer in going if not answer.ended]
    for answer in still:
        _cancel(subject, answer)
    expect(still or not going, "an answer waited for the others, though a cancelled one had left its place")


async def _unknown(subject: Subject) -> None:
    subject.engine.cancel(-1)
    ended = await subject.ask(max_tokens=2)
    subject.engine.cancel(ended.request.key)
    expect((await subject.ask(max_tokens=2)).tokens, "the engine does not go on")
    ended.raise_complaints()


CASES = (
    Case("cancel", "a cancelled answer ends at once and is silent from then on", _while_it_runs),
    Case("cancel_early", "so does one that has not begun", _before_it_runs),
    Case("cancel_by_reader", "whoever takes a delta may cancel its answer", _by_its_reader),
    Case("cancel_frees_place", "the place of a cancelled answer is free for another one", _frees_its_place),
    Case("cancel_unknown", "a cancel of what does not run harms nothing", _unknown),
)
