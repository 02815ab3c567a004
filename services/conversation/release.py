"""The text of an answer between engine and readers: held until it is checked, taken back where it must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.conversation.chat_model import GeneratedPiece
from services.conversation.extras import Extras
from services.conversation.generation_log import Delta, GenerationLog, Retracted
from services.conversation.peers.convert import Retraction
from services.conversation.peers.moderation import ModerationPeer, content_blocked
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
    """

    def __init__(self, *, log: GenerationLog, moderation: ModerationPeer, answer: Checked, extras: Extras) -> None:
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
        if not self.empty:
            self.rewind()
            self.send()

    def forget(self) -> None:
        """Nothing of it was sent or shown: another model begins anew."""
        self._text = ReleasedText()
        self._extras.forget()
        self._unsent.clear()

    def write(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """Add text with the tokens behind it; `send` when it may go to be checked."""
        # The database holds no NUL; the replacement is as long, so that offsets stay.
        text = text.replace("\0", "\ufffd")
        self._text.write(text, token_ids, tokens)
        if text:
            self._unsent.append(text)
            self._extras.write(text)

    def send(self) -> None:
        """What is written may go to be checked."""
        self._moderation.submit(self)

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

    def on_verdict(self, watermark: int, retractions: Sequence[Retraction], *, done: bool) -> None:
        """Show what is clear, take back what is not."""
        answer = self._answer
        if answer is None:
            return
        answer.heard()
        blocked: Retraction | None = None
        for r in retractions:
            self._extras.replace(r.start, r.end)
            retracted = self._text.retract(r.start, r.end, r.replacement, r.category)
            if retracted is not None:
                self._log.append(retracted)
            if r.ends_answer:
                blocked = r
        self._extras.clear(watermark)
        delta = self._text.clear(watermark)
        if delta is not None:
            self._log.append(delta)
        if blocked is not None:
            answer.blocked(content_blocked("This answer", blocked.category, blocked.policy_version))
        elif done:
            answer.cleared()

    def on_moderation_lost(self, error: DomainError) -> None:
        """Nothing more will be cleared."""
        if self._answer is not None:
            self._answer.unchecked(error)
