"""The models file as the Router uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from services.router.experiments import Dealing
from services.router.model import LoadedRegistry
from services.runtime.clock import Clock
from services.runtime.model_registry import ModelRegistry
from services.runtime.watched_file import WatchedFile


class RegistrySource(Protocol):
    """Where the registry in force is found."""

    @property
    def current(self) -> LoadedRegistry:
        """The registry in force."""
        ...

    @property
    def refused(self) -> str:
        """Why what is there now is not in force; empty when it is."""
        ...


class RegistryFile(WatchedFile[LoadedRegistry]):
    """The registry in force, and the watch over the file it came from."""

    def __init__(self, *, path: Path, clock: Clock) -> None:
        """Load the file.

        Raises:
            SettingsError: when it cannot be used.
        """

        def load(path: Path) -> LoadedRegistry:
            registry = ModelRegistry.load(path)
            return LoadedRegistry(
                registry=registry,
                entries={entry.name: entry for entry in registry.models},
                loaded=clock.now(),
                dealing=Dealing(registry.experiments),
            )

        super().__init__(path, kind="models", load=load)
