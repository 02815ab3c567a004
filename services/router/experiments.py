"""Which arms of which experiments a user is in. Pure, and the same in every router and after every restart.

A user falls by a hash into one of `BUCKETS` buckets of each group. Every experiment of a group owns as many buckets as
its share says: in the order of the file, each takes those that it ranks first by a hash of its own and that are still
free. So an experiment that is added at the end of the file moves nobody who is in another one. One that is taken out
lets those after it have buckets that they had wanted more, and as large a share of their users changes as it had of the
group; who wants to move nobody leaves it there, with arms that name no model, until the others have ended.

Within an experiment each arm draws a number for the user, and the least one, divided by the arm's weight, wins. So an
arm that is added takes users from the others in proportion and moves nobody between those.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from services.runtime.routing_policy import Arm, Experiment

BUCKETS = 10_000

_TWO_TO_64 = 2.0**64


@dataclass(frozen=True, slots=True)
class DealtArm:
    """An arm that applies to a request."""

    experiment: str
    arm: str
    model: str | None


class Dealing:
    """The experiments of one registry, ready to deal users to them."""

    def __init__(self, experiments: Iterable[Experiment]) -> None:
        self._by_alias: dict[str, list[Experiment]] = {}
        grouped: dict[str, list[Experiment]] = {}
        for experiment in experiments:
            self._by_alias.setdefault(experiment.alias, []).append(experiment)
            if experiment.group is not None:
                grouped.setdefault(experiment.group, []).append(experiment)
        self._owners: Mapping[str, Sequence[str | None]] = {
            group: _owners(group, members) for group, members in grouped.items()
        }

    def arms(self, *, alias: str, user_id: str, tier: str) -> tuple[DealtArm, ...]:
        """The arms of a user who asks for a model or an alias. Nobody without an id takes part."""
        if not user_id:
            return ()
        dealt = []
        for experiment in self._by_alias.get(alias, ()):
            if experiment.tiers and tier not in experiment.tiers:
                continue
            if self._takes_part(experiment, user_id):
                arm = _arm(experiment, user_id)
                dealt.append(DealtArm(experiment=experiment.name, arm=arm.name, model=arm.model))
        return tuple(dealt)

    def _takes_part(self, experiment: Experiment, user_id: str) -> bool:
        if experiment.group is None:
            return experiment.share >= 1.0 or hash_point("experiment", experiment.name, user_id) < experiment.share
        bucket = int(hash_point("group", experiment.group, user_id) * BUCKETS)
        return self._owners[experiment.group][min(bucket, BUCKETS - 1)] == experiment.name


def hash_point(*parts: str) -> float:
    """Where some words fall in 0 to 1: evenly spread, and the same in every process."""
    # A length before each part, so that ("ab", "c") and ("a", "bc") are not the same.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big") / _TWO_TO_64


def _owners(group: str, members: Iterable[Experiment]) -> list[str | None]:
    owners: list[str | None] = [None] * BUCKETS
    for experiment in members:
        wanted = round(experiment.share * BUCKETS)
        ranks = [hash_point("bucket", group, experiment.name, str(bucket)) for bucket in range(BUCKETS)]
        for bucket in sorted(range(BUCKETS), key=ranks.__getitem__):
            if wanted == 0:
                break
            if owners[bucket] is None:
                owners[bucket] = experiment.name
                wanted -= 1
    return owners


def _arm(experiment: Experiment, user_id: str) -> Arm:
    """The least of exponentially distributed draws of rate `weight` belongs to an arm in proportion to its weight."""

    def draw(arm: Arm) -> float:
        # From (0, 1], as the logarithm of 0 is none.
        return -math.log(1.0 - min(hash_point("arm", experiment.name, arm.name, user_id), 1 - 2**-53)) / arm.weight

    return min(experiment.arms, key=draw)
