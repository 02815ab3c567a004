"""The Conversation process and everything around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from chatmesh.inference.v1.generation_pb2 import GenerationStart
from tests.rpc.conversation.peers import FakeContext, FakeRouter, FakeUsage, assembled, granted, routed
from tests.rpc.conversation.scripted import Method, eventually
from tests.rpc.conversation.streams import FakeEngine, FakeModeration, allowed
from tests.rpc.conversation.user import Reader, User
from tests.rpc.service_process import ServiceProcess


@dataclass
class Stage:
    """One process and its peers. `engine` is the replica that is chosen unless the test says otherwise."""

    journal: list[str]
    usage: FakeUsage
    moderation: FakeModeration
    router: FakeRouter
    context: FakeContext
    engine: FakeEngine
    other_engine: FakeEngine
    service: ServiceProcess = field(init=False)
    channel: grpc.aio.Channel = field(init=False)

    @property
    def peers(self) -> tuple[Any, ...]:
        return self.usage, self.moderation, self.router, self.context, self.engine, self.other_engine

    @property
    def methods(self) -> tuple[Method, ...]:
        """What is asked before a turn begins."""
        return self.usage.acquire, self.moderation.check_input, self.router.route, self.context.assemble

    async def user(self, **fields: Any) -> User:
        """A new user with a new conversation."""
        return await User(self.channel).begin(**fields)

    def prepare(self, content: str = "Hello", **replies: Any) -> None:
        """Queue what a turn asks for before it begins; several replies to one method as a tuple."""
        ordinary = {
            "acquire": granted(),
            "check_input": allowed(),
            "route": self.to(self.engine),
            "assemble": assembled(content),
        }
        for method, reply in zip(self.methods, (ordinary | replies).values(), strict=True):
            method.queue(*reply if isinstance(reply, tuple) else (reply,))

    def to(self, engine: FakeEngine) -> Any:
        return routed(engine.address, engine.replica_id)

    async def turn(self, user: User, content: str = "Hello", **fields: Any) -> tuple[Reader, GenerationStart]:
        """Begin a turn; returns its events and what the engine was told."""
        self.prepare(content)
        reader = user.stream(content, **fields)
        start = await self.engine.next_start()
        await reader.started()
        assert reader.generation_id == start.generation_id
        return reader, start

    async def serving_again(self) -> None:
        """Wait until the process has noticed that a peer was gone, and that it is back."""

        def is_serving() -> bool:
            lost, serving = (self.service.logged(message) for message in ("not serving", "serving"))
            return 0 < len(lost) < len(serving)

        await eventually(is_serving, "the process is serving again")

    async def end_streams(self) -> None:
        """End the multiplexed streams between turns, so that the next turn is the one that opens them."""
        for peer in (self.engine, self.other_engine, self.moderation):
            for life in peer.lives[-1:]:
                peer.break_off(grpc.StatusCode.UNAVAILABLE)
                await life.over.wait()

    async def check(self) -> None:
        """What must hold after every test."""
        unfinished = [id_ for engine in (self.engine, self.other_engine) for id_ in engine.running]
        for engine in (self.engine, self.other_engine):
            # So that a test that failed in the middle of a turn takes no other with it.
            for generation_id in list(engine.running):
                self.moderation.clears = True
                engine.finish(generation_id)
        for method in self.methods:
            assert method.waiting == 0, f"nothing asked for {method.waiting} replies of {method.name}"
            assert method.unexpected == 0, f"{method.name} was called without a reply"
        assert not self.moderation.broken
        for engine in (self.engine, self.other_engine):
            assert engine.unseen.empty(), f"{engine.replica_id} was told to start what the test does not know of"
        assert not unfinished
        usage = self.usage
        await eventually(lambda: usage.granted <= usage.ledger.keys(), "all that was reserved is settled")

    def forget(self) -> None:
        """Before the next test."""
        self.journal.clear()
        for peer in (self.usage, self.moderation, self.context, self.engine, self.other_engine):
            peer.forget()
        self.router.route.forget()


@asynccontextmanager
async def running_stage(database_url: str, **settings: object) -> AsyncIterator[Stage]:
    """Start the process and its peers. `settings` are those of the service."""
    journal: list[str] = []
    stage = Stage(
        journal,
        FakeUsage(journal),
        FakeModeration(journal),
        FakeRouter(journal),
        FakeContext(journal),
        FakeEngine("replica-a", journal),
        FakeEngine("replica-b", journal),
    )
    for peer in stage.peers:
        await peer.start()
    stage.service = ServiceProcess(
        "conversation",
        {
            "CHATMESH_DATABASE_URL": database_url,
            "CHATMESH_ROUTER_ADDRESS": stage.router.address,
            "CHATMESH_CONTEXT_ADDRESS": stage.context.address,
            "CHATMESH_MODERATION_ADDRESS": stage.moderation.address,
            "CHATMESH_USAGE_ADDRESS": stage.usage.address,
            **{f"CHATMESH_{name.upper()}": str(value) for name, value in settings.items()},
        },
    )
    try:
        # In a thread: it is the fakes, on this loop, that it waits for.
        address = await asyncio.to_thread(stage.service.address)
        async with grpc.aio.insecure_channel(address) as stage.channel:
            yield stage
    finally:
        code = await asyncio.to_thread(stage.service.stop)
        assert stage.service.process.stdout is not None
        stage.service.process.stdout.close()
        for peer in stage.peers:
            await peer.stop()
    assert code == 0, "".join(stage.service.text)
    assert not [line for line in stage.service.lines if line.get("level") == "error"]
