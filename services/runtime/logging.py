"""JSON logs, one object a line. The text of users never goes here: log ids, counts and reasons."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from opentelemetry import trace

from services.runtime.identity import current_scope

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, service, message, request and trace ids, and `extra` as given."""

    def __init__(self, *, service: str, replica: str) -> None:
        super().__init__()
        self._fixed = {"service": service, "replica": replica}

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._fixed,
            "logger": record.name,
            "message": record.getMessage(),
        }
        scope = current_scope()
        if scope.request_id:
            entry["request_id"] = scope.request_id
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry["trace_id"] = f"{span.trace_id:032x}"
        entry.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[0] is not None:
            # Where, not what: the text of an exception may quote the text of a user or a secret.
            kind, _, frames = record.exc_info
            entry["exception"] = kind.__qualname__
            entry["stack"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(frames)]
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure_logging(*, service: str, level: str, replica: str) -> None:
    """Send all logs of the process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service=service, replica=replica))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "asyncio", "grpc._cython"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
