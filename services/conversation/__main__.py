"""The Conversation process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from chatmesh.conversation.v1.conversation_service_pb2_grpc import add_ConversationServiceServicer_to_server
from chatmesh.conversation.v1.openai_service_pb2_grpc import add_OpenAIServiceServicer_to_server
from services.conversation.completion import CompletionRunner
from services.conversation.generator import Generator
from services.conversation.metrics import TurnMetrics
from services.conversation.openai_service import OpenAIServicer
from services.conversation.peers.context import ContextPeer
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.peers.router import RouterPeer
from services.conversation.peers.usage import UsagePeer
from services.conversation.preparation import Preparation
from services.conversation.service import ConversationServicer
from services.conversation.settings import ConversationSettings
from services.conversation.store import ConversationStore
from services.conversation.turn import TurnRunner
from services.conversation.turn_store import TurnStore
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.background import Background
from services.runtime.client import ChannelPool, check_health
from services.runtime.clock import SystemClock
from services.runtime.database import Database
from services.runtime.migrations import migrate
from services.runtime.pacing import Pacer
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry

PUBLIC_SERVICES = (
    "chatmesh.conversation.v1.ConversationService",
    "chatmesh.conversation.v1.OpenAIService",
)


async def main(settings: ConversationSettings) -> None:
    """Wire the service and serve."""
    async with AsyncExitStack() as stack:
        telemetry = stack.enter_context(Telemetry.start("conversation", settings))
        await migrate(settings.database_url, schema="conversation", directory=Path(__file__).parent / "migrations")
        database = await stack.enter_async_context(
            Database(settings.database_url, max_size=settings.database_pool_size)
        )
        channels = await stack.enter_async_context(ChannelPool())
        background = await stack.enter_async_context(Background())
        clock = SystemClock()
        pacer = Pacer()

        router = RouterPeer(channels.channel(settings.router_address))
        context = ContextPeer(channels.channel(settings.context_address))
        moderation = ModerationPeer(channels.channel(settings.moderation_address), pacer=pacer)
        usage = UsagePeer(channels.channel(settings.usage_address))
        inference = InferencePeers(channels)

        store = ConversationStore(database=database, clock=clock)
        turn_store = TurnStore(database=database, clock=clock, owner=settings.replica)
        outbox = UsageOutbox(database=database, usage=usage, clock=clock)
        preparation = Preparation(usage=usage, moderation=moderation, router=router, context=context)
        generator = Generator(
            preparation=preparation,
            inference=inference,
            moderation=moderation,
            metrics=TurnMetrics(telemetry),
            first_token_timeout_s=settings.first_token_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
        )
        turns = TurnRunner(
            store=turn_store,
            preparation=preparation,
            generator=generator,
            outbox=outbox,
            clock=clock,
            drain_grace_s=settings.drain_grace_s,
        )
        completions = CompletionRunner(
            preparation=preparation,
            generator=generator,
            outbox=outbox,
            clock=clock,
            drain_grace_s=settings.drain_grace_s,
        )

        server = Server(settings=settings, service="conversation", telemetry=telemetry, public_services=PUBLIC_SERVICES)
        add_ConversationServiceServicer_to_server(ConversationServicer(store=store, turns=turns), server.grpc)
        add_OpenAIServiceServicer_to_server(
            OpenAIServicer(completions=completions, router=router, clock=clock), server.grpc
        )
        server.add_check("database", database.check)
        for name, address in (
            ("router", settings.router_address),
            ("context", settings.context_address),
            ("moderation", settings.moderation_address),
            ("usage", settings.usage_address),
        ):
            server.add_check(name, check_health(channels.channel(address)))

        await turn_store.fail_orphans(own=True)
        # What an earlier life of this process did not get to send.
        outbox.wake()
        background.start(pacer.watch(), moderation.run(), outbox.run(), turns.keep_leases())
        server.on_drain(turns.drain)
        server.on_drain(completions.drain)
        await server.run()
        await outbox.flush()
        await inference.close()


if __name__ == "__main__":
    launch(ConversationSettings, main, service="conversation")
