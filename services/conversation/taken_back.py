"""What becomes of an answer on its way that a late verdict takes back."""

from __future__ import annotations

from dataclasses import replace

from services.conversation.chat_model import FinishReason
from services.conversation.generation_log import Delta, GenerationLog, Retracted
from services.conversation.late_model import Revision
from services.conversation.model import MessageStatus, Outcome
from services.conversation.released_text import ReleasedText


def taken_back(outcome: Outcome, log: GenerationLog, revision: Revision) -> Outcome:
    """The outcome of an answer of which nothing may stay, which its readers are told first."""
    log.seal()
    text = ReleasedText()
    for entry in log.entries:
        if isinstance(entry.event, Delta | Retracted):
            text.restore(entry.event)
    retracted = text.retract(0, len(text.written), revision.replacement, revision.category)
    if retracted is not None and not log.closed:
        log.append(retracted)
    return replace(
        outcome,
        status=MessageStatus.BLOCKED,
        finish_reason=FinishReason.CONTENT_FILTER,
        content=text.shown,
        error=revision.error,
    )
