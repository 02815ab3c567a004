"""Several answers that are being read at once, each at another point of its stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from tests.faults.client import Answer, Client
from tests.mesh_process import eventually

READERS = 6
SPREAD_S = 2.5
"""Over how long they begin: a fault meets each of them elsewhere."""


class Audience:
    """Readers who begin at random moments. Once `settled`, each of them is at a random point of its answer."""

    def __init__(
        self,
        client: Client,
        *,
        undisturbed: Callable[[str], str],
        chance: random.Random,
        readers: int = READERS,
        resume: bool = True,
    ) -> None:
        self._client = client
        questions = [f"Question {chance.randrange(20)}" for _ in range(readers)]
        self.expected = [undisturbed(question) for question in questions]
        begun = [
            client.start(question, resume=resume, delay_s=SPREAD_S * index / readers)
            for index, question in enumerate(questions)
        ]
        self.answers: Sequence[Answer] = [answer for answer, _ in begun]
        self._ends: Sequence[Future[Answer]] = [end for _, end in begun]
        self._events = chance.randint(2, 60)

    def settle(self) -> Sequence[Answer]:
        """Wait until the last one has come to a random point; the others are further on. Returns all of them."""
        self.answers[-1].reach(self._events)
        return self.answers

    def let_the_first_tell(self, share: float) -> None:
        """Wait until the first one has told a share of its answer; the end is near then."""
        first, whole = self.answers[0], self.expected[0]
        eventually(lambda: len(first.text), lambda length: length >= share * len(whole))

    def finish(self) -> Sequence[Answer]:
        """Wait until all have ended, and check that each saw its whole answer: every event once, nothing changed."""
        done, left = wait(self._ends, timeout=60)
        assert not left
        for end in done:
            end.result()
        for answer, expected in zip(self.answers, self.expected, strict=True):
            check(answer, expected)
            check_stored(self._client, answer)
        return self.answers

    def read_to_the_end(self) -> Sequence[tuple[Answer, str]]:
        """Wait until all connections have ended. Returns each answer with what it should have been."""
        wait(self._ends, timeout=60)
        return [(end.result(), expected) for end, expected in zip(self._ends, self.expected, strict=True)]


def check(answer: Answer, expected: str) -> None:
    """What a reader saw is the whole answer, once."""
    assert "completed" in answer.events[-1], answer.events[-1]
    assert answer.positions == sorted(set(answer.positions)), answer.positions
    assert answer.epochs == sorted(set(answer.epochs)), answer.epochs
    assert sum("started" in event for event in answer.events) == 1
    assert sum("completed" in event or "failed" in event for event in answer.events) == 1
    assert answer.text == expected
    assert answer.message["content"] == expected
    assert answer.message["status"] == "MESSAGE_STATUS_COMPLETED"


def check_stored(client: Client, answer: Answer) -> None:
    """The conversation holds the question once and the answer once, as it was shown."""
    stored = client.messages(answer.conversation_id)
    assert [message["role"] for message in stored] == ["ROLE_USER", "ROLE_ASSISTANT"]
    assert stored[1] == answer.message
