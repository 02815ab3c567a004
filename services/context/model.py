"""The words of Context: what the caller says, what it is asked, and the prompt that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asked for. `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as a model sees it. An assistant's may have calls; a tool's names the call that it answers."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """All that the model reads of it, for its tokens to be counted."""
        if not (self.tool_calls or self.tool_call_id or self.name):
            return self.content
        calls = (f"{call.id} {call.name} {call.arguments}" for call in self.tool_calls)
        return "\n".join((self.name, self.tool_call_id, self.content, *calls))


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """One stored message."""

    id: str
    message: ChatMessage


@dataclass(frozen=True, slots=True)
class Start:
    """Opens an assembly. An empty system prompt takes the model's default.

    Without a message of the user the newest of the history is what is to be answered.
    """

    system_prompt: str
    user_message: str
    first_page: Page | None = None
    """The newest page of history, when the caller has sent it along."""
    custom_instructions: str = ""
    """What the user wants every model to know; stands below the system prompt, the model's default one too."""
    beside_messages: str = ""
    """What the template writes beside the messages; it is only counted."""

    def system_message(self, default_prompt: str) -> str:
        """The one system message of the prompt; empty when there is nothing to say in it."""
        parts = (self.system_prompt or default_prompt, self.custom_instructions)
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Target:
    """The model that the prompt is for, and the replica whose tokenizer counts."""

    model: str
    context_length: int
    reserved_output_tokens: int
    tokenizer_address: str
    default_system_prompt: str


@dataclass(frozen=True, slots=True)
class Page:
    """The next messages of the history, newest first; `exhausted` when nothing older is left."""

    messages: tuple[HistoryMessage, ...]
    exhausted: bool


@dataclass(frozen=True, slots=True)
class HistoryWanted:
    """Asks for the page before those already sent."""

    max_messages: int


@dataclass(frozen=True, slots=True)
class Assembled:
    """The prompt: messages oldest first, the system prompt in front and the new message last."""

    messages: tuple[ChatMessage, ...]
    prompt_tokens: int
    oldest_message_id: str
    truncated: bool
    available_output_tokens: int


@dataclass(frozen=True, slots=True)
class TemplateOverhead:
    """Tokens that a model's chat template adds, at most: for each message, and once for the prompt."""

    per_message: int
    per_prompt: int


Said = Start | Target | Page
Answer = HistoryWanted | Assembled
