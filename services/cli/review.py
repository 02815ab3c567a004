"""The review queue on a terminal: list, show, claim, release, decide, audit, export."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from chatmesh.moderation.v1 import review_service_pb2 as pb
from chatmesh.moderation.v1 import verdict_pb2
from services.cli.answer import printable
from services.cli.errors import CliError
from services.cli.inside import TIMEOUT_S, exported_decisions, review_queue
from services.cli.keys import parse_duration_s
from services.cli.status import table
from services.runtime.client import call_unary

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

_PAGE = 200
_LIST_HEAD = ("EVENT", "TIME", "FROM", "ACTION", "CATEGORY", "STATE", "USER", "TEXT", "APPEAL")
_SOURCE = "review"


def list_events(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
    """Print what moderation did."""
    events, more = asyncio.run(_listed(address, arguments, reviewer=reviewer))
    if arguments.json:
        print(json.dumps([as_json(event) for event in events], indent=2))
    else:
        print(render_list(events))
        if more:
            print(f"there are more; see them with --limit {2 * arguments.limit}", file=sys.stderr)
    return 0


def show_event(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
    """Print one event."""
    request = pb.GetEventRequest(reviewer=reviewer, event_id=arguments.event)

    async def ask() -> pb.Event:
        async with review_queue(address) as stub:
            return await call_unary(stub.GetEvent, request, timeout_s=TIMEOUT_S, service="moderation")

    return _print_event(asyncio.run(ask()), arguments)


def claim_event(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
    """Take an event and print it."""
    seconds = _seconds(arguments.lease, flag="--for")
    if not 1 <= seconds <= 86_400:
        raise CliError("--for: from 1s to 24h", exit_code=2)
    request = pb.ClaimEventRequest(reviewer=reviewer, event_id=arguments.event, lease_seconds=int(seconds))

    async def ask() -> pb.Event:
        async with review_queue(address) as stub:
            # Sent twice it might take two.
            return await call_unary(
                stub.ClaimEvent, request, timeout_s=TIMEOUT_S, service="moderation", idempotent=False
            )

    return _print_event(asyncio.run(ask()), arguments)


def release_event(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
    """Give a claimed event back."""
    request = pb.ReleaseEventRequest(reviewer=reviewer, event_id=arguments.event)

    async def ask() -> pb.Event:
        async with review_queue(address) as stub:
            return await call_unary(
                stub.ReleaseEvent, request, timeout_s=TIMEOUT_S, service="moderation", idempotent=False
            )

    return _print_done(asyncio.run(ask()), arguments, "waits again")


def decide_event(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
    """Decide on a claimed event."""
    request = pb.DecideEventRequest(
        reviewer=reviewer,
        event_id=arguments.event,
        decision=f"DECISION_{arguments.decision.upper()}",
        comment=arguments.comment,
        category=arguments.category,
    )

    async def ask() -> pb.Event:
        async with review_queue(address) as stub:
            return await call_unary(stub.DecideEvent, request, timeout_s=TIMEOUT_S, service="moderation")

    event = asyncio.run(ask())
    outcome = "upheld"
    if event.decision == pb.DECISION_OVERTURN:
        held = event.action in (verdict_pb2.ACTION_HOLD, verdict_pb2.ACTION_BLOCK)
        given_back = "the text is given back" if event.text_kept else "there is no text to give back"
        outcome = f"overturned; {given_back}" if held else "overturned"
    return _print_done(event, arguments, outcome)


def show_audit(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
    """Print who has done what with an event."""
    request = pb.ListEventAuditRequest(reviewer=reviewer, event_id=arguments.event)

    async def ask() -> pb.ListEventAuditResponse:
        async with review_queue(address) as stub:
            return await call_unary(stub.ListEventAudit, request, timeout_s=TIMEOUT_S, service="moderation")

    entries = asyncio.run(ask()).entries
    if arguments.json:
        print(json.dumps([as_json(entry) for entry in entries], indent=2))
    else:
        rows = [(_time(entry.time), entry.what, printable(entry.actor)) for entry in entries]
        print(table([("TIME", "WHAT", "WHO"), *rows]))
    return 0


def export_decisions(address: str, arguments: argparse.Namespace, *, reviewer: str) -> int:
    """Write decisions as training data."""
    since = None
    if arguments.since:
        since = datetime.now(UTC) - timedelta(seconds=_seconds(arguments.since, flag="--since"))
    request = pb.ExportDecisionsRequest(reviewer=reviewer, since=since)
    count = 0

    async def copy(output: TextIO) -> None:
        nonlocal count
        async for row in exported_decisions(address, request):
            output.write(json.dumps(training_row(row), ensure_ascii=False) + "\n")
            count += 1

    with _output(arguments.file) as output:
        asyncio.run(copy(output))
    print(f"{count} decisions", file=sys.stderr)
    return 0


def training_row(row: pb.TrainingRow) -> dict[str, Any]:
    """A decision as the training data has its rows. The same text is always of the same cluster."""
    return {
        "id": row.id,
        "text": row.text,
        "label": row.label,
        "categories": list(row.categories),
        "source": _SOURCE,
        "kind": row.kind,
        "set": _SOURCE,
        "head": row.head,
        "nc": False,
        "cluster": f"{_SOURCE}:{sha256(row.text.encode()).hexdigest()[:16]}",
        "part": "train",
    }


def render_list(events: Sequence[pb.Event]) -> str:
    """A table for people."""
    if not events:
        return "no events"
    rows = [
        (
            event.event_id,
            _time(event.create_time),
            "user" if event.input else "model",
            _word(verdict_pb2.Action.Name(event.action)),
            printable(event.category),
            _state(event),
            printable(event.user_id) or "-",
            "kept" if event.text_kept else "-",
            "yes" if event.appeal else "-",
        )
        for event in events
    ]
    return table([_LIST_HEAD, *rows])


def render_event(event: pb.Event) -> str:
    """All of an event for people. What is found is shown in the text's own words, where that is kept."""
    facts = [
        ("event", event.event_id),
        ("time", _time(event.create_time)),
        ("from", "user" if event.input else "model"),
        ("action", _word(verdict_pb2.Action.Name(event.action)) + (" (late)" if event.late else "")),
        ("category", event.category),
        ("state", _state(event)),
        ("user", " ".join(word for word in (event.user_id, event.tier, event.tenant_id) if word) or "-"),
        ("generation", event.generation_id),
        ("conversation", event.conversation_id or "-"),
        ("policy", event.policy_version),
        ("text", f"{event.text_length} characters, sha256 {event.text_sha256}"),
    ]
    if event.appeal:
        facts.append(("appeal", f"{_time(event.appeal_time)} {event.appeal}"))
    if event.decided_by:
        facts.append(("decision", _decision(event)))
    width = max(len(name) for name, _ in facts)
    # An appeal of several lines must not look like facts of ours.
    inset = "\n" + " " * (width + 2)
    lines = [f"{name.ljust(width)}  {inset.join(printable(value).splitlines())}" for name, value in facts]
    lines += ["", *_findings(event)]
    lines += ["", printable(event.text) if event.text else "the text is not kept" if not event.text_kept else ""]
    return "\n".join(lines).rstrip()


def as_json(message: Message) -> dict[str, Any]:
    """The same for programs, in the contract's own words."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _findings(event: pb.Event) -> list[str]:
    rows = [
        (
            _word(verdict_pb2.Layer.Name(finding.layer)),
            printable(finding.category),
            printable(finding.rule),
            _word(verdict_pb2.Action.Name(finding.action)),
            f"{finding.score:.2f}",
            f"{finding.start}-{finding.end}",
            _excerpt(event.text, finding),
        )
        for finding in event.findings
    ]
    return table([("LAYER", "CATEGORY", "RULE", "ACTION", "SCORE", "WHERE", "WHAT"), *rows]).splitlines()


def _excerpt(text: str, finding: verdict_pb2.Finding) -> str:
    found = " ".join(printable(text[finding.start : finding.end]).split())
    return found if len(found) <= 60 else found[:59] + "…"


async def _listed(address: str, arguments: argparse.Namespace, *, reviewer: str) -> tuple[Sequence[pb.Event], bool]:
    events: list[pb.Event] = []
    request = pb.ListEventsRequest(
        reviewer=reviewer,
        state=f"EVENT_STATE_{(arguments.state or 'unspecified').upper()}",
        category=arguments.category,
        user_id=arguments.user,
        generation_id=arguments.generation,
        appealed=arguments.appealed,
    )
    async with review_queue(address) as stub:
        while len(events) < arguments.limit:
            request.page_size = min(_PAGE, arguments.limit - len(events))
            page = await call_unary(stub.ListEvents, request, timeout_s=TIMEOUT_S, service="moderation")
            events.extend(page.events)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
    return events, bool(request.page_token)


def _print_event(event: pb.Event, arguments: argparse.Namespace) -> int:
    print(json.dumps(as_json(event), indent=2) if arguments.json else render_event(event))
    return 0


def _print_done(event: pb.Event, arguments: argparse.Namespace, outcome: str) -> int:
    print(json.dumps(as_json(event), indent=2) if arguments.json else f"{event.event_id}: {outcome}")
    return 0


@contextmanager
def _output(name: str) -> Iterator[TextIO]:
    """A file that is there when it is complete, or standard output."""
    if name == "-":
        yield sys.stdout
        return
    path = Path(name)
    part = path.with_name(path.name + ".part")
    try:
        # Texts of users, for nobody else on the machine; a part that was left behind may have had other rights.
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
        with part.open("w", encoding="utf-8") as output:
            yield output
        part.replace(path)
    except OSError as error:
        raise CliError(f"{name}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _state(event: pb.Event) -> str:
    state = _word(pb.EventState.Name(event.state))
    return f"{state} by {printable(event.claimed_by)}" if event.claimed_by else state


def _decision(event: pb.Event) -> str:
    said = f"{_word(pb.Decision.Name(event.decision))} by {event.decided_by} {_time(event.decide_time)}"
    return f"{said}: {event.comment}" if event.comment else said


def _word(name: str) -> str:
    """The value of an enum without its prefix: `ACTION_BLOCK` is `block`."""
    return name.rpartition("_")[2].lower()


def _time(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _seconds(text: str, *, flag: str) -> float:
    try:
        seconds = parse_duration_s(text)
        timedelta(seconds=seconds)
    except (ValueError, OverflowError) as error:
        raise CliError(f"{flag}: {error}", exit_code=2) from error
    return seconds
