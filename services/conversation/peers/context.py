"""The Context service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from chatmesh.context.v1.context_service_pb2_grpc import ContextServiceStub
from services.conversation.engine_model import Prompt
from services.conversation.peers.convert import Page, context_start, context_target, history_page, prompt_from_pb
from services.conversation.route_model import Route
from services.runtime.client import open_stream
from services.runtime.errors import DomainError, Reason, from_rpc_error

TIMEOUT_S = 15.0

FIRST_PAGE = 20
"""Messages that are sent without being asked for."""

History = Callable[[int], Awaitable[Page]]
"""Takes the greatest number of messages; gives the next older ones."""


class ContextPeer:
    """Builds prompts."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ContextServiceStub(channel)

    async def assemble(
        self,
        *,
        system_prompt: str,
        user_message: str,
        route: Callable[[], Awaitable[Route]],
        reserve: Callable[[Route], int],
        history: History,
        custom_instructions: str = "",
        beside_messages: str = "",
    ) -> Prompt:
        """Assemble the prompt of one turn. History is read while the route is still being chosen.

        Args:
            system_prompt: Of the conversation; empty takes the model's default.
            user_message: The new message; empty when it is the newest of the history.
            route: Waits for where the generation runs.
            reserve: How many tokens of that model's context to keep free for the answer.
            history: Reads the next older messages.
            custom_instructions: What the user has every model told, after the system prompt.
            beside_messages: What the model's template writes beside the messages; it is only counted.

        Raises:
            DomainError: CONTEXT_LENGTH_EXCEEDED, or what `route` and `history` raise.
        """
        first_page = await history(FIRST_PAGE)
        call = open_stream(self._stub.AssembleContext, timeout_s=TIMEOUT_S, service="context")
        writing = asyncio.Lock()

        async def send_target() -> None:
            chosen = await route()
            async with writing:
                await call.write(context_target(chosen, reserved_output_tokens=reserve(chosen)))

        try:
            async with writing:
                await call.write(
                    context_start(
                        system_prompt=system_prompt,
                        user_message=user_message,
                        first_page=first_page,
                        custom_instructions=custom_instructions,
                        beside_messages=beside_messages,
                    )
                )
            target = asyncio.create_task(send_target())
            # When it fails, the stream or the route says why.
            target.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                async for response in call:
                    if response.HasField("assembled"):
                        await target
                        return prompt_from_pb(response.assembled)
                    page = await history(response.history_request.max_messages)
                    async with writing:
                        await call.write(history_page(page))
            finally:
                target.cancel()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="context") from error
        except asyncio.InvalidStateError as error:
            # A write on a call that has ended; the call itself says why.
            raise await _why(call) from error
        finally:
            call.cancel()
        raise DomainError(
            Reason.DEPENDENCY_UNAVAILABLE,
            "The context service ended before the prompt was complete; try again.",
            metadata={"service": "context"},
        )


async def _why(call: grpc.aio.StreamStreamCall) -> DomainError:  # type: ignore[type-arg]
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error, service="context")
    return DomainError(
        Reason.DEPENDENCY_UNAVAILABLE, "The context service is not available.", metadata={"service": "context"}
    )
