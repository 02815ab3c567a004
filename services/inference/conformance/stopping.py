"""Stop strings end an answer and are never shown, not even in part.

Answer looks for whole ones in every delta. A part that was shown would stand at the end of a stopped answer.
"""

from __future__ import annotations

from services.inference.conformance.answer import Answer
from services.inference.conformance.case import Case
from services.inference.conformance.expectation import ConformanceError, expect, expect_finish, quote
from services.inference.conformance.subject import Subject
from services.inference.model import FinishReason

_LIMIT = 32


async def _whole(subject: Subject, *, limit: int = _LIMIT) -> Answer:
    # The first answer fills the cache; from the second on an engine that repeats itself does so.
    await subject.ask(subject.long_prompt, max_tokens=limit)
    whole = await subject.ask(subject.long_prompt, max_tokens=limit)
    if len(whole.text) < 16:
        raise ConformanceError(f"the answer {quote(whole.text)} is too short: give the subject another long_prompt")
    return whole


async def _expect_stopped(subject: Subject, whole: Answer, stops: tuple[str, ...]) -> None:
    shown = whole.text[: min(at for stop in stops if (at := whole.text.find(stop)) >= 0)]
    stopped = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, stop=stops)
    if subject.repeats:
        expect(stopped.text == shown, f"stopped before {quote(stops[0])} it is {quote(stopped.text)}")
        expect_finish(stopped.end, FinishReason.STOP)
    elif stopped.tokens < _LIMIT:
        expect_finish(stopped.end, FinishReason.STOP)
        parts = [stop[:length] for stop in stops for length in range(2, len(stop))]
        expect(not stopped.text.endswith(tuple(parts)), f"it shows the start of one of {stops}")


async def _at_a_string(subject: Subject) -> None:
    whole = await _whole(subject)
    for at in range(2, 9, 2):
        await _expect_stopped(subject, whole, (whole.text[at : at + 3],))


async def _over_tokens(subject: Subject) -> None:
    whole = await _whole(subject)
    texts = [delta.text for delta in whole.deltas if delta.text]
    # From the middle of one part over a whole one into the next.
    start = len(texts[0]) - 1
    await _expect_stopped(subject, whole, (whole.text[start : start + len(texts[1]) + 2],))


async def _several(subject: Subject) -> None:
    whole = await _whole(subject)
    late, early = whole.text[10:13], whole.text[5:8]
    await _expect_stopped(subject, whole, (late, "\x01never", early))


async def _never_met(subject: Subject) -> None:
    whole = await _whole(subject)
    # Strings that begin everywhere in the answer and are never completed, so that text is held back all the time.
    stops = tuple(f"{character}\x01" for character in sorted(set(whole.text))[-8:])
    held = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, stop=stops)
    if subject.repeats:
        expect(held.text == whole.text, "text that was held back for a stop string was lost")
        expect(held.tokens == whole.tokens, f"{held.tokens} tokens were told, and {whole.tokens} without stop strings")


async def _at_the_limit(subject: Subject) -> None:
    limit = 4
    await _whole(subject)
    whole = await subject.ask(subject.long_prompt, max_tokens=limit)
    stop = f"{whole.text[-2:]}\x01never"
    held = await subject.ask(subject.long_prompt, max_tokens=limit, stop=(stop,))
    expect_finish(held.end, FinishReason.LENGTH)
    expect(held.tokens == limit, f"{held.tokens} tokens came, and the limit is {limit}")
    if subject.repeats:
        expect(held.text == whole.text, "text that was held back at the limit was lost")


CASES = (
    Case("stop_string", "an answer ends before a stop string", _at_a_string),
    Case("stop_over_tokens", "a stop string that several tokens spell is never shown in part", _over_tokens),
    Case("several_stops", "of several stop strings the first that is met ends the answer", _several),
    Case("stop_never_met", "text that was held back for a stop string which did not come is told", _never_met),
    Case("stop_at_the_limit", "so it is when the answer is at its limit", _at_the_limit),
)
