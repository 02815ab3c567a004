"""Runs `buf breaking` against the contracts that this work started from.

That is the merge base with main. On main itself it is the last commit while the contracts have changes that are not
committed, and the commit before otherwise. `AGAINST=<commit>` names another one. Where there is no earlier commit with
contracts (the first commit, a clone of depth one), nothing can break, and this says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
GOOGLE_PROTOS = Path(".build") / "proto"


def git(*arguments: str) -> str | None:
    """Returns what a git command prints; None when it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def base() -> str | None:
    """Returns the commit to compare with; None when there is none."""
    if named := os.environ.get("AGAINST"):
        commit = git("rev-parse", "--verify", f"{named}^{{commit}}")
        if commit is None:
            sys.exit(f"breaking: AGAINST={named} is not a commit here")
        return commit
    head = git("rev-parse", "--verify", "HEAD")
    if head is None:
        return None
    for main in ("origin/main", "main"):
        merge_base = git("merge-base", "HEAD", main)
        if merge_base not in (None, head):
            return merge_base
    if git("status", "--porcelain", "--", "proto"):
        return head
    return git("rev-parse", "--verify", "HEAD^")


def main() -> None:
    """Runs the tool."""
    commit = base()
    if commit is None or not git("ls-tree", "-d", commit, "proto"):
        print("breaking: no earlier contracts to compare with")
        return
    archive = subprocess.run(
        ["git", "archive", "--format=tar", commit, "proto", "buf.yaml"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["tar", "--extract", "--directory", directory], input=archive.stdout, check=True)
        # Google's files are not in the tree; those of today serve both sides.
        shutil.copytree(ROOT / GOOGLE_PROTOS, Path(directory) / GOOGLE_PROTOS)
        buf = Path(sys.executable).with_name("buf")
        done = subprocess.run([buf, "breaking", "--against", directory], cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(f"breaking: the contracts break those of {commit[:12]}")
    print(f"breaking: compatible with {commit[:12]}")


if __name__ == "__main__":
    main()
