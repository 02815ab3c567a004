"""A completion as OpenAI sends it: in chunks while it is generated, or whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from services.conversation.answer_end import REFUSED
from services.conversation.chat_model import FinishReason, TokenLogprob
from services.conversation.choices import Choice, Completion
from services.conversation.convert import domain_error, error_summary
from services.conversation.generation_log import Completed, Delta, Event, Failed, Notice, NoticeKind
from services.conversation.model import ErrorSummary
from services.conversation.openai_request import ChatCompletionRequest, in_openais_words
from services.conversation.openai_response import Answered, ChatCompletionFormat, error_event
from services.conversation.route_convert import route_to_json
from services.runtime.errors import DomainError


class CompletionWriter:
    """Writes one completion.

    Args:
        completion: That runs.
        asked: How it is to be sent.
        created: When it was asked for, in Unix seconds.
        stop: Stops one of its answers.
    """

    def __init__(
        self, completion: Completion, asked: ChatCompletionRequest, *, created: int, stop: Callable[[Choice], None]
    ) -> None:
        self._completion = completion
        self._asked = asked
        self._created = created
        self._stop = stop
        self._finished: set[int] = set()
        self._form: ChatCompletionFormat | None = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The chunks, all that is ready in one piece.

        This protocol cannot take back what was sent. An answer of which something must go ends there, as one that the
        content filter ended; others of the same completion go on.

        Raises:
            DomainError: An answer failed before anything was sent.
        """
        async with aclosing(self._completion.follow()) as follow:
            async for happened in follow:
                data = b""
                for choice, entry in happened:
                    if choice.index in self._finished:
                        continue
                    match entry.event:
                        case Notice() as notice:
                            _note(choice, notice)
                        case Delta(text):
                            data += self._format.text(choice.index, text, _logprobs(choice))
                        case Completed():
                            data += self._finish(choice, choice.outcome.finish_reason if choice.outcome else None)
                        case Failed(error) if error.reason not in REFUSED:
                            if self._form is None:
                                # Nothing was sent: the client gets the status, and by it knows whether to try again.
                                raise self._named(error)
                            yield data + self._begin(choice) + error_event(error_summary(self._named(error)))
                            return
                        case _:
                            self._stop(choice)
                            data += self._finish(choice, FinishReason.CONTENT_FILTER)
                over = len(self._finished) == len(self._completion.choices)
                if over:
                    data += self._format.end(self._completion.usage, route_to_json(self._completion.route))
                if data:
                    yield data
                if over:
                    return

    async def whole(self) -> bytes:
        """The completion in one object.

        Raises:
            DomainError: One of its answers failed.
        """
        async with aclosing(self._completion.follow()) as follow:
            async for happened in follow:
                for choice, entry in happened:
                    failure = _failure(entry.event)
                    if failure is not None:
                        raise self._named(failure)
                    if isinstance(entry.event, Notice):
                        _note(choice, entry.event)
        route = self._completion.route
        answers = [_answered(choice) for choice in self._completion.choices]
        return self._format.whole(answers, self._completion.usage, route_to_json(route))

    @property
    def _format(self) -> ChatCompletionFormat:
        """Made when first needed, for until then another model may take over."""
        if self._form is None:
            self._form = ChatCompletionFormat(
                completion_id=f"chatcmpl-{self._completion.id.replace('-', '')}",
                created=self._created,
                model=self._completion.route.model,
                include_usage=self._asked.include_usage,
                with_logprobs=self._asked.completion.top_logprobs is not None,
            )
        return self._form

    def _begin(self, choice: Choice) -> bytes:
        return self._format.begin(choice.index)

    def _finish(self, choice: Choice, reason: FinishReason | None) -> bytes:
        self._finished.add(choice.index)
        is_last = len(self._finished) == len(self._completion.choices)
        return self._format.finish(
            choice.index,
            reason or FinishReason.ERROR,
            logprobs=_logprobs(choice),
            tool_calls=choice.extras.tool_calls.shown,
            route=route_to_json(self._completion.route) if is_last else None,
        )

    def _named(self, error: ErrorSummary) -> DomainError:
        return in_openais_words(domain_error(error), self._asked.completion)


def _failure(event: Event) -> ErrorSummary | None:
    """Why there is no answer; one that the content filter ended is an answer."""
    return event.error if isinstance(event, Failed) and event.error.reason not in REFUSED else None


def _answered(choice: Choice) -> Answered:
    outcome = choice.outcome
    return Answered(
        text=outcome.content if outcome else "",
        reason=outcome.finish_reason if outcome else FinishReason.ERROR,
        logprobs=_logprobs(choice),
        tool_calls=choice.extras.tool_calls.shown,
    )


def _logprobs(choice: Choice) -> tuple[TokenLogprob, ...]:
    return choice.extras.logprobs.take() if choice.extras.logprobs is not None else ()


def _note(choice: Choice, notice: Notice) -> None:
    """Another model took over: until the receipt of the whole is there, no more than that is known."""
    if not notice.model or choice.outcome is not None:
        return
    before = choice.receipt
    choice.receipt = replace(
        before,
        model=notice.model,
        escalated_from=before.model if notice.kind is NoticeKind.ESCALATED else before.escalated_from,
        engine="",
        replica_id="",
        pool="",
        zone="",
        region="",
    )
