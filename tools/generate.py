"""Generates everything under gen/ from proto/; with `--check`, says what there is not current instead.

Everything is made in a directory of its own first, so that a run that fails leaves gen/ as it was, and a file that
did not change keeps its time stamp.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
GOOGLE_PROTOS = ROOT / ".build" / "proto"
GEN = ROOT / "gen"

# What the contracts import, and what Envoy needs to write the details of an error as JSON.
GOOGLE_FILES = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/code.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)

# Generated whole: what stands there and was not generated goes. The files beside them (go.mod, package.json) are ours.
GENERATED = ("python/chatmesh", "go/chatmesh", "ts/chatmesh", "ts/google", "descriptor", "openapi")


def copy_google_protos() -> None:
    """Makes .build/proto hold Google's files, from the wheel that also gives their Python modules."""
    distribution = importlib.metadata.distribution("googleapis-common-protos")
    wanted = {GOOGLE_PROTOS / name: Path(str(distribution.locate_file(name))).read_bytes() for name in GOOGLE_FILES}
    mirror(wanted, [GOOGLE_PROTOS])


def generate(out: Path) -> None:
    """Generates into `out`, which is laid out like gen/."""
    run("buf", "generate", "--output", str(out))
    descriptor = out / "descriptor" / "chatmesh.binpb"
    descriptor.parent.mkdir(parents=True)
    run("buf", "build", "--as-file-descriptor-set", "--exclude-source-info", "--output", str(descriptor))
    with tempfile.TemporaryDirectory() as directory:
        with_comments = Path(directory, "source.binpb")
        run("buf", "build", "proto", "--as-file-descriptor-set", "--output", str(with_comments))
        run(
            *(sys.executable, "-m", "tools.openapi", str(with_comments), str(out / "openapi" / "chatmesh.yaml")),
            environment={"PYTHONPATH": str(out / "python")},
        )


def run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    """Runs a command in the repository's root with our tools first on PATH; ends the program when it fails."""
    path = os.pathsep.join([str(ROOT / ".build" / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path, **(environment or {})}, check=False)
    if done.returncode != 0:
        sys.exit(f"generate: {' '.join(command[:3])} failed with status {done.returncode}")


def read(directories: list[Path]) -> dict[Path, bytes]:
    """Returns the files under some directories with their content."""
    return {
        path: path.read_bytes()
        for directory in directories
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def mirror(wanted: Mapping[Path, bytes], directories: list[Path]) -> list[Path]:
    """Makes `directories` hold exactly the files of `wanted`.

    Returns:
        The files that were written or removed.
    """
    present = read(directories)
    changed = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    for path in changed:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[path])
        else:
            path.unlink()
    for directory in directories:
        for inner in sorted((d for d in directory.rglob("*") if d.is_dir()), reverse=True):
            if not any(child.name != "__pycache__" for child in inner.iterdir()):
                shutil.rmtree(inner)
    return changed


def main() -> None:
    """Runs the tool."""
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when gen/ is not current")
    parser.add_argument("--protos-only", action="store_true", help="only fetch Google's files into .build/proto")
    arguments = parser.parse_args()
    copy_google_protos()
    if arguments.protos_only:
        return
    directories = [GEN / name for name in GENERATED]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        generate(out)
        wanted = {GEN / path.relative_to(out): content for path, content in read([out]).items()}
    if stray := [path for path in wanted if not any(path.is_relative_to(directory) for directory in directories)]:
        sys.exit(f"generate: no place is set aside for {stray[0].relative_to(ROOT)}")
    if not arguments.check:
        for path in mirror(wanted, directories):
            print(f"gen: {'wrote' if path in wanted else 'removed'} {path.relative_to(ROOT)}")
        return
    present = read(directories)
    if stale := sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path)):
        for path in stale:
            print(f"gen: not current: {path.relative_to(ROOT)}", file=sys.stderr)
        sys.exit("gen: run `make gen` and commit what it changes")


if __name__ == "__main__":
    main()
