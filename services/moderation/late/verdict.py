"""A decision about a text that was let through or held back already."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.moderation.model import Direction


class LateAction(StrEnum):
    """What a late verdict asks for: take a text back, or give it back."""

    RETRACT = "retract"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class LateVerdict:
    """What is to become of a generation's question or answer. Whoever reads it twice does it once, by event and action.

    `replacement` is what to show instead of what is retracted; `text` is what is restored.
    """

    generation_id: str
    user_id: str
    action: LateAction
    direction: Direction
    category: str
    event_id: str
    policy_version: str
    replacement: str = ""
    text: str = ""
