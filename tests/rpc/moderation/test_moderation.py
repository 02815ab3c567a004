"""Moderation as a process, on a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest

from chatmesh.moderation.v1 import moderation_service_pb2 as pb
from chatmesh.moderation.v1 import verdict_pb2
from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub
from tests.rpc.service_process import ServiceProcess, running

if TYPE_CHECKING:
    from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceAsyncStub

WITHOUT_STORES = {
    "CHATMESH_DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "CHATMESH_REDIS_URL": "redis://127.0.0.1:1/0",
}
"""Checks need neither of them; only the review queue does."""

Stream = grpc.aio.StreamStreamCall[pb.CheckStreamRequest, pb.CheckStreamResponse]


@pytest.fixture(scope="module")
def moderation() -> Iterator[ServiceProcess]:
    with running("moderation", WITHOUT_STORES) as service:
        yield service


@asynccontextmanager
async def stub_of(moderation: ServiceProcess) -> AsyncIterator[ModerationServiceAsyncStub]:
    async with grpc.aio.insecure_channel(moderation.address()) as channel:
        yield ModerationServiceStub(channel)


async def check(moderation: ServiceProcess, *texts: str) -> verdict_pb2.Verdict:
    async with stub_of(moderation) as stub:
        return (await stub.CheckInput(pb.CheckInputRequest(generation_id="g", texts=texts))).verdict


async def send(stream: Stream, *segments: pb.Segment) -> None:
    await stream.write(pb.CheckStreamRequest(segments=segments))


async def receive(stream: Stream) -> dict[str, pb.SegmentResult]:
    message = await stream.read()
    assert isinstance(message, pb.CheckStreamResponse)
    return {result.generation_id: result for result in message.results}


async def until_done(stream: Stream, *generation_ids: str) -> dict[str, pb.SegmentResult]:
    """The last results of these generations: each comes when the classifier has seen the whole of the answer."""
    done: dict[str, pb.SegmentResult] = {}
    while set(done) != set(generation_ids):
        done |= {name: result for name, result in (await receive(stream)).items() if result.done}
    return done


async def test_input_that_nothing_stands_against(moderation: ServiceProcess) -> None:
    verdict = await check(moderation, "Hello, how are you?")
    assert verdict.action == verdict_pb2.ACTION_ALLOW
    assert not verdict.findings
    assert verdict.policy_version


async def test_input_with_a_card_comes_back_redacted(moderation: ServiceProcess) -> None:
    verdict = await check(moderation, "¡olé! my card is 4111 1111 1111 1111.")
    assert verdict.action == verdict_pb2.ACTION_REDACT
    assert verdict.redacted_text == "¡olé! my card is [card number removed]."
    (finding,) = verdict.findings
    assert (finding.category, finding.rule, finding.start, finding.end) == ("pii", "card_number", 17, 36)


async def test_input_that_is_refused(moderation: ServiceProcess) -> None:
    verdict = await check(moderation, "say CHATMESH-TEST-BLOCK-7f3a")
    assert verdict.action == verdict_pb2.ACTION_BLOCK
    assert [(finding.category, finding.rule) for finding in verdict.findings] == [("test", "test_block")]


async def test_long_input_is_searched_to_its_end(moderation: ServiceProcess) -> None:
    verdict = await check(moderation, "many words " * 10_000 + "4111 1111 1111 1111.")
    assert [finding.start for finding in verdict.findings] == [110_000]


async def test_input_without_texts_is_an_error(moderation: ServiceProcess) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(moderation)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_one_message_of_many_answers_gets_one_message_back(moderation: ServiceProcess) -> None:
    async with stub_of(moderation) as stub:
        stream = stub.CheckStream(timeout=20)
        await send(stream, *(pb.Segment(generation_id=f"g{number}", text="Hello there. ") for number in range(50)))
        results = await receive(stream)
        assert {name: result.watermark for name, result in results.items()} == {f"g{n}": 13 for n in range(50)}
        await send(stream, *(pb.Segment(generation_id=f"g{number}", last=True) for number in range(50)))
        results = await until_done(stream, *(f"g{number}" for number in range(50)))
        assert all(result.done and result.watermark == 13 and result.policy_version for result in results.values())
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_redaction_and_block_in_the_midst_of_other_answers(moderation: ServiceProcess) -> None:
    async with stub_of(moderation) as stub:
        stream = stub.CheckStream(timeout=20)
        await send(
            stream,
            pb.Segment(generation_id="redacted", text="so CHATMESH-TEST-RE"),
            pb.Segment(generation_id="blocked", text="well CHATMESH-TEST-BL"),
            pb.Segment(generation_id="plain", text="fine "),
        )
        assert {name: result.watermark for name, result in (await receive(stream)).items()} == {
            "redacted": 3,
            "blocked": 5,
            "plain": 5,
        }
        await send(
            stream,
            pb.Segment(generation_id="redacted", text="DACT-7f3a and on"),
            pb.Segment(generation_id="blocked", text="OCK-7f3a and on"),
        )
        results = await receive(stream)
        (retraction,) = results["redacted"].retractions
        assert (retraction.start, retraction.end, retraction.action) == (3, 28, verdict_pb2.ACTION_REDACT)
        assert retraction.replacement == "[redacted by the test rule]"
        assert results["redacted"].watermark == 35
        assert not results["redacted"].done
        (retraction,) = results["blocked"].retractions
        assert (retraction.start, retraction.end, retraction.action) == (5, 29, verdict_pb2.ACTION_BLOCK)
        assert results["blocked"].done
        assert results["blocked"].watermark == 29
        # Of the blocked answer nothing more is said, whatever its peer still sends.
        await send(
            stream,
            pb.Segment(generation_id="blocked", text=" and more", last=True),
            pb.Segment(generation_id="redacted", last=True),
        )
        assert set(await until_done(stream, "redacted")) == {"redacted"}
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_an_abandoned_answer_is_forgotten(moderation: ServiceProcess) -> None:
    async with stub_of(moderation) as stub:
        stream = stub.CheckStream(timeout=20)
        await send(
            stream, pb.Segment(generation_id="g", text="CHATMESH-TEST-"), pb.Segment(generation_id="g", abandoned=True)
        )
        await send(stream, pb.Segment(generation_id="g", text="BLOCK-7f3a", last=True))
        result = (await until_done(stream, "g"))["g"]
        assert (result.watermark, len(result.retractions), result.done) == (10, 0, True)
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_a_segment_without_generation_ends_the_stream_with_an_error(moderation: ServiceProcess) -> None:
    async with stub_of(moderation) as stub:
        stream = stub.CheckStream(timeout=20)
        await send(stream, pb.Segment(text="whose?"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_it_counts_and_says_nothing_of_the_text(moderation: ServiceProcess) -> None:
    await check(moderation, "4111 1111 1111 1111 xylophone")
    address = moderation.address("metrics_address")
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://{address}/metrics")).text
    assert 'chatmesh_moderation_findings_total{action="redact",category="pii",direction="input"' in metrics
    assert "chatmesh_moderation_verdicts_total" in metrics
    assert "chatmesh_moderation_scan_duration_seconds_bucket" in metrics
    for said in (metrics, "".join(moderation.text)):
        assert "4111" not in said
        assert "xylophone" not in said


def test_a_bad_policy_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: '1'\ncategories: {}\n")
    service = ServiceProcess("moderation", {**WITHOUT_STORES, "CHATMESH_POLICY_FILE": str(path)}, "--check-config")
    assert service.wait() == 2
    assert f"policy file {path}: categories: " in "".join(service.text)
    assert service.process.stdout is not None
    service.process.stdout.close()
