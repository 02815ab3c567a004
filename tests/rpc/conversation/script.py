"""An answer that engines write, whichever of them and from wherever it is asked to."""

from __future__ import annotations

from chatmesh.inference.v1.generation_pb2 import GenerationStart
from tests.rpc.conversation.streams import FakeEngine, tokens

SCRIPT = [(f"w{number} ", number) for number in range(1, 31)]
TEXT = "".join(text for text, _ in SCRIPT)


def position(start: GenerationStart) -> int:
    """How much of the script an engine is told to be written; it is told exactly that."""
    text = "".join(piece.text for piece in start.continuation)
    ids = [token_id for piece in start.continuation for token_id in piece.token_ids]
    assert text == TEXT[: len(text)]
    assert ids == [number for _, number in SCRIPT[: len(ids)]]
    assert len(text) == len("".join(text for text, _ in SCRIPT[: len(ids)]))
    return len(ids)


def write(engine: FakeEngine, start: GenerationStart, count: int, *, already: int = 0) -> int:
    """Say the next tokens, one a message; returns where the script stands then."""
    begin = position(start) + already
    for pair in SCRIPT[begin : begin + count]:
        engine.say(tokens(start.generation_id, pair))
    return min(len(SCRIPT), begin + count)


def write_out(engine: FakeEngine, start: GenerationStart, *, already: int = 0) -> None:
    """Say the rest, and end."""
    write(engine, start, len(SCRIPT), already=already)
    engine.finish(start.generation_id)
