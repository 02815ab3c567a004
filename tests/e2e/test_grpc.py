"""A gRPC client that knows nothing but the address: it learns the contracts by reflection, and chats."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.mesh_process import MeshProcess

SERVICE = "chatmesh.conversation.v1.ConversationService"


def test_a_client_by_reflection_chats(mesh: MeshProcess) -> None:
    token = mesh.token(user="reflection")
    with grpc.insecure_channel(mesh.grpc_target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {SERVICE, "chatmesh.conversation.v1.OpenAIService"} <= set(database.get_services())
        service: Any = DescriptorPool(database).FindServiceByName(SERVICE)

        def call(name: str, **fields: Any) -> Any:
            method = service.methods_by_name[name]
            request = GetMessageClass(method.input_type)(**fields)
            kind = channel.unary_stream if method.server_streaming else channel.unary_unary
            stub: Any = kind(
                f"/{SERVICE}/{name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            return stub(request, timeout=60, metadata=(("authorization", f"Bearer {token}"),))

        conversation = call("CreateConversation", title="by reflection")
        events = list(call("StreamMessage", conversation_id=conversation.id, content="Hello!"))
        assert "".join(event.delta.text for event in events) == events[-1].completed.message.content != ""


def test_who_has_no_token_is_limited_by_address(mesh: MeshProcess) -> None:
    with grpc.insecure_channel(mesh.grpc_target) as channel:
        check: Any = HealthStub(channel).Check

        def code() -> grpc.StatusCode:
            try:
                check(HealthCheckRequest(), timeout=10)
            except grpc.RpcError as error:
                refused: Any = error
                found: grpc.StatusCode = refused.code()
                return found
            return grpc.StatusCode.OK

        codes = [code() for _ in range(200)]
    assert codes[0] is grpc.StatusCode.OK
    assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
