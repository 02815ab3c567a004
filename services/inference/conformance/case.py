"""One thing that every engine does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.inference.conformance.subject import Subject
from services.inference.model import Capability


def _always(subject: Subject) -> str:
    del subject
    return ""


@dataclass(frozen=True, slots=True)
class Case:
    """A case. `run` raises ConformanceError when the engine does not do what it `shows`."""

    name: str
    shows: str
    run: Callable[[Subject], Awaitable[None]]
    requires: frozenset[Capability] = frozenset({Capability.CHAT})
    """Without these the case is skipped."""
    unless: Callable[[Subject], str] = _always
    """Why a subject of which this is known is not put through the case; empty when it is. It is asked before the case
    runs, and sees only what was declared: what an engine does never lets a case be."""


def needs(*capabilities: Capability) -> frozenset[Capability]:
    """What a case of chats requires beside them."""
    return frozenset({Capability.CHAT, *capabilities})
