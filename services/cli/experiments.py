"""`chatmesh experiments`: what an experiment has shown, arm by arm."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from chatmesh.conversation.v1 import experiment_service_pb2
from services.cli.errors import CliError
from services.cli.inside import experiment_results, find_process
from services.cli.keys import parse_duration_s
from services.cli.status import table

if TYPE_CHECKING:
    from services.cli.settings import CliSettings

_NORMAL_95 = 1.96
_HEAD = (
    *("ARM", "USERS", "ANSWERS", "FAILED", "RATED", "UP (95%)", "FIRST TOKEN p50/p99", "ANSWER p50/p99", "TOKENS"),
    "$/1000",
)


def show_experiment(settings: CliSettings, *, name: str, since: str, conversation: str, as_json: bool) -> int:
    """Print the arms of an experiment. `since` is a duration such as `24h`; empty takes all that there is.

    Raises:
        CliError: the Conversation service does not answer, or `since` makes no sense.
    """
    address = find_process(settings, service="conversation", given=conversation)
    begin = _begin(since, now=datetime.now(UTC)) if since else None
    results = asyncio.run(experiment_results(address, experiment=name, since=begin))
    print(render_json(results) if as_json else render_results(results, name=name))
    return 0


def _begin(since: str, *, now: datetime) -> datetime:
    try:
        return now - timedelta(seconds=parse_duration_s(since))
    except (ValueError, OverflowError) as error:
        raise CliError(f"--since: {error}", exit_code=2) from error


def render_results(results: experiment_service_pb2.GetExperimentResultsResponse, *, name: str) -> str:
    """A table for people."""
    if not results.arms:
        return f"no answer was given in an arm of {name}; if there should be some, check the name in the models file"
    return table([_HEAD, *(_row(arm) for arm in results.arms)])


def render_json(results: experiment_service_pb2.GetExperimentResultsResponse) -> str:
    """The same for programs, in the contract's own words."""
    content = MessageToDict(results, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(content, indent=2)


def share_within(part: int, whole: int) -> tuple[float, float]:
    """Where the true share lies with a probability of 95%, by Wilson's interval: also good for few cases."""
    if whole == 0:
        return 0.0, 1.0
    share, squared = part / whole, _NORMAL_95**2
    middle = (share + squared / (2 * whole)) / (1 + squared / whole)
    spread = _NORMAL_95 * math.sqrt(share * (1 - share) / whole + squared / (4 * whole**2)) / (1 + squared / whole)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def _row(arm: experiment_service_pb2.ArmResult) -> tuple[str, ...]:
    low, high = share_within(arm.rated_up, arm.rated)
    return (
        arm.arm,
        str(arm.users),
        str(arm.generations),
        str(arm.failed),
        str(arm.rated),
        f"{arm.rated_up / arm.rated:.0%} ({low:.0%}-{high:.0%})" if arm.rated else "-",
        _times(arm.first_token_p50_ms, arm.first_token_p99_ms),
        _times(arm.duration_p50_ms, arm.duration_p99_ms),
        f"{arm.completion_tokens:.0f}",
        f"{arm.cost_nano_usd / 1e6:.4g}" if arm.cost_nano_usd else "-",
    )


def _times(median_ms: float, slowest_ms: float) -> str:
    return f"{_time(median_ms)} / {_time(slowest_ms)}"


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.0f}ms" if milliseconds < 10_000 else f"{milliseconds / 1000:.1f}s"
