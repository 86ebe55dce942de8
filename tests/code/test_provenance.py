"""What a model follows from is told alike whenever it is told; the commit stands apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.learning.provenance import (
    DECISIVE,
    environment,
    fingerprint,
    history,
    refuse_repository_without_commit,
)

TOP = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> str:
    name = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    done = subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True)
    return done.stdout.decode().strip()


def test_a_fingerprint_depends_on_content_and_not_on_order():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_surroundings_are_the_same_in_every_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(TOP)
    code = "import json; from stages.learning import provenance as p; print(json.dumps("
    more = "import stages.core.files; "  # what a process has loaded does not matter
    for text in (code, more + code):
        command = [sys.executable, "-c", f"{text}p.environment()))"]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert told == environment()
    assert set(told["versions"]) == {"python", *DECISIVE}


def test_history_is_the_commit_and_what_differs_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert history() == {"commit": None, "changed": None}, "outside git"
    git(tmp_path, "init", "-q")
    for name in ("params.yaml", "notes.txt"):
        (tmp_path / name).write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("two\n")
    assert history() == {"commit": commit, "changed": []}
    (tmp_path / "params.yaml").write_text("two\n")
    assert history() == {"commit": commit, "changed": ["params.yaml"]}


def test_a_repository_without_a_commit_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    refuse_repository_without_commit()  # outside git there is nothing to refuse
    git(tmp_path, "init", "-q")
    with pytest.raises(UserError, match="no commit yet: `git add"):
        refuse_repository_without_commit()
    (tmp_path / "params.yaml").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    refuse_repository_without_commit()


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert history() == {"commit": None, "changed": None}
