"""How a case says that an engine does not conform."""

from __future__ import annotations

from services.inference.model import End, FinishReason


class ConformanceError(Exception):
    """An engine does not do what every engine does. The text says what was seen, and never quotes more than a line."""


def expect(holds: object, otherwise: str) -> None:
    """Go on when something holds.

    Raises:
        ConformanceError: with `otherwise`.
    """
    if not holds:
        raise ConformanceError(otherwise)


def expect_finish(end: End, *wanted: FinishReason) -> None:
    """Go on when an answer ended in one of the ways that were wanted.

    Raises:
        ConformanceError: naming both, and the error that it ended with.
    """
    ways = " or ".join(reason.value for reason in wanted)
    why = f" ({end.error.message})" if end.error is not None else ""
    expect(end.finish_reason in wanted, f"the answer ended with {end.finish_reason.value}{why}, not with {ways}")


def quote(text: str) -> str:
    """A text, short enough for a report."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
