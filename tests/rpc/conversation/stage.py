"""The Conversation process and everything around it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
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
class Node:
    """One process of the service."""

    service: ServiceProcess
    channel: grpc.aio.Channel = field(init=False)
    killed: bool = False
    complains: bool = False
    """Whether it may log errors."""

    def signal(self, number: int) -> None:
        self.service.process.send_signal(number)

    async def kill(self) -> None:
        """Kill it, as the machine does that runs out of memory."""
        self.killed = True
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self.service.wait)

    def pause(self) -> None:
        """Take its time away."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)


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
    environment: dict[str, str] = field(default_factory=dict)
    node: Node = field(init=False)

    @property
    def service(self) -> ServiceProcess:
        return self.node.service

    @property
    def channel(self) -> grpc.aio.Channel:
        return self.node.channel

    @property
    def peers(self) -> tuple[Any, ...]:
        return self.usage, self.moderation, self.router, self.context, self.engine, self.other_engine

    @property
    def methods(self) -> tuple[Method, ...]:
        """What is asked before a turn begins."""
        return self.usage.acquire, self.moderation.check_input, self.router.route, self.context.assemble

    @asynccontextmanager
    async def another(self, **settings: object) -> AsyncIterator[Node]:
        """Another process, with the same peers, database and Redis."""
        node = Node(ServiceProcess("conversation", self.environment | _environment(settings)))
        try:
            # In a thread: it is the fakes, on this loop, that it waits for.
            address = await asyncio.to_thread(node.service.address)
            async with grpc.aio.insecure_channel(address) as node.channel:
                yield node
        finally:
            if not node.killed:
                node.resume()
            code = await asyncio.to_thread(node.service.stop)
            assert node.service.process.stdout is not None
            node.service.process.stdout.close()
        assert node.killed or code == 0, "".join(node.service.text)
        errors = [line for line in node.service.lines if line.get("level") == "error"]
        assert node.complains or not errors, errors

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
async def running_stage(database_url: str, redis_url: str, **settings: object) -> AsyncIterator[Stage]:
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
    stage.environment = {
        "CHATMESH_DATABASE_URL": database_url,
        "CHATMESH_REDIS_URL": redis_url,
        # No generation but those that a test asks for.
        "CHATMESH_TITLE_MODEL": "",
        "CHATMESH_ROUTER_ADDRESS": stage.router.address,
        "CHATMESH_CONTEXT_ADDRESS": stage.context.address,
        "CHATMESH_MODERATION_ADDRESS": stage.moderation.address,
        "CHATMESH_USAGE_ADDRESS": stage.usage.address,
    }
    try:
        async with stage.another(**settings) as stage.node:
            yield stage
    finally:
        for peer in stage.peers:
            await peer.stop()


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"CHATMESH_{name.upper()}": str(value) for name, value in settings.items()}
