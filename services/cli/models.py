"""`chatmesh models`: what one can talk to, what it can do and costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from chatmesh.inference.v1 import status_pb2
from chatmesh.router.v1 import model_pb2, router_service_pb2
from services.cli.errors import CliError
from services.cli.inside import find_process, list_models
from services.cli.remote import ModelInfo, RemoteError, connected, find_target
from services.cli.status import table

if TYPE_CHECKING:
    from services.cli.settings import CliSettings


_HEAD: tuple[str, ...] = (
    *("MODEL", "READY", "ENGINE", "CONTEXT", "$/M IN", "CACHED", "OUT", "CAPABILITIES", "TIERS", "POOLS"),
)


def show_models(settings: CliSettings, *, user: str, router: str = "", as_json: bool = False) -> int:
    """Print the models and aliases; of a mesh whose Router can be reached with all that it knows of them.

    Raises:
        CliError: no mesh answers.
    """
    if settings.url and not router:
        try:
            with connected(find_target(settings, user=user)) as remote:
                names = remote.list_models()
        except RemoteError as error:
            raise CliError(f"cannot list the models: {error}") from error
        print(json.dumps({"models": [{"name": model.name} for model in names]}) if as_json else render_names(names))
        return 0
    listed = asyncio.run(list_models(find_process(settings, service="router", given=router)))
    print(render_json(listed) if as_json else render_models(listed))
    return 0


def render_names(models: Sequence[ModelInfo]) -> str:
    """What a mesh tells its users, as a table."""
    return table([("MODEL", "READY"), *((model.name, "-") for model in models)])


def render_models(listed: router_service_pb2.ListModelsResponse) -> str:
    """A table of the models for people, one of the aliases below it, and what is wrong with the file on disk."""
    rows = [_HEAD]
    rows += [_row(model) for model in listed.models]
    tables = [table(rows)]
    if listed.aliases:
        tables.append(table(_alias_rows(listed)))
    if listed.refused_file:
        tables.append(f"refused, so what was read before stays in force: {listed.refused_file}")
    return "\n".join(tables)


def _alias_rows(listed: router_service_pb2.ListModelsResponse) -> list[tuple[str, ...]]:
    ready = {model.name: model.ready_replicas for model in listed.models}
    rows: list[tuple[str, ...]] = [("ALIAS", "READY", "STANDS FOR")]
    for alias in listed.aliases:
        replicas = sum(ready.get(name, 0) for name in alias.models)
        rows.append((alias.name, str(replicas), ", ".join(alias.models)))
    return rows


def render_json(listed: router_service_pb2.ListModelsResponse) -> str:
    """The same for programs, in the contract's own words."""
    content = MessageToDict(listed, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(content, indent=2)


def _row(model: model_pb2.Model) -> tuple[str, ...]:
    return (
        model.name,
        str(model.ready_replicas),
        model.engine,
        str(model.context_length),
        *_prices(model),
        ",".join(_capabilities(model)) or "-",
        ",".join(model.tiers) or "all",
        ",".join(model.pools) or "any",
    )


def _prices(model: model_pb2.Model) -> tuple[str, str, str]:
    if not model.HasField("prices"):
        return ("-", "-", "-")
    prices = model.prices
    return (
        f"{prices.input_per_million:g}",
        f"{prices.cached_input_per_million:g}",
        f"{prices.output_per_million:g}",
    )


def _capabilities(model: model_pb2.Model) -> list[str]:
    return [status_pb2.Capability.Name(value).removeprefix("CAPABILITY_").lower() for value in model.capabilities]
