"""Who may import what."""

from __future__ import annotations

import re

from tests.architecture.tree import modules

SHARED = "runtime"
# A folder with two services has a file for each, such as openai_service.py.
PROTOBUF_FILES = ("service.py", "convert.py", "__main__.py")
PROTOBUF_FOLDERS = {SHARED, "cli"}
MESSAGES = re.compile(r"\w+_pb2(\.|$)")
STUBS = re.compile(r"\w+_pb2_grpc(\.|$)")


def test_services_do_not_import_each_other() -> None:
    crossings = [
        f"{module.name}:{line} imports {name}"
        for module in modules()
        for line, name in module.imports()
        if name.startswith("services.") and name.split(".")[1] not in {module.service, SHARED}
    ]
    assert not crossings, "services share the runtime and the contracts only"


def test_protobuf_messages_stay_at_the_border() -> None:
    inside = [
        f"{module.name}:{line} imports {name}"
        for module in modules()
        for line, name in module.imports()
        if MESSAGES.search(name)
        and module.service not in PROTOBUF_FOLDERS
        and not module.path.name.endswith(PROTOBUF_FILES)
    ]
    assert not inside, f"messages are converted in {PROTOBUF_FILES}, the rest has a model of its own"


def test_stubs_stand_only_beside_the_client_runtime() -> None:
    bare = [
        module.name
        for module in modules()
        if module.service not in PROTOBUF_FOLDERS
        and not module.path.name.endswith(PROTOBUF_FILES)
        and any(STUBS.search(name) for _, name in module.imports())
        and not any(name.startswith("services.runtime.client.") for _, name in module.imports())
    ]
    assert not bare, "a file that has a stub calls through services.runtime.client"


def test_the_rules_see_the_services() -> None:
    assert {"conversation", "context", "router", "moderation", "inference", "usage", "runtime"} <= {
        module.service for module in modules()
    }
    assert any(MESSAGES.search(name) for module in modules() for _, name in module.imports())
    assert any(STUBS.search(name) for module in modules() for _, name in module.imports())
