"""The calls of tools that an answer asks for: gathered while they are written, checked as output is, then shown.

Arguments are text that a model wrote and that somebody will act on. They are checked as a text of their own, beside the
answer's, and whole: what is replaced in them must leave JSON that can be read, or the answer ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from services.conversation.chat_model import ToolCall, ToolCallDelta
from services.conversation.moderation_model import (
    AnswerContext,
    Availability,
    Lag,
    ModerationCheck,
    ModerationMode,
    Retraction,
    Stand,
)
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.peers.moderation_convert import refused
from services.runtime.errors import DomainError

SUFFIX = ".tools"
"""Names the check of an answer's calls beside the check of its text."""


class CheckedText(Protocol):
    """What the text of an answer knows of its check."""

    context: AnswerContext

    @property
    def availability(self) -> Availability | None:
        """What the policy says about the time when the checker is gone; None when nothing passes then."""
        ...


class ToolCalls:
    """The calls of the answer that `generation_id` names."""

    def __init__(self, generation_id: str) -> None:
        self.generation_id = generation_id + SUFFIX
        self.shown: tuple[ToolCall, ...] = ()
        """What may be shown; empty until all was checked."""
        self.said: ModerationCheck | None = None
        """What their check has come to so far; None until there is one."""
        self.context: AnswerContext | None = None
        self._availability: Availability | None = None
        self._lag = Lag()
        self._moderation: ModerationPeer | None = None
        self._gathered: dict[int, _Gathered] = {}
        self._checked: tuple[ToolCall, ...] = ()
        self._text = ""
        self._sent = 0
        self._retractions: list[Retraction] = []
        self._on_checked: Callable[[DomainError | None], None] | None = None

    def add(self, deltas: Iterable[ToolCallDelta]) -> None:
        """More of the calls."""
        for delta in deltas:
            self._gathered.setdefault(delta.index, _Gathered()).add(delta)

    def restart(self) -> None:
        """Forget what was gathered: another engine asks for its calls anew."""
        self._gathered.clear()

    @property
    def empty(self) -> bool:
        """Whether the answer asks for no tools."""
        return not self._gathered

    def check(
        self,
        moderation: ModerationPeer,
        on_checked: Callable[[DomainError | None], None],
        *,
        beside: CheckedText,
    ) -> None:
        """Check the calls; they are all there. `on_checked` is told why they must not be shown, or None.

        A text that passed unchecked may be cleared once more, when it was checked after all: they are checked once.

        Args:
            moderation: The checker.
            on_checked: Who is told.
            beside: The text of the same answer.
        """
        if self._moderation is not None:
            return
        self._moderation = moderation
        self.said = ModerationCheck(ModerationMode.CHECKED)
        self.context = replace(beside.context, protected_text="")
        self._availability = beside.availability
        self._on_checked = on_checked
        self._checked = tuple(call.whole() for _, call in sorted(self._gathered.items()))
        self._text = "".join(_text(call) for call in self._checked)
        moderation.submit(self)

    def abandon(self) -> None:
        """Nobody wants to know any more."""
        self._on_checked = None
        if self._moderation is not None:
            self._moderation.abandon(self.generation_id)

    # What moderation asks and says

    def take_segment(self) -> tuple[str, bool]:
        """The text that was not sent yet, and that it is the last."""
        text, self._sent = self._text[self._sent :], len(self._text)
        return text, True

    def rewind(self) -> None:
        """Send everything again: the checker forgot it."""
        self._sent = 0
        self._retractions.clear()

    def on_stand(self, stand: Stand) -> None:
        """Show the calls once all of them were checked."""
        self.said = stand.check
        self._retractions.extend(stand.retractions)
        ending = next((retraction for retraction in stand.retractions if retraction.ends_answer), None)
        if ending is not None:
            self._end(_refused(ending, event_id=stand.check.event_id))
        elif stand.done:
            self._show()

    def look_for_lag(self, now: float) -> None:
        """Show them unchecked, when the check takes too long and the policy lets them pass."""
        availability = self._availability
        if availability is not None and self._lag.is_over(2 * availability.patience_s, reached=0, due=1, now=now):
            self._show_unchecked()

    def on_moderation_lost(self, error: DomainError) -> None:
        """The checker is gone."""
        if self._availability is not None:
            self._show_unchecked()
        else:
            self.said = ModerationCheck(ModerationMode.CLOSED)
            self._end(error)

    def _show_unchecked(self) -> None:
        self.said = ModerationCheck(ModerationMode.OPEN)
        self._show()

    def _show(self) -> None:
        shown: list[ToolCall] = []
        left = sorted(self._retractions, key=lambda retraction: retraction.start)
        start = 0
        for call in self._checked:
            first = start + len(call.name) + 1
            end = first + len(call.arguments)
            mine = [retraction for retraction in left if retraction.start < end and retraction.end > start]
            arguments = redacted(call.arguments, mine, offset=first)
            if arguments is None:
                self._end(_refused(mine[0], event_id=""))
                return
            shown.append(ToolCall(call.id, call.name, arguments))
            start = end + 1
        self.shown = tuple(shown)
        self._end(None)

    def _end(self, error: DomainError | None) -> None:
        on_checked, self._on_checked = self._on_checked, None
        if on_checked is not None:
            on_checked(error)


class _Gathered:
    """One call while it is written."""

    def __init__(self) -> None:
        self._id = ""
        self._name = ""
        self._arguments: list[str] = []

    def add(self, delta: ToolCallDelta) -> None:
        self._id = self._id or delta.id
        self._name = self._name or delta.name
        self._arguments.append(delta.arguments)

    def whole(self) -> ToolCall:
        return ToolCall(self._id, self._name, readable("".join(self._arguments)))


def readable(arguments: str) -> str:
    r"""The arguments with their characters as such and not as `\u0041`, so that what is checked is what is meant."""
    if "\\u" not in arguments:
        return arguments
    try:
        written = json.dumps(json.loads(arguments), ensure_ascii=False)
        written.encode()
    except ValueError:
        return arguments
    return written


def redacted(arguments: str, retractions: Sequence[Retraction], *, offset: int) -> str | None:
    """The arguments with what moderation puts in the place of ranges; None when that leaves no JSON.

    Args:
        arguments: As they were checked.
        retractions: In order, in code points of the text that begins `offset` before the arguments.
        offset: Where the arguments stand in that text.
    """
    if not retractions:
        return arguments
    parts: list[str] = []
    position = 0
    for retraction in retractions:
        start, end = retraction.start - offset, retraction.end - offset
        if start < position or end > len(arguments):
            return None
        # Inside of a string, whatever it holds.
        parts += (arguments[position:start], json.dumps(retraction.replacement, ensure_ascii=False)[1:-1])
        position = end
    text = "".join((*parts, arguments[position:]))
    try:
        json.loads(text)
    except ValueError:
        return None
    return text


def _text(call: ToolCall) -> str:
    return f"{call.name}\n{call.arguments}\n"


def _refused(retraction: Retraction, *, event_id: str) -> DomainError:
    return refused(
        "This answer", retraction.category, retraction.policy_version, held=retraction.held, event_id=event_id
    )
