"""Copies of the project, each in a git repository of its own with real DVC."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from processes import call

TOP = Path(__file__).parents[2]

Run = Callable[..., str]


@pytest.fixture(scope="session")
def copy_project() -> Callable[..., Run]:
    """Make a committed copy of the project, with some texts of its files exchanged."""

    def copy(project: Path, edits: Mapping[str, Mapping[str, str]], *commands: str) -> Run:
        listed = call(TOP, "git", "ls-files", "--cached", "--others", "--exclude-standard")
        for name in listed.splitlines():
            if (TOP / name).is_file() and not name.startswith("metrics/") and name != "dvc.lock":
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, project / name)
        for name, replaced in edits.items():
            text = (project / name).read_text(encoding="utf-8")
            for old, new in replaced.items():
                assert old in text, f"{name} no longer has {old!r}"
                text = text.replace(old, new)
            (project / name).write_text(text, encoding="utf-8")

        def run(*command: str, fails: bool = False) -> str:
            return call(project, *command, fails=fails)

        run("git", "init", "-q")
        run("git", "config", "user.name", "test")
        run("git", "config", "user.email", "test@localhost")
        for command in (None, *commands):
            if command is not None:
                run(*command.split())
            run("git", "add", "-A")
            run("git", "commit", "-qm", command or "project")
        run.project = project  # type: ignore[attr-defined]
        return run

    return copy
