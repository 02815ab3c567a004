"""Which models of the models file this process loads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from services.inference.engines.engine import Engine
from services.runtime.model_registry import ModelEntry, ModelRegistry
from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

Engines = Mapping[str, Callable[[ModelEntry], Engine]]


def choose_models(registry: ModelRegistry, *, names: str, engines: Engines, pool: str = "") -> list[ModelEntry]:
    """The entries to load: those that `names` lists, or all that the pool serves and whose engine there is.

    A pool serves the models that name it and those that name none. Nothing is routed to any other.

    Raises:
        SettingsError: a listed model is not in the file or needs an engine that there is not, or nothing is left.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        served = [entry for entry in registry.models if not entry.pools or pool in entry.pools]
        if not served:
            where = f"CHATMESH_POOL is {pool!r}" if pool else "CHATMESH_POOL is not set"
            raise SettingsError(f"no model of the models file is served here: {where}")
        entries = [entry for entry in served if entry.engine in engines]
        for entry in served:
            if entry.engine not in engines:
                _log.warning("model is left out: no such engine", extra={"model": entry.name, "engine": entry.engine})
        if not entries:
            raise SettingsError(f"no model of the models file has an engine of this build: {_known(engines)}")
        return entries
    chosen: list[ModelEntry] = []
    for name in dict.fromkeys(wanted):
        found = registry.find(name)
        if found is None:
            known = ", ".join(sorted(entry.name for entry in registry.models))
            raise SettingsError(
                f"CHATMESH_INFERENCE_MODELS names {name!r}, which the models file lacks; it has {known}"
            )
        if found.engine not in engines:
            raise SettingsError(f"model {name}: this build has no engine {found.engine}; it has {_known(engines)}")
        if found.pools and pool not in found.pools:
            _log.warning("nothing is routed to this model here: its pools are others", extra={"model": found.name})
        chosen.append(found)
    return chosen


def _known(engines: Engines) -> str:
    return ", ".join(sorted(engines))
