"""Which models may answer a request. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.router.model import LoadedRegistry
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import DEFAULT_ALIAS, ModelEntry


@dataclass(frozen=True, slots=True)
class Selection:
    """Models in order of preference, and the rule that selected them: `model`, or `alias:<name>`."""

    requested: str
    entries: tuple[ModelEntry, ...]
    rule: str


def select_models(loaded: LoadedRegistry, *, requested: str, tier: str) -> Selection:
    """Resolve a model's name or an alias for a caller of `tier`; an empty name is the alias `auto`.

    An alias leaves out the models that are not for the tier; a model that is named outright is refused.

    Raises:
        DomainError: MODEL_NOT_FOUND, MODEL_NOT_ALLOWED.
    """
    name = requested or DEFAULT_ALIAS
    entry = loaded.entries.get(name)
    if entry is not None:
        if not entry.allows(tier):
            raise _not_allowed(name, tier)
        return Selection(requested=name, entries=(entry,), rule="model")
    targets = loaded.registry.aliases.get(name)
    if targets is None:
        raise _not_found(loaded, name=name, tier=tier)
    allowed = tuple(loaded.entries[target] for target in targets if loaded.entries[target].allows(tier))
    if not allowed:
        raise _not_allowed(name, tier)
    return Selection(requested=name, entries=allowed, rule=f"alias:{name}")


def _not_allowed(name: str, tier: str) -> DomainError:
    text = f"The model {name!r} is not available in the tier {tier!r}." if tier else f"The model {name!r} needs a tier."
    return DomainError(Reason.MODEL_NOT_ALLOWED, text, metadata={"model": name, "tier": tier})


def _not_found(loaded: LoadedRegistry, *, name: str, tier: str) -> DomainError:
    # Only what the caller could use: a refusal is no place to list the models of other tiers.
    usable = {entry.name for entry in loaded.entries.values() if entry.allows(tier)}
    aliases = {alias for alias, targets in loaded.registry.aliases.items() if usable.intersection(targets)}
    known = ", ".join(sorted(usable | aliases))
    return DomainError(
        Reason.MODEL_NOT_FOUND,
        f"There is no model {name!r}. Use one of: {known}." if known else f"There is no model {name!r}.",
        metadata={"model": name, "known_models": known},
    )
