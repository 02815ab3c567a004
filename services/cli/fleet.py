"""`chatmesh fleet`: the inference replicas as the Router sees them, on a terminal live."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, TextIO

from google.protobuf.json_format import MessageToDict

from chatmesh.router.v1 import fleet_pb2
from services.cli.errors import CliError
from services.cli.inside import find_process, watch_fleet
from services.cli.status import table

if TYPE_CHECKING:
    from services.cli.settings import CliSettings

INTERVAL_MS = 1000
LATE_MS = 1500
"""A replica reports every second; one that has not for so long is worth a remark."""
RETRY_S = 1.0

_HEAD = (
    *("REPLICA", "POOL", "ZONE", "REGION", "MODEL", "RUNNING", "QUEUED", "LEASED", "TOK/S", "TTFT", "KV", "HITS"),
    *("SCORE", "BREAKER", ""),
)
_BREAKERS = {
    fleet_pb2.BREAKER_STATE_UNSPECIFIED: "-",
    fleet_pb2.BREAKER_STATE_CLOSED: "closed",
    fleet_pb2.BREAKER_STATE_OPEN: "OPEN",
    fleet_pb2.BREAKER_STATE_HALF_OPEN: "half-open",
}
_HOME, _CLEAR, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


def show_fleet(settings: CliSettings, *, router: str, once: bool, as_json: bool) -> int:
    """Print the fleet: once, or on a terminal again and again until Ctrl-C.

    Raises:
        CliError: the Router does not answer.
    """
    address = find_process(settings, service="router", given=router)
    if as_json or once or not sys.stdout.isatty():
        fleet = asyncio.run(_snapshot(address))
        print(render_json(fleet) if as_json else render_fleet(fleet))
        return 0
    try:
        asyncio.run(_live(address, out=sys.stdout))
    except KeyboardInterrupt:
        print()
    return 0


async def _snapshot(address: str) -> fleet_pb2.WatchFleetResponse:
    async with aclosing(watch_fleet(address, interval_ms=INTERVAL_MS)) as stream:
        async for fleet in stream:
            return fleet
    raise CliError(f"{address}: the router is stopping")


async def _live(address: str, *, out: TextIO) -> None:
    out.write(_CLEAR)
    shown = ""
    while True:
        why = "the router has ended the stream"
        try:
            async with aclosing(watch_fleet(address, interval_ms=INTERVAL_MS)) as stream:
                async for fleet in stream:
                    shown = render_fleet(fleet)
                    draw(shown, out=out, rows=shutil.get_terminal_size().lines)
        except CliError as error:
            why = str(error)
        # The last view stays: it tells how things stood when the Router went.
        draw(f"{shown}\n{why}; trying again".lstrip(), out=out, rows=shutil.get_terminal_size().lines)
        await asyncio.sleep(RETRY_S)


def draw(text: str, *, out: TextIO, rows: int) -> None:
    """Put a text over the last one, without flicker. What does not fit on the screen is counted."""
    lines = text.splitlines()
    room = max(rows - 1, 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more lines"]
    out.write(_HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW)
    out.flush()


def render_fleet(fleet: fleet_pb2.WatchFleetResponse) -> str:
    """A table for people: one row for each model of each replica."""
    if not fleet.replicas:
        return "no replica reports to the router"
    rows: list[tuple[str, ...]] = [_HEAD]
    for replica in fleet.replicas:
        where = (replica.replica_id, replica.pool or "-", replica.zone or "-", replica.region or "-")
        if not replica.models:
            rows.append((*where, *("-" for _ in range(10)), _remark(replica)))
        rows += [(*where, *_cells(model), _remark(replica)) for model in replica.models]
    return table(rows)


def render_json(fleet: fleet_pb2.WatchFleetResponse) -> str:
    """The same for programs, in the contract's own words."""
    content = MessageToDict(fleet, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(content, indent=2)


def _cells(model: fleet_pb2.FleetModel) -> tuple[str, ...]:
    loaded = model.loaded
    return (
        loaded.name,
        f"{loaded.running}/{loaded.slots}",
        str(loaded.queued),
        str(model.leased),
        f"{loaded.tokens_per_second:.0f}",
        f"{loaded.time_to_first_token_ms:.0f}ms" if loaded.time_to_first_token_ms else "-",
        f"{loaded.kv_cache_usage:.0%}" if loaded.kv_cache_usage else "-",
        f"{loaded.kv_cache_hit_rate:.0%}" if loaded.kv_cache_hit_rate else "-",
        f"{model.score:.0f}ms",
        _BREAKERS.get(model.breaker, "?"),
    )


def _remark(replica: fleet_pb2.FleetReplica) -> str:
    remarks = ["draining"] if replica.draining else []
    if replica.silent_ms > LATE_MS:
        remarks.append(f"silent for {replica.silent_ms / 1000:.1f}s")
    return ", ".join(remarks)
