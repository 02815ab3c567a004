"""Export and import: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.api import httpbody_pb2

from chatmesh.conversation.v1 import transfer_service_pb2
from chatmesh.conversation.v1.transfer_service_pb2_grpc import TransferServiceServicer
from services.conversation.transfer.exporter import Exporter
from services.conversation.transfer.importer import Importer
from services.conversation.transfer_convert import form_from_pb, parts_from_pb, report_to_pb
from services.runtime.identity import require_identity

Context = grpc.aio.ServicerContext


class TransferServicer(TransferServiceServicer):
    """`chatmesh.conversation.v1.TransferService`."""

    def __init__(self, *, exporter: Exporter, importer: Importer) -> None:
        self._exporter = exporter
        self._importer = importer

    async def ExportConversations(
        self, request: transfer_service_pb2.ExportConversationsRequest, context: Context[Any, Any]
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        form = form_from_pb(request.format)
        async for part in self._exporter.export(
            user_id=require_identity().user_id, conversation_id=request.conversation_id, form=form
        ):
            yield httpbody_pb2.HttpBody(content_type=form.value, data=part)

    async def ImportConversations(
        self, request: AsyncIterator[httpbody_pb2.HttpBody], context: Context[Any, Any]
    ) -> transfer_service_pb2.ImportConversationsResponse:
        report = await self._importer.import_file(user_id=require_identity().user_id, parts=parts_from_pb(request))
        return report_to_pb(report)
