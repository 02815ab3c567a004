"""How often an answer of the real model that is continued elsewhere is the one that would have been."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench.figures import table
from tests.rpc.inference.peer import Answer, TestPeer
from tests.rpc.inference.process import SMOLLM, InferenceProcess

_QUESTIONS = (
    "Tell me a long story about a sailor and the sea.",
    "Explain how a bridge carries its load.",
    "Write a letter to a friend about the summer.",
    "What should I know before I plant an apple tree?",
    "Compare tea and coffee.",
    "Write a Python function that reverses a list, and explain it.",
    "Give me ten ideas for a birthday party, with an emoji for each.",
    "Why is the sky blue?",
)
# One slot and no other memory, and no question twice in a row: what is continued here is evaluated anew, as it is on a
# replica that never saw the conversation.
_OTHER_REPLICA = SMOLLM | {"slots": 1, "engine_options": {"cache_ram_mib": 0}}

_IDS, _TEXT, _CONTROL = _WAYS = ("token ids", "text only", "the start")
"""The last is no continuation: each request again, there, which shows what the engine itself does not repeat."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one cut in one way."""

    same: bool
    same_characters: int
    """Of what follows the cut, up to where it differs."""
    missing_characters: int
    """Of the undisturbed answer after that."""


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of cuts")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Measure and print."""
    with _replica(SMOLLM) as first, _replica(_OTHER_REPLICA) as other:
        outcomes = asyncio.run(_measure(first.address(), other.address(), arguments))
    if arguments.json:
        figures = {way: {"of": len(them), "identical": sum(o.same for o in them)} for way, them in outcomes.items()}
        print(json.dumps(figures))
        return 0
    print(
        f"{arguments.cuts} random cuts of {len(_QUESTIONS)} answers of {arguments.tokens} tokens at temperature 0,"
        f" {SMOLLM['name']}, continued on another replica\n"
    )
    print(table(("continued from", "identical", "share", "of the others, the same until"), _rows(outcomes)))
    return 0


@contextmanager
def _replica(model: dict[str, Any]) -> Iterator[InferenceProcess]:
    with tempfile.TemporaryDirectory() as folder:
        process = InferenceProcess(Path(folder), [model])
        try:
            process.wait_until_serving()
            yield process
        finally:
            process.stop()


async def _measure(first: str, other: str, arguments: Namespace) -> dict[str, list[Outcome]]:
    chance = random.Random(arguments.seed)
    outcomes: dict[str, list[Outcome]] = {way: [] for way in _WAYS}
    async with grpc.aio.insecure_channel(first) as to_first, grpc.aio.insecure_channel(other) as to_other:
        undisturbed, peer = TestPeer(to_first), TestPeer(to_other)
        wholes = [await _ask(undisturbed, question, tokens=arguments.tokens) for question in _QUESTIONS]
        for question, whole in zip(_QUESTIONS, wholes, strict=True):
            outcomes[_CONTROL].append(_compare("", await _ask(peer, question, tokens=arguments.tokens), whole))
        # Behind at least one token, and with at least one left to ask for.
        cuts = [
            chance.choice([at for at in range(1, len(whole.deltas)) if _tokens(whole, at) < arguments.tokens])
            for whole, _ in zip(itertools.cycle(wholes), range(arguments.cuts), strict=False)
        ]
        for way in (_IDS, _TEXT):
            for number, cut in enumerate(cuts):
                place = number % len(_QUESTIONS)
                outcomes[way].append(
                    await _go_on(peer, _QUESTIONS[place], wholes[place], cut, way=way, tokens=arguments.tokens)
                )
        await undisturbed.close()
        await peer.close()
    return outcomes


async def _go_on(peer: TestPeer, question: str, whole: Answer, cut: int, *, way: str, tokens: int) -> Outcome:
    # A character of several tokens comes without ids, and goes on as text in both ways.
    pieces = [(text, ids if way == _IDS else []) for text, ids in whole.pieces[:cut]]
    rest = await _ask(peer, question, tokens=tokens - _tokens(whole, cut), continuation=pieces)
    return _compare("".join(text for text, _ in pieces), rest, whole)


async def _ask(
    peer: TestPeer, question: str, *, tokens: int, continuation: Sequence[tuple[str, Sequence[int]]] = ()
) -> Answer:
    answer = await peer.ask(
        question, model=str(SMOLLM["name"]), temperature=0, max_tokens=tokens, continuation=continuation
    )
    if answer.end.HasField("error"):
        raise RuntimeError(answer.end.error.message)
    return answer


def _tokens(answer: Answer, deltas: int) -> int:
    return sum(delta.token_count for delta in answer.deltas[:deltas])


def _compare(shown: str, rest: Answer, whole: Answer) -> Outcome:
    expected = whole.text[len(shown) :]
    same = next((at for at, (a, b) in enumerate(zip(rest.text, expected, strict=False)) if a != b), None)
    if same is None:
        same = min(len(rest.text), len(expected))
    identical = rest.text == expected and rest.end.finish_reason == whole.end.finish_reason
    return Outcome(identical, same, len(expected) - same)


def _rows(outcomes: dict[str, list[Outcome]]) -> list[list[str]]:
    rows = []
    for way in _WAYS:
        same = sum(outcome.same for outcome in outcomes[way])
        others = [outcome for outcome in outcomes[way] if not outcome.same]
        kept = sum(o.same_characters for o in others) / len(others) if others else 0.0
        lost = sum(o.missing_characters for o in others) / len(others) if others else 0.0
        until = f"{kept:.0f} characters on average, {lost:.0f} before the end" if others else "-"
        rows.append([way, f"{same} of {len(outcomes[way])}", f"{same / len(outcomes[way]):.1%}", until])
    return rows
