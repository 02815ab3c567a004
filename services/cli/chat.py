"""`chatmesh chat`: a chat in the terminal, streamed over gRPC through the edge."""

from __future__ import annotations

import readline
import shutil
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path

from services.cli.answer import printable
from services.cli.errors import CliError
from services.cli.follow import Follower
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
    connected,
    find_target,
)
from services.cli.screen import Screen
from services.cli.settings import CliSettings

_HELP = """\
/model NAME   answer with this model or alias from now on (without a name: say which)
/new          begin another conversation          /list     your conversations
/open ID      go on with one of them              /history  its messages
/title TEXT   name it                             /quit     leave (also Ctrl-D)
Ctrl-C during an answer stops it; once more, and it is left alone."""
_LISTED = 20
_HISTORY_LINES = 1000


class _QuitError(Exception):
    """The person wants to leave."""


class ChatSession:
    """One person at one conversation. A conversation is made when the first message is sent."""

    def __init__(
        self,
        *,
        remote: Remote,
        screen: Screen,
        model: str,
        conversation_id: str,
        system_prompt: str,
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remote = remote
        self._screen = screen
        self._model = model
        self.conversation_id = conversation_id
        self._system_prompt = system_prompt
        self._pause = pause
        self._now = now

    def handle(self, line: str) -> bool:
        """Do what one typed line says. Returns whether that succeeded."""
        text = line.strip()
        if not text:
            return True
        try:
            if text.startswith("/"):
                return self._command(*text[1:].partition(" ")[::2])
            return self._send(text)
        except RemoteError as error:
            self._screen.note(f"! {error}")
            return False

    def _command(self, name: str, argument: str) -> bool:
        argument = argument.strip()
        match name:
            case "quit" | "exit" | "q":
                raise _QuitError
            case "help" | "?":
                self._screen.note(_HELP)
            case "model":
                self._model = argument or self._model
                self._screen.note(f"model: {self._model or 'as the conversation says (auto)'}")
            case "new":
                self.conversation_id = ""
                self._screen.note("a new conversation")
            case "list":
                self._list()
            case "open":
                self._screen.note(self._title_of(argument))
                self.conversation_id = argument
                self._history()
            case "history":
                self._history()
            case "title":
                self._remote.set_title(self._conversation(), argument)
            case _:
                self._screen.note(f"! there is no command /{name}; /help lists them")
                return False
        return True

    def _title_of(self, conversation_id: str) -> str:
        return self._remote.get_conversation(conversation_id).title or "(no title)"

    def _conversation(self) -> str:
        if not self.conversation_id:
            self.conversation_id = self._remote.create_conversation(
                model=self._model, system_prompt=self._system_prompt
            )
        return self.conversation_id

    def _list(self) -> None:
        for entry in self._remote.list_conversations(limit=_LISTED):
            mark = "*" if entry.id == self.conversation_id else " "
            self._screen.note(f"{mark} {entry.id}  {entry.message_count:4d} messages  {entry.title or '(no title)'}")

    def _history(self) -> None:
        if not self.conversation_id:
            self._screen.note("(nothing yet)")
            return
        for message in self._remote.list_messages(self.conversation_id, limit=_LISTED):
            note = f" ({message.note})" if message.note else ""
            self._screen.note(f"{message.speaker}: {message.text}{note}")

    def _send(self, text: str) -> bool:
        conversation_id = self._conversation()
        follower = Follower(remote=self._remote, say=self._screen.aside, pause=self._pause, now=self._now)
        try:
            try:
                return self._show_all(follower.send(conversation_id, text=text, model=self._model))
            except KeyboardInterrupt:
                if not follower.has_begun:
                    raise
                return self._show_all(follower.stop())
        except KeyboardInterrupt:
            self._screen.end()
            self._screen.note("(no longer watching; /history shows the answer when it is written)")
            return True
        except RemoteError:
            self._screen.end()
            raise

    def _show_all(self, events: Generator[Event, None, None]) -> bool:
        """Draw an answer to its end. Returns whether there is one."""
        with closing(events):
            for event in events:
                if (done := self._show(event)) is not None:
                    return done
        return False

    def _show(self, event: Event) -> bool | None:
        """Draw one event. Returns None while there is more to come, then whether there is an answer."""
        match event:
            case Started():
                self._screen.begin()
            case Delta(text=text):
                self._screen.add(text)
            case Retracted(start=start, end=end, replacement=replacement):
                self._screen.retract(start=start, end=end, replacement=replacement)
            case Notice(text=text) if text:
                self._screen.aside(f"({text})")
            case Completed(text=text, stopped=stopped):
                self._screen.end(final=text)
                if stopped:
                    self._screen.note("(stopped)")
                return True
            case Failed(message=message):
                self._screen.end()
                self._screen.note(f"! {message}")
                return False
        return None


def chat(settings: CliSettings, *, user: str, model: str, conversation_id: str, system_prompt: str) -> int:
    """Chat until the person leaves or the input ends. Each line is a message or a command.

    Where the input is no terminal, no prompt is shown, and the exit code is 1 when any line failed.

    Raises:
        CliError: no mesh answers, or there is no such conversation.
    """
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    screen = Screen(out=sys.stdout, err=sys.stderr, is_terminal=is_terminal, size=_terminal_size)
    target = find_target(settings, user=user)
    with connected(target) as remote:
        session = ChatSession(
            remote=remote,
            screen=screen,
            model=model,
            conversation_id=conversation_id,
            system_prompt=system_prompt,
        )
        if conversation_id:
            try:
                remote.get_conversation(conversation_id)
            except RemoteError as error:
                raise CliError(f"cannot open the conversation: {error}") from error
        with suppress(_QuitError):
            if is_terminal:
                screen.note(f"{target.url} - /help for help, Ctrl-D to leave")
                return _at_terminal(session, history=settings.home.chat_history)
            return 0 if all(session.handle(line) for line in sys.stdin) else 1
    return 0


def _terminal_size() -> tuple[int, int]:
    size = shutil.get_terminal_size()
    return size.columns, size.lines


def _at_terminal(session: ChatSession, *, history: Path) -> int:
    with suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(_HISTORY_LINES)
    try:
        while True:
            try:
                session.handle(printable(input("> ")))
            except KeyboardInterrupt:
                print()  # drops the line that was being typed, as shells do
            except EOFError:
                print()
                return 0
    finally:
        with suppress(OSError):
            history.touch(mode=0o600)
            readline.write_history_file(history)
