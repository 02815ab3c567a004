"""Between the contract of transfers and what transfers are made of."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from google.api import httpbody_pb2

from chatmesh.conversation.v1 import transfer_service_pb2
from services.conversation.transfer.exporter import ExportForm
from services.conversation.transfer.importer import ImportReport


def form_from_pb(form: int) -> ExportForm:
    """As received."""
    markdown = form == int(transfer_service_pb2.EXPORT_FORMAT_MARKDOWN)
    return ExportForm.MARKDOWN if markdown else ExportForm.JSON


async def parts_from_pb(bodies: AsyncIterable[httpbody_pb2.HttpBody]) -> AsyncIterator[bytes]:
    """As received."""
    async for body in bodies:
        yield body.data


def report_to_pb(report: ImportReport) -> transfer_service_pb2.ImportConversationsResponse:
    """As sent."""
    return transfer_service_pb2.ImportConversationsResponse(
        imported=report.imported,
        skipped=report.skipped,
        messages=report.messages,
        problems=[
            transfer_service_pb2.ImportProblem(index=problem.index, title=problem.title, message=problem.message)
            for problem in report.problems
        ],
    )
