"""The Inference service as a process."""

from __future__ import annotations

import asyncio
from functools import partial

from chatmesh.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from services.inference.engines.catalogue import ENGINES
from services.inference.instruments import Instruments
from services.inference.loading import choose_models
from services.inference.model_runner import ModelRunner
from services.inference.replica import Replica
from services.inference.service import InferenceService
from services.inference.settings import InferenceSettings
from services.inference.slots import Slots
from services.runtime.clock import SystemClock
from services.runtime.model_registry import ModelRegistry
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry
from services.runtime.validation import Validator

SERVICE = "inference"


async def main(settings: InferenceSettings) -> None:
    """Serve until told to stop."""
    registry = ModelRegistry.load(settings.models_file)
    entries = choose_models(registry, names=settings.inference_models, pool=settings.pool, engines=ENGINES)
    engines = [(entry, ENGINES[entry.engine](entry)) for entry in entries]
    with Telemetry.start(SERVICE, settings) as telemetry:
        instruments = Instruments(telemetry)
        replica = Replica(
            replica_id=settings.replica,
            pool=settings.pool,
            zone=settings.zone,
            region=settings.region,
            instruments=instruments,
        )
        clock = SystemClock()
        for entry, engine in engines:
            replica.add(
                ModelRunner(
                    entry=entry,
                    engine=engine,
                    slots=Slots(
                        model=entry.name,
                        slots=entry.slots,
                        queue_limit=settings.inference_queue_limit,
                        queue_timeout_s=settings.inference_queue_timeout_s,
                        oldest_every=settings.inference_oldest_every,
                        clock=clock,
                        on_refused=partial(instruments.overloaded, entry.name),
                    ),
                    clock=clock,
                    instruments=instruments,
                    on_change=replica.changed,
                )
            )
        name = inference_service_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name
        server = Server(settings=settings, service=SERVICE, telemetry=telemetry, public_services=[name])
        inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(
            InferenceService(replica=replica, validator=Validator()), server.grpc
        )
        server.add_check("models", replica.check)
        server.on_drain(lambda: replica.drain(settings.drain_grace_s))
        loading = asyncio.create_task(replica.start(), name="loading")
        loading.add_done_callback(lambda task: server.stop() if task.cancelled() or task.exception() else None)
        try:
            await server.run()
            if loading.done():
                await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await replica.close()


if __name__ == "__main__":
    launch(InferenceSettings, main, service=SERVICE)
