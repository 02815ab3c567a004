"""What must hold between the parts of a models file: every name is there and means one thing. Pure.

Each function yields what is wrong as a text that says where and what to do; no text means that it is sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.runtime.model_registry import ModelEntry, ModelRegistry
    from services.runtime.routing_policy import Auto, Cascade, Experiment

_ROUNDING = 1e-9


def problems_of(registry: ModelRegistry) -> Iterator[str]:
    """Everything that is wrong between the parts of a registry."""
    names = [entry.name for entry in registry.models]
    if repeated := _repeated(names):
        yield f"two models have the same name: {repeated}"
        return
    entries = {entry.name: entry for entry in registry.models}
    yield from _aliases(registry, entries)
    yield from _autos(registry, entries)
    yield from _pools(registry)
    yield from _fallbacks(entries)
    yield from _residencies(registry)
    yield from _experiments(registry, entries)
    yield from _shadows(registry, entries)


def targets_of(registry: ModelRegistry, name: str) -> Sequence[str]:
    """The models that a model's name or an alias may come to; none when the file does not have it."""
    if name in registry.auto:
        return registry.auto[name].models
    if name in registry.aliases:
        return registry.aliases[name]
    return [name] if any(entry.name == name for entry in registry.models) else []


def _aliases(registry: ModelRegistry, entries: Mapping[str, ModelEntry]) -> Iterator[str]:
    for alias, targets in registry.aliases.items():
        if alias in entries:
            yield f"alias {alias!r} has the name of a model; rename one of them"
        if not targets:
            yield f"alias {alias!r} stands for no model"
        if _repeated(targets):
            yield f"alias {alias!r} names a model twice"
        if unknown := _unknown(targets, entries):
            yield f"alias {alias!r} stands for {unknown}, which the file does not have; {_has('models', entries)}"
        kinds = {entries[target].embeds_only for target in targets if target in entries}
        if len(kinds) > 1:
            yield f"alias {alias!r} mixes models that answer and models that only embed; make it two aliases"


def _autos(registry: ModelRegistry, entries: Mapping[str, ModelEntry]) -> Iterator[str]:
    for name, auto in registry.auto.items():
        if name in entries:
            yield f"auto {name!r} has the name of a model; rename one of them"
        if name in registry.aliases:
            yield f"auto {name!r} also stands under aliases; keep one of them"
        if _repeated(auto.models):
            yield f"auto {name!r} names a model twice"
        if unknown := _unknown(auto.models, entries):
            yield f"auto {name!r} chooses from {unknown}, which the file does not have; {_has('models', entries)}"
        if mute := [model for model in auto.models if model in entries and not entries[model].may_have("chat")]:
            yield f"auto {name!r} chooses from {', '.join(mute)}, which cannot chat; take it out"
        yield from _embedding(name, auto, entries)
        if auto.cascade is not None:
            yield from _cascade(name, auto, auto.cascade, registry)


def _embedding(name: str, auto: Auto, entries: Mapping[str, ModelEntry]) -> Iterator[str]:
    model = auto.embedding_model
    if (model is None) is not (not auto.examples):
        yield (
            f"auto {name!r}: examples and embedding_model need each other; give both, or neither to classify by rules "
            "alone"
        )
    if any(not texts for texts in auto.examples.values()):
        yield f"auto {name!r}: a class without examples under examples; give it some or take it out"
    if model is None:
        return
    if model not in entries:
        yield f"auto {name!r}: embedding_model is {model}, which the file does not have; {_has('models', entries)}"
    elif not entries[model].may_have("embeddings"):
        yield f"auto {name!r}: embedding_model is {model}, which makes no embeddings; name a model that does"


def _cascade(name: str, auto: Auto, cascade: Cascade, registry: ModelRegistry) -> Iterator[str]:
    where = f"auto {name!r}.cascade"
    if cascade.first not in auto.models:
        yield f"{where}: first is {cascade.first}, which is not one of its models; add it to them"
    if cascade.min_mean_logprob is None and not cascade.weak_openings:
        yield f"{where} says not when an answer is weak; set min_mean_logprob or weak_openings"
    targets = targets_of(registry, cascade.then)
    if not targets:
        yield f"{where}: then is {cascade.then}, which the file does not have; {_has_names(registry)}"
    elif cascade.first in targets:
        yield (
            f"{where}: then is {cascade.then}, which may come to {cascade.first} again; name what is stronger than it"
        )


def _pools(registry: ModelRegistry) -> Iterator[str]:
    for entry in registry.models:
        if unknown := _unknown(entry.pools, registry.pools):
            yield (
                f"model {entry.name!r} is served by the pools {unknown}, which the file does not have; "
                f"{_has('pools', registry.pools)}"
            )
        if _repeated(entry.pools):
            yield f"model {entry.name!r} names a pool twice"


def _fallbacks(entries: Mapping[str, ModelEntry]) -> Iterator[str]:
    sound = True
    for entry in entries.values():
        if unknown := _unknown(entry.fallbacks, entries):
            sound = False
            yield (
                f"model {entry.name!r} falls back to {unknown}, which the file does not have; {_has('models', entries)}"
            )
        if _repeated(entry.fallbacks):
            yield f"model {entry.name!r} names a fallback twice"
        if entry.embeds_only and entry.fallbacks:
            yield f"model {entry.name!r} embeds, and vectors of two models do not compare; take its fallbacks out"
        elif mute := [name for name in entry.fallbacks if name in entries and entries[name].embeds_only]:
            yield f"model {entry.name!r} falls back to {', '.join(mute)}, which only embeds; take it out"
    if sound and (cycle := _cycle({name: entry.fallbacks for name, entry in entries.items()})):
        yield f"fallbacks go round: {' > '.join(cycle)}; take one of them out"


def _cycle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """One cycle with its beginning at both ends; empty when there is none. Without recursion: a file may be long."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        pending: list[tuple[str, bool]] = [(start, False)]
        while pending:
            name, leaving = pending.pop()
            if leaving:
                done.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                pending.append((name, True))
                pending.extend((after, False) for after in edges[name])
    return []


def _residencies(registry: ModelRegistry) -> Iterator[str]:
    for name, regions in registry.residencies.items():
        if not regions:
            yield f"residency {name!r} has no regions, so nothing could be answered; name at least one"
        if _repeated(regions):
            yield f"residency {name!r} names a region twice"


def _experiments(registry: ModelRegistry, entries: Mapping[str, ModelEntry]) -> Iterator[str]:
    if repeated := _repeated([experiment.name for experiment in registry.experiments]):
        yield f"two experiments have the same name: {repeated}"
    for experiment in registry.experiments:
        yield from _arms(experiment, registry, entries)
    groups: dict[str, float] = {}
    for experiment in registry.experiments:
        if experiment.group is not None:
            groups[experiment.group] = groups.get(experiment.group, 0.0) + experiment.share
    for group, share in groups.items():
        if share > 1 + _ROUNDING:
            yield f"the shares of the experiments of group {group!r} add up to {share:g}; make them at most 1"
    for one, other in combinations(registry.experiments, 2):
        if _contradict(one, other):
            yield (
                f"experiments {one.name!r} and {other.name!r} both choose the model of {one.alias!r}; "
                "put them into one group, so that no user is in both"
            )


def _arms(experiment: Experiment, registry: ModelRegistry, entries: Mapping[str, ModelEntry]) -> Iterator[str]:
    where = f"experiment {experiment.name!r}"
    if not targets_of(registry, experiment.alias):
        yield f"{where} is on {experiment.alias}, which the file does not have; {_has_names(registry)}"
    for arm in experiment.arms:
        if arm.model is None:
            continue
        targets = targets_of(registry, arm.model)
        if not targets:
            yield f"{where}: arm {arm.name!r} asks {arm.model}, which the file does not have; {_has_names(registry)}"
        elif arm.model == experiment.alias:
            yield f"{where}: arm {arm.name!r} asks {arm.model}, as without it; leave its model out"
        elif shut := _shut_out(experiment, [entries[name] for name in targets if name in entries]):
            yield f"{where}: arm {arm.name!r} asks {arm.model}, which is not for {shut}; set tiers of the experiment"


def _shut_out(experiment: Experiment, targets: Sequence[ModelEntry]) -> str:
    """The tiers that take part and may use none of the models; empty when there are none."""
    if not experiment.tiers:
        return "" if any(not entry.tiers for entry in targets) else "every tier"
    shut = [tier for tier in experiment.tiers if not any(entry.allows(tier) for entry in targets)]
    return f"the tier {', '.join(shut)}" if shut else ""


def _contradict(one: Experiment, other: Experiment) -> bool:
    if one.alias != other.alias or (one.group is not None and one.group == other.group):
        return False
    if one.tiers and other.tiers and not set(one.tiers).intersection(other.tiers):
        return False
    return all(any(arm.model is not None for arm in experiment.arms) for experiment in (one, other))


def _shadows(registry: ModelRegistry, entries: Mapping[str, ModelEntry]) -> Iterator[str]:
    if repeated := _repeated([shadow.name for shadow in registry.shadows]):
        yield f"two shadows have the same name: {repeated}"
    for shadow in registry.shadows:
        where = f"shadow {shadow.name!r}"
        if not targets_of(registry, shadow.alias):
            yield f"{where} copies requests for {shadow.alias}, which the file does not have; {_has_names(registry)}"
        if shadow.to not in entries:
            yield f"{where} goes to {shadow.to}, which is no model of the file; {_has('models', entries)}"
        elif not entries[shadow.to].may_have("chat"):
            yield f"{where} goes to {shadow.to}, which cannot chat; name a model that does"
        elif shadow.to == shadow.alias:
            yield f"{where} copies requests for {shadow.to} to itself; name another model"


def _repeated(names: Sequence[str]) -> str:
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))


def _unknown(names: Sequence[str], known: Mapping[str, object]) -> str:
    return ", ".join(name for name in names if name not in known)


def _has(what: str, known: Mapping[str, object]) -> str:
    return f"its {what} are {', '.join(sorted(known))}" if known else f"it has no {what}"


def _has_names(registry: ModelRegistry) -> str:
    names = {entry.name for entry in registry.models} | registry.aliases.keys() | registry.auto.keys()
    return f"its models and aliases are {', '.join(sorted(names))}"
