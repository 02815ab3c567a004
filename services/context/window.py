"""Window arithmetic: what of a conversation fits into a model's context. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.context.model import Assembled, ChatMessage, HistoryMessage, Role, TemplateOverhead

BATCH_TEXTS = 512
BATCH_BYTES = 256 * 1024
"""How much is counted at a time. What follows a text that does not fit need not be counted at all."""


def token_bound(text: str) -> int:
    """The most tokens that a text can have, without a tokenizer.

    A byte-level vocabulary has every byte as a token, so no text has more tokens than bytes in UTF-8; some tokenizers
    put one more in front.
    """
    return (len(text) if text.isascii() else len(text.encode())) + 1


class _Piece:
    """A message with its tokens: an upper bound until they are counted."""

    __slots__ = ("counted", "message", "text", "tokens")

    def __init__(self, message: ChatMessage) -> None:
        self.message = message
        self.text = message.text
        self.tokens = token_bound(self.text)
        self.counted = False


class Window:
    """The prompt of one turn while it is filled, newest message first.

    The system prompt and the new message of the user, if there is one, are always in it. Of the history it holds the
    longest run of newest messages that fits. Tokens start as upper bounds; as long as these fit nothing has to be
    counted. Otherwise `uncounted` names the texts to count next and `count` takes the result, until nothing is left to
    name. A message is left out only by counted figures.
    """

    def __init__(
        self,
        *,
        context_length: int,
        reserved_output_tokens: int,
        overhead: TemplateOverhead,
        system_prompt: str,
        user_message: str,
        beside_messages: str = "",
    ) -> None:
        self._context_length = context_length
        self._limit = context_length - reserved_output_tokens
        self._overhead = overhead
        self._user = _Piece(ChatMessage(Role.USER, user_message)) if user_message else None
        self._system = _Piece(ChatMessage(Role.SYSTEM, system_prompt)) if system_prompt else None
        self._beside = _Piece(ChatMessage(Role.SYSTEM, beside_messages)) if beside_messages else None
        self._ids: list[str] = []
        self._history: list[_Piece] = []
        self._counting = False

    @property
    def fixed_tokens(self) -> int:
        """Tokens of the prompt without any history."""
        return self._overhead.per_prompt + sum(self._cost(piece) for piece in self._fixed)

    @property
    def overflows(self) -> bool:
        """True when not even the system prompt and the new message fit. Final once nothing is uncounted."""
        return self.fixed_tokens > self._limit

    @property
    def full(self) -> bool:
        """True when no older message can be taken, whatever it says. To be asked when nothing is uncounted."""
        fitting, tokens = self._fitting()
        # Upper bounds that leave no room say nothing: counted, the same messages may leave half of it.
        return fitting < len(self._history) or (self._counting and tokens + self._overhead.per_message > self._limit)

    def add(self, page: Sequence[HistoryMessage]) -> None:
        """Offer the next older messages, newest first."""
        self._ids.extend(entry.id for entry in page)
        self._history.extend(_Piece(entry.message) for entry in page)

    def uncounted(self) -> list[str]:
        """The texts to count next; none when the window is decided as it is."""
        fitting, _ = self._fitting()
        everything_fits = fitting == len(self._history) and not self.overflows
        if everything_fits and not self._counting:
            return []
        # Up to and with the first that does not fit: its figure decides. Once counting has begun, all that is in the
        # window is counted, so that the total is exact.
        deciding = self._fixed if self.overflows else [*self._fixed, *self._history[: fitting + 1]]
        if all(piece.counted for piece in deciding):
            return []
        texts: list[str] = []
        room = BATCH_BYTES
        for piece in [*self._fixed, *self._history]:
            if piece.counted:
                continue
            if texts and (room < piece.tokens or len(texts) == BATCH_TEXTS):
                break
            texts.append(piece.text)
            room -= piece.tokens
        return list(dict.fromkeys(texts))

    def count(self, counts: Mapping[str, int]) -> None:
        """Take the tokens of texts that were counted."""
        self._counting = True
        for piece in [*self._fixed, *self._history]:
            tokens = counts.get(piece.text)
            if tokens is not None:
                piece.tokens = tokens
                piece.counted = True

    def close(self, *, exhausted: bool) -> Assembled:
        """The prompt; `exhausted` says that the history has no messages older than those that were offered."""
        fitting, _ = self._fitting()
        truncated = fitting < len(self._history) or not exhausted
        if truncated:
            # An answer whose question was cut off would only mislead the model, and so would the result of a call.
            while fitting and self._history[fitting - 1].message.role in (Role.ASSISTANT, Role.TOOL):
                fitting -= 1
        taken = self._history[:fitting]
        prompt_tokens = self.fixed_tokens + sum(self._cost(piece) for piece in taken)
        parts = [self._system, *reversed(taken), self._user]
        return Assembled(
            messages=tuple(piece.message for piece in parts if piece is not None),
            prompt_tokens=prompt_tokens,
            oldest_message_id=self._ids[fitting - 1] if fitting else "",
            truncated=truncated,
            available_output_tokens=self._context_length - prompt_tokens,
        )

    @property
    def _fixed(self) -> list[_Piece]:
        return [piece for piece in (self._system, self._beside, self._user) if piece is not None]

    def _cost(self, piece: _Piece) -> int:
        return piece.tokens + self._overhead.per_message

    def _fitting(self) -> tuple[int, int]:
        """How many of the newest messages fit by the figures known, and the tokens of the prompt with them."""
        tokens = self.fixed_tokens
        for index, piece in enumerate(self._history):
            cost = self._cost(piece)
            if tokens + cost > self._limit:
                return index, tokens
            tokens += cost
        return len(self._history), tokens
