"""What the terminal chat does with what is typed and with what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO

from services.cli.chat import ChatSession
from services.cli.follow import PATIENCE_S
from services.cli.remote import (
    Completed,
    Delta,
    Event,
    Failed,
    Notice,
    Remote,
    RemoteError,
    Retracted,
    Started,
    Step,
    Steps,
)
from services.cli.screen import Screen

Part = Event | BaseException


class _FakeRemote(Remote):
    """A mesh that plays prepared answers; each is a list of events, or of an exception where it breaks."""

    def __init__(self, *answers: Sequence[Part]) -> None:
        self._answers = list(answers)
        self.sent: list[tuple[str, str, str]] = []
        self.request_ids: list[str] = []
        self.created: list[tuple[str, str]] = []
        self.watched: list[int] = []
        self.stopped: list[str] = []
        self._seq = 0

    def create_conversation(self, *, model: str, system_prompt: str) -> str:
        self.created.append((model, system_prompt))
        return f"conversation-{len(self.created)}"

    @contextmanager
    def stream_message(self, conversation_id: str, *, text: str, model: str, request_id: str) -> Iterator[Steps]:
        self.sent.append((conversation_id, text, model))
        self.request_ids.append(request_id)
        yield self._play(self._answers.pop(0))

    @contextmanager
    def watch_generation(self, generation_id: str, *, after_seq: int) -> Iterator[Steps]:
        assert generation_id == "g"
        self.watched.append(after_seq)
        yield self._play(self._answers.pop(0))

    def stop_generation(self, generation_id: str) -> None:
        self.stopped.append(generation_id)

    def _play(self, answer: Sequence[Part]) -> Steps:
        for part in answer:
            if isinstance(part, BaseException):
                raise part
            self._seq += 1
            yield Step("g", self._seq, part)


class _Chat:
    """A session at a pipe, with all that it wrote and how long it waited."""

    def __init__(self, *answers: Sequence[Part], conversation_id: str = "") -> None:
        self.remote = _FakeRemote(*answers)
        self.out = StringIO()
        self.err = StringIO()
        self.pauses: list[float] = []
        self.session = ChatSession(
            remote=self.remote,
            screen=Screen(out=self.out, err=self.err, is_terminal=False, size=lambda: (80, 24)),
            model="auto",
            conversation_id=conversation_id,
            system_prompt="Be brief.",
            pause=self.pauses.append,
            now=lambda: sum(self.pauses),
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


def test_a_message_that_got_lost_is_sent_again_with_the_same_id() -> None:
    lost = RemoteError("connection reset", lost=True)
    chat = _Chat([lost], [lost], [Started(), Delta("Hello"), Completed("Hello", "m")])

    assert chat.session.handle("hi")

    assert len(chat.remote.request_ids) == 3
    assert len(set(chat.remote.request_ids)) == 1
    assert chat.out.getvalue() == "Hello\n"
    assert len(chat.pauses) == 2
    # That went by so fast that nobody needs to know.
    assert chat.err.getvalue() == ""


def test_an_answer_that_was_cut_off_goes_on_after_the_last_event() -> None:
    lost = RemoteError("connection reset", lost=True)
    chat = _Chat([Started(), Delta("Hel"), lost], [lost], [Delta("lo"), lost], [Delta("!"), Completed("Hello!", "m")])

    assert chat.session.handle("hi")

    assert len(chat.remote.sent) == 1
    assert chat.remote.watched == [2, 2, 3]
    assert chat.out.getvalue() == "Hello!\n"


def test_a_mesh_that_stays_away_is_an_error_and_is_said_before() -> None:
    chat = _Chat(*[[RemoteError("no route", lost=True)]] * 99)

    assert not chat.session.handle("hi")

    assert PATIENCE_S <= sum(chat.pauses) < PATIENCE_S + 3
    assert chat.err.getvalue().count("trying to go on") == 1
    assert chat.out.getvalue() == "! no route\n"


def test_a_watch_that_is_refused_keeps_what_was_shown() -> None:
    chat = _Chat([Started(), Delta("So far"), RemoteError("gone", lost=True)], [RemoteError("no such generation")])

    assert not chat.session.handle("hi")

    assert chat.remote.watched == [2]
    assert chat.out.getvalue() == "So far\n! no such generation\n"


def test_what_happened_to_the_mesh_does_not_get_into_a_pipe() -> None:
    chat = _Chat([Started(), Delta("a"), Notice("another engine"), Notice(""), Delta("b"), Completed("ab", "m")])

    assert chat.session.handle("hi")

    assert chat.out.getvalue() == "ab\n"
    assert chat.err.getvalue() == "(another engine)\n"


def test_a_refusal_is_not_sent_again() -> None:
    chat = _Chat([RemoteError("too long")])

    assert not chat.session.handle("hi")

    assert len(chat.remote.sent) == 1
    assert "! too long" in chat.out.getvalue()


def test_a_failed_answer_keeps_what_was_shown_and_says_why() -> None:
    chat = _Chat([Started(), Delta("So far"), Failed("blocked by policy")])

    assert not chat.session.handle("hi")

    assert chat.out.getvalue() == "So far\n! blocked by policy\n"


def test_ctrl_c_in_an_answer_stops_it_and_shows_what_there_is() -> None:
    chat = _Chat(
        [Started(), Delta("So "), KeyboardInterrupt()],
        [Delta("far"), Completed("So far", "m", stopped=True)],
        [Started(), Completed("Next.", "m")],
    )

    assert chat.session.handle("hi")
    assert chat.session.handle("again")

    assert chat.remote.stopped == ["g"]
    assert chat.remote.watched == [2]
    assert chat.out.getvalue() == "So far\n(stopped)\nNext.\n"


def test_a_second_ctrl_c_returns_to_the_prompt() -> None:
    chat = _Chat([Started(), Delta("So far"), KeyboardInterrupt()], [KeyboardInterrupt()], [Completed("Next.", "m")])

    assert chat.session.handle("hi")
    assert chat.session.handle("again")

    assert chat.remote.stopped == ["g"]
    assert chat.out.getvalue().startswith("So far\n(no longer watching")
    assert chat.out.getvalue().endswith("Next.\n")


def test_ctrl_c_before_there_is_an_answer_stops_nothing() -> None:
    chat = _Chat([KeyboardInterrupt()])

    assert chat.session.handle("hi")

    assert chat.remote.stopped == []
    assert "no longer watching" in chat.out.getvalue()


def test_commands_change_the_model_and_the_conversation() -> None:
    chat = _Chat([Started(), Completed("a", "m")], [Started(), Completed("b", "m")], conversation_id="old")

    assert chat.session.handle("/model small")
    assert chat.session.handle("one")
    assert chat.session.handle("/new")
    assert chat.session.handle("two")
    assert not chat.session.handle("/nonsense")
    assert chat.session.handle("   \n")

    assert chat.remote.sent == [("old", "one", "small"), ("conversation-1", "two", "small")]
