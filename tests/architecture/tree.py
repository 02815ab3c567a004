"""What the rules are checked against: the source files of the services, parsed."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet, ServiceDescriptorProto

ROOT = Path(__file__).parent.parent.parent
SERVICES = ROOT / "services"


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file under services/."""

    path: Path
    tree: ast.Module

    @property
    def service(self) -> str:
        """The folder under services/ that it stands in; empty for services/__init__.py."""
        parts = self.path.relative_to(SERVICES).parts
        return parts[0] if len(parts) > 1 else ""

    @property
    def name(self) -> str:
        """Its path from the repository's root, for messages."""
        return self.path.relative_to(ROOT).as_posix()

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yields the line and the full dotted name of everything that is imported."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}"


@cache
def modules() -> tuple[Module, ...]:
    """Returns the Python files under services/."""
    return tuple(
        Module(path=path, tree=ast.parse(path.read_text(), filename=str(path)))
        for path in sorted(SERVICES.rglob("*.py"))
        if "__pycache__" not in path.parts
    )


@cache
def rpc_services() -> dict[str, ServiceDescriptorProto]:
    """Returns the services of the contracts by their full name."""
    files = FileDescriptorSet.FromString((ROOT / "gen" / "descriptor" / "chatmesh.binpb").read_bytes())
    return {
        f"{file.package}.{service.name}": service
        for file in files.file
        if file.package.startswith("chatmesh.")
        for service in file.service
    }


@cache
def files_of_the_tree() -> tuple[Path, ...]:
    """Returns every file that is, or is about to be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())
