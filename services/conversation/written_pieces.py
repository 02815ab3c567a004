"""What a model wrote, piece by piece: text with the tokens behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.conversation.chat_model import GeneratedPiece


def join_pieces(pieces: Iterable[GeneratedPiece]) -> tuple[GeneratedPiece, ...]:
    """The same text and tokens in as few pieces as can be."""
    joined: list[GeneratedPiece] = []
    run: list[GeneratedPiece] = []
    for piece in pieces:
        if run and bool(run[0].token_ids) is not bool(piece.token_ids):
            joined.append(_join(run))
            run = []
        run.append(piece)
    if run:
        joined.append(_join(run))
    return tuple(joined)


def _join(run: Sequence[GeneratedPiece]) -> GeneratedPiece:
    if len(run) == 1:
        return run[0]
    return GeneratedPiece("".join(p.text for p in run), tuple(id_ for p in run for id_ in p.token_ids))


def replaced(texts: Sequence[str], start: int, end: int, replacement: str) -> list[str]:
    """Texts that follow each other, with `replacement` in the place of `[start, end)` of all of them together."""
    changed: list[str] = []
    at = 0
    for text in texts:
        first, last = max(start - at, 0), min(end - at, len(text))
        at += len(text)
        if first < last:
            text = text[:first] + replacement + text[last:]
            replacement = ""
        changed.append(text)
    return changed
