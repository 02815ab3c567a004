"""Which models may answer a request, by name, tier and what they can do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from services.router.model import LoadedRegistry, ModelScore
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import DEFAULT_ALIAS, ModelEntry
from services.runtime.routing_policy import Auto

Reported = Callable[[str], AbstractSet[str] | None]
"""What the ready replicas of a model say that it can do; None when there are none, or they do not say."""


@dataclass(frozen=True, slots=True)
class Step:
    """A model to try, and the rule that leads to it."""

    entry: ModelEntry
    rule: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Models in order of preference, and the rule that selected them: `model`, `alias:<name>` or `auto:<name>`.

    With `auto` the order is still to be decided; `refused` are models of it that may not answer.
    """

    requested: str
    entries: tuple[ModelEntry, ...]
    rule: str
    auto: Auto | None = None
    refused: tuple[ModelScore, ...] = ()


def capabilities_of(entry: ModelEntry, reported: Reported) -> AbstractSet[str] | None:
    """What a model can do, by the models file or else by its replicas; None when nobody says."""
    known = entry.known_capabilities
    return frozenset(known) if known is not None else reported(entry.name)


def missing_capability(entry: ModelEntry, needs: AbstractSet[str], reported: Reported) -> str:
    """What is asked for and the model cannot do; empty when it can do all of it, or nobody knows."""
    if "embeddings" not in needs:
        needs = needs | {"chat"}
    can = capabilities_of(entry, reported)
    return "" if can is None else min(needs - can, default="")


def select_models(
    loaded: LoadedRegistry,
    *,
    requested: str,
    tier: str,
    needs: AbstractSet[str] = frozenset(),
    reported: Reported = lambda _: None,
) -> Selection:
    """Resolve a model's name or an alias for a caller of `tier`; an empty name is the alias `auto`.

    An alias leaves out the models that are not for the tier or cannot do what is asked; a model that is named outright
    is refused.

    Raises:
        DomainError: MODEL_NOT_FOUND, MODEL_NOT_ALLOWED, UNSUPPORTED_CAPABILITY.
    """
    name = requested or DEFAULT_ALIAS
    auto = loaded.registry.auto.get(name)
    if (entry := loaded.entries.get(name)) is not None:
        targets, rule = [entry], "model"
    elif auto is not None:
        targets, rule = [loaded.entries[target] for target in auto.models], f"auto:{name}"
    elif (listed := loaded.registry.aliases.get(name)) is not None:
        targets, rule = [loaded.entries[target] for target in listed], f"alias:{name}"
    else:
        raise _not_found(loaded, name=name, tier=tier)
    allowed = [target for target in targets if target.allows(tier)]
    if not allowed:
        raise _not_allowed(loaded, name=name, tier=tier)
    lacks = {target.name: missing_capability(target, needs, reported) for target in allowed}
    able = tuple(target for target in allowed if not lacks[target.name])
    if not able:
        raise _unsupported(name, lacks[allowed[0].name])
    refused = tuple(
        ModelScore(target.name, reason="capability" if target.allows(tier) else "tier")
        for target in targets
        if target not in able
    )
    return Selection(requested=name, entries=able, rule=rule, auto=auto if rule != "model" else None, refused=refused)


def fallback_steps(
    loaded: LoadedRegistry, steps: Sequence[Step], *, tier: str, needs: AbstractSet[str], reported: Reported
) -> Iterable[Step]:
    """Models that answer in the place of these when none of them can: their fallbacks, then the fallbacks of those.

    The rule of each shows the way to it, such as `model/fallback:b/fallback:c`. The models file has no cycles.
    """
    tried = {step.entry.name for step in steps}
    reached = list(steps)
    # It grows while it is read: nearer fallbacks come before farther ones.
    for step in reached:
        for name in step.entry.fallbacks:
            if name in tried:
                continue
            tried.add(name)
            after = Step(loaded.entries[name], f"{step.rule}/fallback:{name}")
            reached.append(after)
            if after.entry.allows(tier) and not missing_capability(after.entry, needs, reported):
                yield after


def _not_allowed(loaded: LoadedRegistry, *, name: str, tier: str) -> DomainError:
    text = f"The model {name!r} is not available in the tier {tier!r}." if tier else f"The model {name!r} needs a tier."
    known = _usable(loaded, tier)
    return DomainError(
        Reason.MODEL_NOT_ALLOWED,
        f"{text} Use one of: {known}." if known else text,
        metadata={"model": name, "tier": tier, "known_models": known},
    )


def _unsupported(name: str, capability: str) -> DomainError:
    return DomainError(
        Reason.UNSUPPORTED_CAPABILITY,
        f"The model {name!r} cannot do what is asked of it: {capability}.",
        metadata={"model": name, "capability": capability},
    )


def _not_found(loaded: LoadedRegistry, *, name: str, tier: str) -> DomainError:
    known = _usable(loaded, tier)
    return DomainError(
        Reason.MODEL_NOT_FOUND,
        f"There is no model {name!r}. Use one of: {known}." if known else f"There is no model {name!r}.",
        metadata={"model": name, "known_models": known},
    )


def _usable(loaded: LoadedRegistry, tier: str) -> str:
    """What the caller may use: a refusal is no place to list the models of other tiers."""
    usable = {entry.name for entry in loaded.entries.values() if entry.allows(tier)}
    registry = loaded.registry
    aliases = {alias for alias, targets in registry.aliases.items() if usable.intersection(targets)}
    autos = {alias for alias, auto in registry.auto.items() if usable.intersection(auto.models)}
    return ", ".join(sorted(usable | aliases | autos))
