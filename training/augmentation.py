"""Other forms of a row, for texts of people vary: the meaning and so the label stay."""

from __future__ import annotations

from random import Random

from services.moderation.classifier.pieces import cut
from training.obfuscation import typos

_BEFORE = (
    "Hi, ",
    "Hello! ",
    "Quick question: ",
    "Please help me. ",
    "I have a question for you. ",
    "Thanks for your help so far. ",
    "ok so ",
    "Could you answer this? ",
    "Hey, ",
    "For my next question, ",
    "I was wondering about something. ",
    "User: ",
)
_AFTER = (
    " Thanks!",
    " Please be brief.",
    " Explain step by step.",
    " thx",
    " Answer in one paragraph.",
    " Be as detailed as possible.",
    " I appreciate it.",
    " Let me know what you think.",
    " Please use bullet points.",
)
_WRAPPED, _TYPOS, _LOWER, _BARE, _UPPER, _OTHER_PIECE = 0.12, 0.12, 0.12, 0.15, 0.02, 0.35


def vary(text: str, *, kind: str, random: Random) -> str:
    """One piece of the text, sometimes wrapped or spelt in another way."""
    pieces = cut(text)
    piece = random.choice(pieces) if random.random() < _OTHER_PIECE else pieces[0]
    if kind == "input" and len(pieces) == 1 and random.random() < _WRAPPED:
        if random.random() < 0.5:
            piece = random.choice(_BEFORE) + piece
        else:
            piece += random.choice(_AFTER)
    if random.random() < _TYPOS:
        piece = typos(piece, random)
    if random.random() < _LOWER:
        piece = piece.lower()
    elif random.random() < _UPPER:
        piece = piece.upper()
    if random.random() < _BARE:
        piece = piece.rstrip("?.! ")
    return piece or text[:1]
