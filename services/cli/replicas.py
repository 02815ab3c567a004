"""How many processes each service of the mesh has, what they are called, and which cores they may use. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.cli.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SERVICES = ("usage", "moderation", "context", "router", "inference", "conversation")
SCALABLE = ("conversation", "inference")
LARGEST = 8

INFERENCE_PLACES = {
    "CHATMESH_INFERENCE_POOLS": "CHATMESH_POOL",
    "CHATMESH_INFERENCE_ZONES": "CHATMESH_ZONE",
    "CHATMESH_INFERENCE_REGIONS": "CHATMESH_REGION",
}
"""Lists with a name for each replica of inference, and what each of them is told by."""

_CORES_AT_LEAST = 2


def parse_replicas(text: str) -> Mapping[str, int]:
    """Read `conversation=2,inference=2`. Every service has its number, 1 where none is given.

    Raises:
        CliError: naming what is wrong.
    """
    counts: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (word.strip() for word in entry.partition("="))
        if name not in SERVICES:
            raise _wrong(f"there is no service {name!r}; the services are {', '.join(SERVICES)}")
        if name in counts:
            raise _wrong(f"{name} stands there twice")
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= LARGEST):
            raise _wrong(f"{name} is to have {number!r} processes; say a number from 1 to {LARGEST}, as in {name}=2")
        if int(number) > 1 and name not in SCALABLE:
            raise _wrong(
                f"{name} can have one process only: of no services but {' and '.join(SCALABLE)} is it proven that "
                "several can run side by side"
            )
        counts[name] = int(number)
    return {name: counts.get(name, 1) for name in SERVICES}


def _wrong(what: str) -> CliError:
    return CliError(f"replicas (CHATMESH_REPLICAS or --replicas): {what}", exit_code=2)


def process_names(service: str, count: int) -> tuple[str, ...]:
    """The names of a service's processes; the first has the service's own."""
    return tuple(service if number == 1 else f"{service}-{number}" for number in range(1, count + 1))


def places_of_inference(environment: Mapping[str, str], count: int) -> tuple[Mapping[str, str], ...]:
    """What each of `count` replicas of inference is told of its pool, zone and region beside what all processes are.

    Of `CHATMESH_INFERENCE_POOLS=a,b` the first replica takes `a`, and the last name goes for all that come after it.

    Raises:
        CliError: more are named than there are replicas.
    """
    told: list[dict[str, str]] = [{} for _ in range(count)]
    for listed, own in INFERENCE_PLACES.items():
        text = environment.get(listed, "").strip()
        if not text:
            continue
        names = [name.strip() for name in text.split(",")]
        if len(names) > count:
            raise CliError(
                f"{listed} names {len(names)}, and inference has {count} processes; have more of them with "
                f"--replicas inference={len(names)}, or name fewer",
                exit_code=2,
            )
        for number, replica in enumerate(told):
            if name := names[min(number, len(names) - 1)]:
                replica[own] = name
    return tuple(told)


def shares_of_cores(cores: Sequence[int], count: int) -> tuple[tuple[int, ...], ...]:
    """Which cores each of `count` replicas of an engine may use; empty for all.

    An engine starts a compute thread for each core that it may use but one. Were that all cores for each replica, the
    threads of one would wait in their barriers for cores on which the others spin.
    """
    share = max(len(cores) // count, _CORES_AT_LEAST)
    if count == 1 or len(cores) <= share:
        return ((),) * count
    begins = (number * len(cores) // count for number in range(count))
    return tuple(tuple(sorted(cores[(begin + step) % len(cores)] for step in range(share))) for begin in begins)
