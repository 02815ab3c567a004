"""The text of an answer between engine and readers: held until it is checked, taken back where it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from services.conversation.chat_model import GeneratedPiece
from services.conversation.extras import Extras
from services.conversation.generation_log import Delta, GenerationLog, Retracted
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
from services.conversation.peers.moderation_convert import not_checked, refused
from services.conversation.released_text import ReleasedText
from services.runtime.errors import DomainError


class Checked(Protocol):
    """Who is told how the check of an answer goes."""

    def heard(self) -> None:
        """The checker works on it."""

    def cleared(self) -> None:
        """It is checked to its end, and shown."""

    def blocked(self, error: DomainError) -> None:
        """It must end here."""

    def unchecked(self, error: DomainError) -> None:
        """Nothing more of it will be checked."""


class Release:
    """Sends what is written to be checked, and appends to the log what is clear.

    Args:
        log: Where shown text goes.
        moderation: The checker.
        answer: Who is told.
        extras: What belongs to the text and must not go ahead of it.
        context: What the answer is part of.
        availability: What the policy says about the time when the checker is slow or gone; None: nothing passes then.
    """

    def __init__(
        self,
        *,
        log: GenerationLog,
        moderation: ModerationPeer,
        answer: Checked,
        extras: Extras,
        context: AnswerContext,
        availability: Availability | None,
    ) -> None:
        self.context = context
        self.check = ModerationCheck(ModerationMode.CHECKED)
        """What the check has come to so far."""
        self.policy_version = availability.policy_version if availability is not None else ""
        self.generation_id = log.generation_id
        self._log = log
        self._moderation = moderation
        self._answer: Checked | None = answer
        """None once nothing that the checker still says counts. The two would else keep each other in memory until the
        collector of cycles comes by, which is seldom."""
        self._extras = extras
        self._text = ReleasedText()
        self._unsent: list[str] = []
        self._finished = False
        self.availability = availability if availability is not None and availability.output_open else None
        """What the policy says about the time when the checker is gone; None when nothing passes then."""
        self._lag = Lag()
        self._length = 0
        self._seen = 0
        """Code points that the checker has had."""
        self._opened = False
        """Whether what is not checked is shown."""

    @property
    def empty(self) -> bool:
        """Whether nothing was written."""
        return not self._text.written

    @property
    def written(self) -> str:
        """All that was written."""
        return self._text.written

    @property
    def shown(self) -> str:
        """The text as it stands before the reader."""
        return self._text.shown

    @property
    def tokens(self) -> int:
        """Tokens that were generated."""
        return self._text.transcript.tokens

    def cut(self) -> int:
        """Forget tokens that gave no text yet. Returns how many are left."""
        return self._text.transcript.cut()

    def continuation(self) -> tuple[GeneratedPiece, ...]:
        """All that was written, as an engine that continues it needs it."""
        return self._text.transcript.continuation()

    def restore(self) -> None:
        """Take over what another server has written and shown, from the log."""
        for entry in self._log.entries:
            if isinstance(entry.event, Delta | Retracted):
                self._text.restore(entry.event)
        self._length = len(self._text.written)
        if not self.empty:
            self.rewind()
            self.send()

    def forget(self) -> None:
        """Nothing of it was sent or shown: another model begins anew."""
        self._text = ReleasedText()
        self._length = 0
        self._extras.forget()
        self._unsent.clear()

    def write(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """Add text with the tokens behind it; `send` when it may go to be checked."""
        # The database holds no NUL; the replacement is as long, so that offsets stay.
        text = text.replace("\0", "\ufffd")
        self._text.write(text, token_ids, tokens)
        if text:
            self._unsent.append(text)
            self._length += len(text)
            self._extras.write(text)

    def send(self) -> None:
        """What is written may go to be checked."""
        self._moderation.submit(self)
        if self._opened:
            self._clear(self._length)

    def finish(self) -> None:
        """Nothing more will be written."""
        self._finished = True
        self.send()

    def close(self) -> None:
        """After this nothing that the checker still says counts."""
        self._answer = None

    # What the checker asks and says

    def take_segment(self) -> tuple[str, bool]:
        """The text that was not sent yet, and whether it is the last."""
        text = "".join(self._unsent)
        self._unsent.clear()
        return text, self._finished

    def rewind(self) -> None:
        """Send everything again: the checker forgot it."""
        self._unsent = [self._text.written]
        self._seen = 0

    def on_stand(self, stand: Stand) -> None:
        """Show what is clear, take back what is not."""
        answer = self._answer
        if answer is None:
            return
        answer.heard()
        self._seen = stand.seen
        self.check = replace(stand.check, mode=self.check.mode)
        self.policy_version = stand.policy_version
        ending: Retraction | None = None
        for r in stand.retractions:
            # Nothing follows what ends the answer, also where more was shown than the checker has had.
            end = max(r.end, self._text.cleared) if r.ends_answer else r.end
            self._extras.replace(r.start, end)
            retracted = self._text.retract(r.start, end, r.replacement, r.category)
            if retracted is not None:
                self._log.append(retracted)
            if r.ends_answer:
                ending = r
        self._clear(stand.watermark)
        if ending is not None:
            answer.blocked(
                refused(
                    "This answer",
                    ending.category,
                    ending.policy_version,
                    held=ending.held,
                    event_id=stand.check.event_id,
                )
            )
        elif stand.done:
            answer.cleared()

    def _clear(self, watermark: int) -> None:
        self._extras.clear(watermark)
        delta = self._text.clear(watermark)
        if delta is not None:
            self._log.append(delta)

    def look_for_lag(self, now: float) -> None:
        """Show what is not checked, when that lags for too long and the policy lets it pass."""
        if self.availability is None or self._answer is None:
            return
        # The checker waits for its layers as long as this waits for it.
        patience_s = self.availability.patience_s * (1 if self._seen < self._length else 2)
        # The verdict on the whole counts like one more character.
        if self._lag.is_over(patience_s, reached=self._seen, due=self._length + self._finished, now=now):
            self._open(self._answer)

    def on_moderation_lost(self, error: DomainError) -> None:
        """The checker is gone."""
        answer = self._answer
        if answer is None:
            return
        if self.availability is not None:
            self._open(answer)
        else:
            self.check = replace(self.check, mode=ModerationMode.CLOSED)
            answer.unchecked(error)

    def give_up(self) -> None:
        """The checker is there and says nothing."""
        answer = self._answer
        if answer is not None:
            self.check = replace(self.check, mode=ModerationMode.OPEN if self._opened else ModerationMode.CLOSED)
            answer.unchecked(not_checked())

    def _open(self, answer: Checked) -> None:
        if not self._opened:
            self._opened = True
            answer.heard()
        self.check = replace(self.check, mode=ModerationMode.OPEN)
        self._clear(self._length)
        if self._finished:
            answer.cleared()
