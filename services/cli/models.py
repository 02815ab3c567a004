"""`chatmesh models`: what one can talk to."""

from __future__ import annotations

from services.cli.errors import CliError
from services.cli.remote import ModelInfo, RemoteError, connected, find_target, router_models
from services.cli.settings import CliSettings
from services.cli.state import read_state
from services.cli.status import table


def show_models(settings: CliSettings, *, user: str) -> int:
    """Print the models and aliases; of a local mesh with the replicas that serve them now.

    Raises:
        CliError: no mesh answers.
    """
    target = find_target(settings, user=user)
    try:
        if settings.url:
            with connected(target) as remote:
                models = remote.list_models()
        else:
            models = router_models(_router_address(settings))
    except RemoteError as error:
        raise CliError(f"cannot list the models: {error}") from error
    print(render_models(models))
    return 0


def _router_address(settings: CliSettings) -> str:
    record = read_state(settings.home.state_file)
    for process in record.processes if record is not None else ():
        if process.name == "router":
            return process.address
    raise CliError("the mesh is just starting; try again in a moment")


def render_models(models: list[ModelInfo]) -> str:
    """A table for people."""
    rows = [("MODEL", "REPLICAS", "DESCRIPTION")]
    for model in models:
        replicas = "-" if model.ready_replicas is None else str(model.ready_replicas)
        rows.append((model.name, replicas, model.description))
    return table(rows)
