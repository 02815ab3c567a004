"""How RPCs are served and called."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from chatmesh.errors.v1 import errors_pb2
from services.runtime.errors import CODES, Reason
from tests.architecture.tree import Module, modules, rpc_services

# The command line calls through the edge, as any client does.
CALLERS = {"runtime", "cli"}


def calls(module: Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))


def test_one_place_makes_servers() -> None:
    places = [
        f"{module.name}:{call.lineno}"
        for module in modules()
        for call in calls(module)
        if ast.unparse(call.func).endswith("aio.server")
    ]
    assert len(places) == 1, places


def test_stub_methods_are_called_by_the_runtime_only() -> None:
    names = {method.name for service in rpc_services().values() for method in service.method}
    direct = [
        f"{module.name}:{call.lineno} calls {ast.unparse(call.func)}"
        for module in modules()
        if module.service not in CALLERS
        for call in calls(module)
        if isinstance(call.func, ast.Attribute) and call.func.attr in names
    ]
    assert not direct, "pass the method to call_unary, open_stream or watch: they carry deadline, identity and trace"


@pytest.mark.parametrize("name", sorted(rpc_services()))
def test_every_rpc_is_implemented(name: str) -> None:
    service = rpc_services()[name]
    folder = name.split(".")[1]
    servicers = [
        node
        for module in modules()
        if module.service == folder
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).split("[")[0].endswith(f"{service.name}Servicer") for base in node.bases)
    ]
    assert len(servicers) == 1, f"one class of services/{folder} implements {name}"
    defined = {node.name for node in servicers[0].body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    missing = {method.name for method in service.method} - defined
    assert not missing, f"{servicers[0].name} leaves these to the generated UNIMPLEMENTED"


def test_the_catalogue_of_errors_is_the_same_in_python_and_in_the_contract() -> None:
    prefix = "ERROR_REASON_"
    contract = {value.name.removeprefix(prefix) for value in errors_pb2.ErrorReason.DESCRIPTOR.values} - {"UNSPECIFIED"}
    assert {reason.value for reason in Reason} == contract
    assert set(CODES) == set(Reason)
