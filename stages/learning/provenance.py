"""Where a model comes from: what it follows from, and when in the project's history it was made.

`models/<run>/provenance.json` has what the network follows from. The git commit is not of that
kind: in a cached file it would make each network another output. It stands in
`data/provenance/<run>.json`, which is not tracked, with the digest of the network.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from stages.core.errors import UserError
from stages.core.snapshot import code_of

DECISIVE = ("tensorflow", "keras", "numpy", "h5py")  # whose versions can change a network's bytes
SOURCES = ("stages", "params.yaml", "variants.toml", "dvc.yaml")  # whose changes matter


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of anything that JSON can say, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def environment(stage: str = "train") -> dict[str, Any]:
    """Digest of the code that dvc.yaml has a stage depend on, versions, machine."""
    return {
        "code": fingerprint(code_of(stage)),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in DECISIVE},
        "machine": {"system": platform.system(), "architecture": platform.machine()},
    }


def refuse_repository_without_commit() -> None:
    """Raise UserError in a git repository without a commit, which DVC's experiments would name."""
    if _git("rev-parse", "--git-dir") is not None and _git("rev-parse", "HEAD") is None:
        raise UserError("this git repository has no commit yet: `git add .`, then `git commit`")


def history() -> dict[str, Any]:
    """The git commit, and the files of SOURCES that differ from it; nulls outside git."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", *SOURCES)
    return {
        "commit": commit and commit.strip(),
        "changed": None if changed is None else [line[3:] for line in changed.splitlines()],
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return done.stdout
