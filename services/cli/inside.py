"""A mesh from inside: its Router, Conversation and Moderation processes, asked directly. What they tell is for
operators, and the edge does not lead to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from chatmesh.conversation.v1 import experiment_service_pb2, experiment_service_pb2_grpc
from chatmesh.moderation.v1 import review_service_pb2, review_service_pb2_grpc
from chatmesh.router.v1 import fleet_pb2, router_service_pb2, router_service_pb2_grpc
from services.cli.errors import CliError
from services.cli.state import MeshRecord, read_state
from services.runtime.client import ChannelPool, call_unary, watch
from services.runtime.errors import DomainError, from_rpc_error

if TYPE_CHECKING:
    from chatmesh.moderation.v1.review_service_pb2_grpc import ReviewServiceAsyncStub
    from services.cli.settings import CliSettings

TIMEOUT_S = 15.0


def find_process(settings: CliSettings, *, service: str, given: str) -> str:
    """The gRPC address of a service: the one that was given, or that of the local mesh.

    Raises:
        CliError: there is none.
    """
    if given:
        return given
    if settings.url:
        raise CliError(
            f"CHATMESH_URL names another mesh; say where its {service} is: --{service} HOST:PORT", exit_code=2
        )
    record = read_state(settings.home.state_file)
    if record is None or not record.supervisor.is_alive():
        raise CliError(
            f"no mesh runs in {settings.home.root}; start one with `chatmesh up`, or say where the {service} of a "
            f"running one is: --{service} HOST:PORT"
        )
    return _address(record, service)


def _address(record: MeshRecord, service: str) -> str:
    for process in record.processes:
        name, _, number = process.name.partition("-")
        alive = process.process is not None and process.process.is_alive()
        if name == service and (not number or number.isdigit()) and alive:
            return process.address
    raise CliError(f"the {service} of this mesh is just starting; try again in a moment")


async def list_models(address: str) -> router_service_pb2.ListModelsResponse:
    """The models and aliases as the Router knows them.

    Raises:
        CliError: it does not answer.
    """
    async with _channel(address) as channel:
        stub = router_service_pb2_grpc.RouterServiceStub(channel)
        return await call_unary(
            stub.ListModels, router_service_pb2.ListModelsRequest(), timeout_s=TIMEOUT_S, service="router"
        )


async def watch_fleet(address: str, *, interval_ms: int) -> AsyncGenerator[fleet_pb2.WatchFleetResponse, None]:
    """The fleet as the Router sees it, again and again until the Router ends it.

    Raises:
        CliError: it does not answer, or the stream breaks.
    """
    async with _channel(address) as channel:
        stub = router_service_pb2_grpc.RouterServiceStub(channel)
        stream = watch(stub.WatchFleet, fleet_pb2.WatchFleetRequest(interval_ms=interval_ms))
        try:
            shown = aiter(stream)
            while True:
                try:
                    async with asyncio.timeout(TIMEOUT_S + interval_ms / 1000):
                        fleet = await anext(shown)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise CliError("the router does not answer in time") from error
                yield fleet
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="router") from error
        finally:
            stream.cancel()


async def experiment_results(
    address: str, *, experiment: str, since: datetime | None
) -> experiment_service_pb2.GetExperimentResultsResponse:
    """What an experiment has shown.

    Raises:
        CliError: the service does not answer.
    """
    request = experiment_service_pb2.GetExperimentResultsRequest(experiment=experiment, since=since)
    async with _channel(address) as channel:
        stub = experiment_service_pb2_grpc.ExperimentServiceStub(channel)
        return await call_unary(stub.GetExperimentResults, request, timeout_s=TIMEOUT_S, service="conversation")


@asynccontextmanager
async def review_queue(address: str) -> AsyncIterator[ReviewServiceAsyncStub]:
    """The review queue, for as long as the block lasts.

    Raises:
        CliError: it does not answer, or refuses what the block asks.
    """
    async with _channel(address) as channel:
        yield review_service_pb2_grpc.ReviewServiceStub(channel)


async def exported_decisions(
    address: str, request: review_service_pb2.ExportDecisionsRequest
) -> AsyncGenerator[review_service_pb2.TrainingRow, None]:
    """Decisions as training data.

    Raises:
        CliError: the service does not answer, or the stream breaks.
    """
    async with review_queue(address) as stub:
        stream = watch(stub.ExportDecisions, request)
        try:
            parts = aiter(stream)
            while True:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        part = await anext(parts)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise CliError("moderation does not answer in time") from error
                for row in part.rows:
                    yield row
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="moderation") from error
        finally:
            stream.cancel()


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    try:
        async with ChannelPool() as channels:
            yield channels.channel(address)
    except DomainError as error:
        raise CliError(f"{address}: {error.message}") from error
