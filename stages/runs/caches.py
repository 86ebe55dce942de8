"""Folders that outlive a run and are shared by all copies of the workspace.

A queued experiment runs in a temporary copy of the workspace: what it computed for others, or for
itself if it is killed, stands beside DVC's own cache.
"""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from stages.runs.dvc_repo import NotDvcRepoError, Repo

DAY = 24 * 60 * 60.0


def shared_folder(name: str) -> Path:
    """The folder `name` beside DVC's cache; in `data/` where there is no DVC repository."""
    try:
        with Repo() as repo:
            return Path(repo.cache.local_cache_dir) / name
    except NotDvcRepoError:
        return Path("data") / name


def remove_older(folder: Path, days: float, pattern: str = "*") -> None:
    """Remove the entries of a folder that were last changed more than `days` ago."""
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # another process has just removed it
            if time.time() - path.stat().st_mtime > days * DAY:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
