"""The Conversation process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from chatmesh.conversation.v1.conversation_service_pb2_grpc import add_ConversationServiceServicer_to_server
from chatmesh.conversation.v1.experiment_service_pb2_grpc import add_ExperimentServiceServicer_to_server
from chatmesh.conversation.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from chatmesh.conversation.v1.openai_service_pb2_grpc import add_OpenAIServiceServicer_to_server
from chatmesh.conversation.v1.share_service_pb2_grpc import add_ShareServiceServicer_to_server
from chatmesh.conversation.v1.transfer_service_pb2_grpc import add_TransferServiceServicer_to_server
from chatmesh.conversation.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from services.conversation.appeals import Appeals
from services.conversation.completion import CompletionRunner
from services.conversation.converse import Converse
from services.conversation.embedding import Embedder
from services.conversation.experiment_service import ExperimentServicer
from services.conversation.experiment_store import ExperimentStore
from services.conversation.feedback_store import FeedbackStore
from services.conversation.fork_store import ForkStore
from services.conversation.generation_service import GenerationServicer
from services.conversation.generation_store import GenerationStore
from services.conversation.generator import Generator
from services.conversation.late_store import LateStore
from services.conversation.late_unstored import LateUnstored
from services.conversation.late_verdicts import LateVerdicts
from services.conversation.log_store import LogStore
from services.conversation.log_tail import LogTail
from services.conversation.log_writer import LogWriter
from services.conversation.message_store import MessageStore
from services.conversation.metrics import FeedbackMetrics, LateMetrics, TurnMetrics
from services.conversation.openai_service import OpenAIServicer
from services.conversation.ownership import Ownership
from services.conversation.peers.classification import ClassificationPeer
from services.conversation.peers.context import ContextPeer
from services.conversation.peers.conversation import ConversationPeers
from services.conversation.peers.embedding import EmbeddingPeers
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.peers.review import ReviewPeer
from services.conversation.peers.router import RouterPeer
from services.conversation.peers.usage import UsagePeer
from services.conversation.preparation import Preparation
from services.conversation.purge import Purger
from services.conversation.search_store import SearchStore
from services.conversation.service import ConversationServicer
from services.conversation.settings import ConversationSettings
from services.conversation.shadow import Shadows
from services.conversation.share_service import ShareServicer
from services.conversation.share_store import ShareStore
from services.conversation.stop import StopGeneration
from services.conversation.store import ConversationStore
from services.conversation.temporary import TemporaryChat
from services.conversation.titles import Titles
from services.conversation.transfer.exporter import Exporter
from services.conversation.transfer.importer import Importer
from services.conversation.transfer.transfer_store import TransferStore
from services.conversation.transfer_service import TransferServicer
from services.conversation.turn import TurnRunner
from services.conversation.turn_end import TurnEnding
from services.conversation.turn_store import TurnStore
from services.conversation.usage_outbox import UsageOutbox
from services.conversation.user_service import UserServicer
from services.conversation.user_store import UserStore
from services.conversation.watch import Watch
from services.runtime.background import Background
from services.runtime.client import ChannelPool, check_health
from services.runtime.clock import SystemClock, new_id
from services.runtime.database import Database
from services.runtime.migrations import migrate
from services.runtime.pacing import Pacer
from services.runtime.redis import connect_redis
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry

PUBLIC_SERVICES = (
    "chatmesh.conversation.v1.ConversationService",
    "chatmesh.conversation.v1.GenerationService",
    "chatmesh.conversation.v1.OpenAIService",
    "chatmesh.conversation.v1.ShareService",
    "chatmesh.conversation.v1.TransferService",
    "chatmesh.conversation.v1.UserService",
)


async def main(settings: ConversationSettings) -> None:
    """Wire the service and serve."""
    async with AsyncExitStack() as stack:
        telemetry = stack.enter_context(Telemetry.start("conversation", settings))
        await migrate(settings.database_url, schema="conversation", directory=Path(__file__).parent / "migrations")
        database = await stack.enter_async_context(
            Database(settings.database_url, max_size=settings.database_pool_size)
        )
        # What this server says of itself does not wait behind what users ask.
        leases = await stack.enter_async_context(Database(settings.database_url, max_size=2))
        redis = await stack.enter_async_context(connect_redis(settings.redis_url))
        channels = await stack.enter_async_context(ChannelPool())
        background = await stack.enter_async_context(Background())
        clock = SystemClock()
        pacer = Pacer()

        router = RouterPeer(channels.channel(settings.router_address), zone=settings.zone, region=settings.region)
        context = ContextPeer(channels.channel(settings.context_address))
        moderation = ModerationPeer(channels.channel(settings.moderation_address), pacer=pacer)
        usage = UsagePeer(channels.channel(settings.usage_address))
        inference = InferencePeers(channels)

        store = ConversationStore(
            database=database, clock=clock, delete_grace=timedelta(seconds=settings.delete_grace_s)
        )
        messages = MessageStore(database=database, clock=clock)
        forks = ForkStore(database=database, clock=clock)
        transfers = TransferStore(database=database)
        # One life of this process: after a restart it is another one, which takes over what this one leaves.
        owner = f"{settings.replica}/{new_id()[:8]}"
        turn_store = TurnStore(database=database, clock=clock, owner=owner)
        generations = GenerationStore(database=database, leases=leases, owner=owner, name=settings.replica)
        outbox = UsageOutbox(database=database, usage=usage, clock=clock)
        users = UserStore(database=database, clock=clock)
        review = ReviewPeer(channels.channel(settings.moderation_address))
        purger = Purger(database=database, usage=usage, review=review, redis=redis, clock=clock)
        preparation = Preparation(usage=usage, moderation=moderation, router=router, context=context)
        metrics = TurnMetrics(telemetry)
        experiments = ExperimentStore(database=database, clock=clock)
        shadows = Shadows(inference=inference, store=experiments, clock=clock)
        generator = Generator(
            preparation=preparation,
            inference=inference,
            moderation=moderation,
            shadows=shadows,
            metrics=metrics,
            first_token_timeout_s=settings.first_token_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
            recovery_timeout_s=settings.recovery_timeout_s,
        )
        completions = CompletionRunner(
            preparation=preparation,
            generator=generator,
            outbox=outbox,
            experiments=experiments,
            clock=clock,
            drain_grace_s=settings.drain_grace_s,
        )
        embedder = Embedder(
            usage=usage,
            moderation=moderation,
            router=router,
            inference=EmbeddingPeers(await stack.enter_async_context(ChannelPool())),
            outbox=outbox,
            clock=clock,
            drain_grace_s=settings.drain_grace_s,
        )
        titles = Titles(completions=completions, store=store, messages=messages, model=settings.title_model)

        logs = LogStore(redis)
        tail = LogTail(store=logs)
        writer = LogWriter(
            store=logs,
            on_gap=lambda generation_ids, gap: ownership.mark_gap(generation_ids, gap),
            confirm=lambda: ownership.confirm(),
        )
        watch = Watch(writer=writer, store=logs, tail=tail, generations=generations)
        turns = TurnRunner(
            store=turn_store,
            ending=TurnEnding(store=turn_store, outbox=outbox, clock=clock),
            preparation=preparation,
            generator=generator,
            writer=writer,
            watch=watch,
            clock=clock,
            drain_grace_s=settings.drain_grace_s,
            on_completed=titles.consider,
        )
        ownership = Ownership(
            generations=generations,
            store=turn_store,
            log_store=logs,
            turns=turns,
            watch=watch,
            generator=generator,
            metrics=metrics,
        )
        stop = StopGeneration(
            generations=generations, turns=turns, generator=generator, peers=ConversationPeers(channels), watch=watch
        )

        unstored = LateUnstored(redis=redis, completions=completions)
        late_verdicts = LateVerdicts(
            redis=redis,
            store=LateStore(database),
            logs=logs,
            stop=stop,
            unstored=unstored,
            metrics=LateMetrics(telemetry),
            name=owner,
        )

        server = Server(settings=settings, service="conversation", telemetry=telemetry, public_services=PUBLIC_SERVICES)
        add_ConversationServiceServicer_to_server(
            ConversationServicer(
                store=store,
                messages=messages,
                search=SearchStore(database=database),
                forks=forks,
                feedback=FeedbackStore(
                    database=database, clock=clock, messages=messages, metrics=FeedbackMetrics(telemetry)
                ),
                turns=turns,
                temporary=TemporaryChat(completions=completions, users=users, clock=clock),
                appeals=Appeals(messages=messages, review=review),
            ),
            server.grpc,
        )
        add_GenerationServiceServicer_to_server(
            GenerationServicer(
                generations=generations,
                watch=watch,
                stop=stop,
                converse=Converse(turns=turns, watch=watch, stop=stop, generations=generations),
            ),
            server.grpc,
        )
        add_OpenAIServiceServicer_to_server(
            OpenAIServicer(
                completions=completions,
                embedder=embedder,
                classification=ClassificationPeer(channels.channel(settings.moderation_address)),
                router=router,
                clock=clock,
            ),
            server.grpc,
        )
        add_ShareServiceServicer_to_server(
            ShareServicer(shares=ShareStore(database=database, clock=clock), forks=forks), server.grpc
        )
        add_TransferServiceServicer_to_server(
            TransferServicer(exporter=Exporter(store=transfers, clock=clock), importer=Importer(store=transfers)),
            server.grpc,
        )
        add_ExperimentServiceServicer_to_server(ExperimentServicer(store=experiments), server.grpc)
        add_UserServiceServicer_to_server(UserServicer(store=users, purger=purger, moderation=moderation), server.grpc)
        server.add_check("database", database.check)
        for name, address in (
            ("router", settings.router_address),
            ("context", settings.context_address),
            ("moderation", settings.moderation_address),
            ("usage", settings.usage_address),
        ):
            server.add_check(name, check_health(channels.channel(address)))

        # What an earlier life of this process did not get to send.
        outbox.wake()
        background.start(
            pacer.watch(),
            moderation.run(),
            outbox.run(),
            writer.run(),
            writer.probe(),
            tail.run(),
            purger.run(),
            late_verdicts.run(),
            unstored.run(),
        )
        await ownership.start()
        background.start(ownership.run())
        server.on_listening(lambda address: ownership.reachable_at(settings.advertise_address or address))
        server.on_drain(ownership.drain)
        server.on_drain(completions.drain)
        server.on_drain(embedder.drain)
        server.on_drain(titles.drain)
        server.on_drain(shadows.drain)
        await server.run()
        await outbox.flush()
        await inference.close()


if __name__ == "__main__":
    launch(ConversationSettings, main, service="conversation")
