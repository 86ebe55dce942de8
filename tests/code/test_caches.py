"""Folders beside DVC's cache: found from copies of the workspace too, and pruned by age."""

import os
import time
from pathlib import Path

import pytest
from dvc.repo import Repo

from stages.runs.caches import DAY, remove_older, shared_folder


def test_a_copy_of_the_workspace_has_the_folder_of_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("origin", "copy"):
        (tmp_path / name).mkdir()
        Repo.init(tmp_path / name, no_scm=True)
    cache = tmp_path / "origin/.dvc/cache"
    # As DVC sets up the copy in which it runs a queued experiment.
    (tmp_path / "copy/.dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n")
    for name in ("origin", "copy"):
        monkeypatch.chdir(tmp_path / name)
        assert shared_folder("features") == cache / "features"


def test_without_a_repository_the_folder_is_in_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert shared_folder("features") == Path("data/features")


def test_what_was_not_changed_for_long_is_removed(tmp_path: Path):
    for name, days in (("old", 31), ("young", 29)):
        (tmp_path / name / "epoch-3").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - days * DAY,) * 2)
    remove_older(tmp_path, 30)
    assert [path.name for path in tmp_path.iterdir()] == ["young"]
    remove_older(tmp_path / "missing", 30)


def test_of_files_only_those_of_the_pattern_are_removed(tmp_path: Path):
    for name in (".1-old.npy.partial", ".2-young.npy.partial", "old.npy"):
        (tmp_path / name).write_bytes(b"features")
        if "old" in name:
            os.utime(tmp_path / name, (time.time() - 2 * DAY,) * 2)
    remove_older(tmp_path, 1, "*.partial")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".2-young.npy.partial", "old.npy"]
