"""The assembly of one prompt: the dialogue with the caller, who holds the history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.context.model import Answer, HistoryWanted, Page, Said, Start, Target
from services.context.tokens import TokenCounter
from services.context.window import Window
from services.runtime.errors import DomainError, Reason

FIRST_PAGE = 20
LARGEST_PAGE = 200
"""Messages asked for at first and at most; each page is twice the one before. Most conversations end in the first, and
a long one is not pulled far beyond its window."""


@dataclass(slots=True)
class Effort:
    """What an assembly took."""

    model: str = ""
    pages: int = 0
    tokens_counted: int = 0


class AssembleContext:
    """Builds the prompt of a turn, at the cost of the window and not of the history."""

    def __init__(self, *, tokens: TokenCounter) -> None:
        self._tokens = tokens

    async def run(self, said: AsyncIterator[Said], *, effort: Effort) -> AsyncIterator[Answer]:
        """Hold the dialogue: history requests, then one `Assembled`. `effort` is filled in on the way.

        Raises:
            DomainError: PROTOCOL_VIOLATION, CONTEXT_LENGTH_EXCEEDED, or what the tokenizer's replica answers.
        """
        start = await anext(said, None)
        if not isinstance(start, Start):
            raise _violation("start", "The stream opens with `start`.")
        wanted = FIRST_PAGE
        page: Page | None = None
        if start.first_page is not None:
            page = _sound(start.first_page, LARGEST_PAGE)
        else:
            # Before the target is known: the first page is needed whatever the model is.
            yield HistoryWanted(wanted)
        window: Window | None = None
        target: Target | None = None
        while target is None or window is None or page is None:
            heard = await anext(said, None)
            if isinstance(heard, Target) and target is None:
                target = heard
                effort.model = target.model
                window = await self._open(start, target, effort)
            elif isinstance(heard, Page) and page is None:
                page = _sound(heard, wanted)
            elif target is None:
                raise _violation("target", "`target` must come before anything but the page that was asked for.")
            else:
                raise _violation("history_page", "A `history_page` was asked for.")
        while True:
            effort.pages += 1
            window.add(page.messages)
            await self._count(window, target, effort)
            if page.exhausted or window.full:
                break
            wanted = min(LARGEST_PAGE, wanted * 2)
            yield HistoryWanted(wanted)
            heard = await anext(said, None)
            if not isinstance(heard, Page):
                raise _violation("history_page", "A `history_page` was asked for.")
            page = _sound(heard, wanted)
        yield window.close(exhausted=page.exhausted)

    async def _open(self, start: Start, target: Target, effort: Effort) -> Window:
        window = Window(
            context_length=target.context_length,
            reserved_output_tokens=target.reserved_output_tokens,
            overhead=await self._tokens.overhead(target),
            system_prompt=start.system_message(target.default_system_prompt),
            user_message=start.user_message,
            beside_messages=start.beside_messages,
        )
        await self._count(window, target, effort)
        if window.overflows:
            raise _too_long(target, window.fixed_tokens)
        return window

    async def _count(self, window: Window, target: Target, effort: Effort) -> None:
        while texts := window.uncounted():
            counts, counted_anew = await self._tokens.count(target, texts)
            effort.tokens_counted += counted_anew
            window.count(counts)


def _sound(page: Page, wanted: int) -> Page:
    if len(page.messages) > wanted:
        raise _violation(
            "history_page", f"The page has {len(page.messages)} messages; at most {wanted} were asked for."
        )
    if not page.messages and not page.exhausted:
        raise _violation("history_page", "A page without messages must be `exhausted`.")
    return page


def _violation(expected: str, text: str) -> DomainError:
    return DomainError(Reason.PROTOCOL_VIOLATION, text, metadata={"expected": expected})


def _too_long(target: Target, prompt_tokens: int) -> DomainError:
    room = max(0, target.context_length - target.reserved_output_tokens)
    return DomainError(
        Reason.CONTEXT_LENGTH_EXCEEDED,
        f"The message with its system prompt takes {prompt_tokens} tokens. The model {target.model!r} has room for "
        f"{room}: its context of {target.context_length} less {target.reserved_output_tokens} kept for the answer. "
        "Shorten the message, or ask for fewer tokens of answer.",
        metadata={
            "model": target.model,
            "context_length": str(target.context_length),
            "prompt_tokens": str(prompt_tokens),
        },
    )
