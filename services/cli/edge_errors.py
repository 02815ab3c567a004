"""What the edge answers when it refuses a request itself: the table in `envoy/errors.yaml`, ready for the template."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from services.runtime.errors import DOMAIN


@dataclass(frozen=True, slots=True)
class LocalError:
    """One entry of errors.yaml in the forms that the template needs."""

    range: Sequence[tuple[str, int]]
    """Comparisons with Envoy's status that must all hold."""
    path: str
    """What the path begins with; empty for any."""
    http: int | None
    """Status to answer with, when it is another one."""
    message: str
    details_bin: str
    """The `google.rpc.Status` for gRPC callers, in base64; empty where Envoy's code is not known."""
    retry_after: int | None
    native_body: Mapping[str, Any]
    openai_body: Mapping[str, Any]
    """Like native_body an Envoy JSON format: `%...%` is replaced."""


def local_errors(path: Path, *, limits: Mapping[str, int]) -> list[LocalError]:
    """The entries of the file at `path`, whose messages name `limits`, such as `{max_body_bytes}`."""
    return [_local_error(entry, limits) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def _local_error(entry: Mapping[str, Any], limits: Mapping[str, int]) -> LocalError:
    message = str(entry["message"])
    for name, limit in limits.items():
        message = message.replace(f"{{{name}}}", str(limit))
    shown = message
    if entry.get("detail"):
        shown = f"{message} (%LOCAL_REPLY_BODY%)"
    if entry.get("route"):
        shown = f"No route: %REQ(:METHOD)% %PATH(NQ:ORIG_OR_PATH)%. {message}"
    info = error_details_pb2.ErrorInfo(reason=entry["reason"], domain=DOMAIN)
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=entry.get("grpc_code", 0), message=message, details=[packed])
    details: list[Mapping[str, Any]] = [
        {"@type": packed.type_url, "reason": entry["reason"], "domain": DOMAIN, "metadata": {}}
    ]
    if entry.get("rate_limit"):
        details[0] = {**details[0], "metadata": {"limit": "%RESP(X-RATELIMIT-LIMIT)%"}}
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "%RESP(RETRY-AFTER)%s"})
    openai = {"message": message, "type": entry["type"], "param": None, "code": entry["openai"]}
    return LocalError(
        range=_range(entry["status"]),
        path=entry.get("path", ""),
        http=entry.get("http"),
        message=message,
        details_bin=base64.b64encode(status.SerializeToString()).decode().rstrip("=") if status.code else "",
        retry_after=entry.get("retry_after"),
        native_body={"code": entry["code"], "message": shown, "details": details},
        openai_body={"error": {**openai, "message": shown}},
    )


def _range(status: int | str) -> Sequence[tuple[str, int]]:
    if isinstance(status, int):
        return [("EQ", status)]
    lowest = int(status[0]) * 100
    return [("GE", lowest), ("LE", lowest + 99)]
