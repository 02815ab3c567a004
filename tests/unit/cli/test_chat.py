"""What the terminal chat does with what is typed and with what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO

from services.cli.chat import ChatSession
from services.cli.models import render_models
from services.cli.remote import (
    Completed,
    Delta,
    Event,
    Failed,
    ModelInfo,
    Remote,
    RemoteError,
    Retracted,
    Started,
)
from services.cli.screen import Screen

Step = Event | BaseException


class _FakeRemote(Remote):
    """A mesh that plays prepared answers; each is a list of events, or of an exception where it breaks."""

    def __init__(self, *answers: Sequence[Step]) -> None:
        self._answers = list(answers)
        self.sent: list[tuple[str, str, str]] = []
        self.request_ids: list[str] = []
        self.created: list[tuple[str, str]] = []

    def create_conversation(self, *, model: str, system_prompt: str) -> str:
        self.created.append((model, system_prompt))
        return f"conversation-{len(self.created)}"

    @contextmanager
    def stream_message(
        self, conversation_id: str, *, text: str, model: str, request_id: str
    ) -> Iterator[Iterator[Event]]:
        self.sent.append((conversation_id, text, model))
        self.request_ids.append(request_id)
        yield self._play(self._answers.pop(0))

    def _play(self, answer: Sequence[Step]) -> Iterator[Event]:
        for step in answer:
            if isinstance(step, BaseException):
                raise step
            yield step


class _Chat:
    """A session at a pipe, with all that it wrote and how long it waited."""

    def __init__(self, *answers: Sequence[Step], conversation_id: str = "") -> None:
        self.remote = _FakeRemote(*answers)
        self.out = StringIO()
        self.pauses: list[float] = []
        self.session = ChatSession(
            remote=self.remote,
            screen=Screen(out=self.out, is_terminal=False, size=lambda: (80, 24)),
            model="auto",
            conversation_id=conversation_id,
            system_prompt="Be brief.",
            pause=self.pauses.append,
        )


def test_the_conversation_is_made_with_the_first_message_and_kept() -> None:
    chat = _Chat([Started(), Completed("One.", "m")], [Started(), Completed("Two.", "m")])

    assert chat.session.handle("first\n")
    assert chat.session.handle("second\n")

    assert chat.remote.created == [("auto", "Be brief.")]
    assert chat.remote.sent == [("conversation-1", "first", "auto"), ("conversation-1", "second", "auto")]
    assert len(set(chat.remote.request_ids)) == 2
    assert chat.out.getvalue() == "One.\nTwo.\n"


def test_a_retraction_changes_what_is_shown() -> None:
    chat = _Chat([Started(), Delta("the secret"), Retracted(4, 10, "[gone]", "pii"), Completed("the [gone]", "m")])

    chat.session.handle("tell")

    assert chat.out.getvalue() == "the [gone]\n"


def test_a_lost_answer_is_asked_for_again_with_the_same_id() -> None:
    lost = RemoteError("connection reset", lost=True)
    chat = _Chat([Started(), Delta("Hel"), lost], [lost], [Started(), Delta("Hello"), Completed("Hello", "m")])

    assert chat.session.handle("hi")

    assert len(chat.remote.request_ids) == 3
    assert len(set(chat.remote.request_ids)) == 1
    assert chat.out.getvalue() == "Hello\n"
    assert len(chat.pauses) == 2


def test_a_mesh_that_stays_away_is_an_error() -> None:
    chat = _Chat(*[[RemoteError("no route", lost=True)]] * 9)

    assert not chat.session.handle("hi")

    assert len(chat.remote.sent) == 4
    assert "! no route" in chat.out.getvalue()


def test_a_refusal_is_not_sent_again() -> None:
    chat = _Chat([RemoteError("too long")])

    assert not chat.session.handle("hi")

    assert len(chat.remote.sent) == 1
    assert "! too long" in chat.out.getvalue()


def test_a_failed_answer_keeps_what_was_shown_and_says_why() -> None:
    chat = _Chat([Started(), Delta("So far"), Failed("blocked by policy")])

    assert not chat.session.handle("hi")

    assert chat.out.getvalue() == "So far\n! blocked by policy\n"


def test_ctrl_c_in_an_answer_returns_to_the_prompt() -> None:
    chat = _Chat([Started(), Delta("So far"), KeyboardInterrupt()], [Started(), Completed("Next.", "m")])

    assert chat.session.handle("hi")
    assert chat.session.handle("again")

    assert chat.out.getvalue().startswith("So far\n(no longer watching")
    assert chat.out.getvalue().endswith("Next.\n")


def test_commands_change_the_model_and_the_conversation() -> None:
    chat = _Chat([Started(), Completed("a", "m")], [Started(), Completed("b", "m")], conversation_id="old")

    assert chat.session.handle("/model small")
    assert chat.session.handle("one")
    assert chat.session.handle("/new")
    assert chat.session.handle("two")
    assert not chat.session.handle("/nonsense")
    assert chat.session.handle("   \n")

    assert chat.remote.sent == [("old", "one", "small"), ("conversation-1", "two", "small")]


def test_models_without_a_count_of_replicas_have_a_dash() -> None:
    rows = render_models([ModelInfo("m", "", None), ModelInfo("auto", "stands for m", 2)]).splitlines()

    assert [row.split()[:2] for row in rows[1:]] == [["m", "-"], ["auto", "2"]]
