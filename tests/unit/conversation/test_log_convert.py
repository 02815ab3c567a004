"""Logs as Redis keeps them, written by servers of other versions, too."""

from __future__ import annotations

from typing import Any

from chatmesh.conversation.v1 import generation_log_pb2
from services.conversation.generation_log import Delta, Entry, Failed, Notice, NoticeKind, merge
from services.conversation.log_convert import entries_from_bytes, entries_to_bytes
from services.conversation.model import ErrorSummary

_UNKNOWN_FIELD = b"\xfa\x7f\x00"
"""Field 2047, of no bytes."""


def test_what_a_newer_server_wrote_is_passed_over() -> None:
    unknown: Any = 99
    logged = generation_log_pb2.GenerationLogEntry()
    for seq in range(1, 5):
        logged.events.add().event.seq = seq
    logged.events[0].event.delta.text = "a"
    logged.events[1].event.notice.kind = unknown
    logged.events[2].event.MergeFromString(_UNKNOWN_FIELD)
    logged.events[3].event.delta.text = "b"
    entries = entries_from_bytes(logged.SerializeToString())
    # Their positions are taken.
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert merge(entries) == [Entry(4, Delta("ab"), entries[3].epoch)]


def test_what_is_known_is_read_as_it_was_written() -> None:
    entries = [Entry(1, Delta("a")), Entry(2, Notice(NoticeKind.OWNER_REPLACED))]
    assert [entry.event for entry in entries_from_bytes(entries_to_bytes(entries))][1:] == [entries[1].event]


def test_an_error_keeps_when_to_try_again() -> None:
    for retry_after_s in (None, 0.0, 2.5):
        summary = ErrorSummary("RESOURCE_EXHAUSTED", "OVERLOADED", "Busy.", {"model": "small"}, retry_after_s)
        [entry] = entries_from_bytes(entries_to_bytes([Entry(1, Failed(summary, None))]))
        assert entry.event == Failed(summary, None)
