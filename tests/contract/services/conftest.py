"""pytest-grpc's stubs, pointed at the real processes of a running mesh instead of a server inside the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.mesh_process import MeshProcess

Refusal = tuple[grpc.StatusCode, str, dict[str, str]]


@pytest.fixture(scope="module")
def grpc_server() -> None:
    """Nothing to start: the mesh runs it."""


@pytest.fixture(scope="module")
def grpc_addr(mesh: MeshProcess, request: pytest.FixtureRequest) -> str:
    """The port of the process that the module names in `SERVICE`."""
    address: str = mesh.status()[request.module.SERVICE]["address"]
    return address


@pytest.fixture(scope="module")
def grpc_stub_cls(request: pytest.FixtureRequest) -> Any:
    """The stub that the module names in `STUB`."""
    return request.module.STUB


@pytest.fixture
def refusal() -> Callable[..., Refusal]:
    """Calls a method that must be refused; gives the code, the reason, and its metadata."""

    def call(method: Any, request: Any, **options: Any) -> Refusal:
        with pytest.raises(grpc.RpcError) as caught:
            method(request, timeout=10, **options)
        error: Any = caught.value
        info = error_details_pb2.ErrorInfo()
        for key, value in error.trailing_metadata():
            if key == "grpc-status-details-bin":
                for detail in status_pb2.Status.FromString(value).details:
                    detail.Unpack(info)
        assert info.domain == "chatmesh"
        return error.code(), info.reason, dict(info.metadata)

    return call
