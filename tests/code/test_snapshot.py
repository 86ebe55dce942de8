"""What DVC records of a stage when it ends is what the stage's outputs were made with."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.core import snapshot
from stages.core.errors import UserError
from stages.core.stage import run_stage

TOP = Path(__file__).parents[2]
FILES = {
    "dvc.yaml": """
stages:
  split:
    cmd: x
    deps: [data/a.csv, stages/split.py, stages/reporting]
    params: [seed, crop, detect.size]
  train: {foreach: [one, two], do: {cmd: 'x ${item}', deps: [stages/train.py]}}
""",
    "params.yaml": """
seed: 1
crop: {at: {x: 1}, by: 2}
detect: {size: 100, margin: 0.2}
training: {one: 1, two: 2}
""",
    "stages/split.py": "a = 1\n",
    "stages/train.py": "a = 1\n",
    "stages/reporting/table.csv": "a\n",
}


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "split")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # which `run_stage` changes
    snapshot.snapshot_at_start.cache_clear()
    yield
    snapshot.snapshot_at_start.cache_clear()


def writing(file: str, old: str, new: str) -> Callable[[], None]:
    """A node in whose time somebody edits a file."""

    def main() -> None:
        text = Path(file).read_text()
        assert old in text
        Path(file).write_text(text.replace(old, new))

    return main


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("params.yaml", "seed: 1", "seed: 2", "params.yaml: seed"),
        ("params.yaml", "seed: 1\n", "", "params.yaml: seed"),
        ("params.yaml", "size: 100", "size: 1", "params.yaml: detect.size"),
        ("params.yaml", "seed: 1", "seed: [", "params.yaml: seed, params.yaml: crop, "),
        ("params.yaml", "{x: 1}, by: 2", "{x: 3}", "params.yaml: crop.at.x, params.yaml: crop.by"),
        ("stages/split.py", "1", "2", "stages/split.py"),
        ("stages/reporting/table.csv", "a", "b", "stages/reporting/table.csv"),
    ],
)
def test_a_change_of_what_the_stage_depends_on_fails_it(file: str, old: str, new: str, said: str):
    with pytest.raises(SystemExit, match="DVC would record") as ended:
        run_stage(writing(file, old, new))
    assert str(ended.value.code).startswith(f"error: changed while this ran: {said}")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("params.yaml", "margin: 0.2", "margin: 0.3"),
        ("params.yaml", "seed: 1", "seed: 1 # a comment"),
        ("stages/train.py", "1", "2"),
    ],
)
def test_a_change_of_anything_else_does_not(file: str, old: str, new: str):
    run_stage(writing(file, old, new))


def test_a_module_that_goes_or_comes_is_a_change():
    def main() -> None:
        Path("stages/split.py").unlink()
        Path("stages/reporting/more.py").touch()

    with pytest.raises(SystemExit, match=r"ran: stages/reporting/more\.py, stages/split"):
        run_stage(main)


@pytest.mark.parametrize("stage", [None, "another", "sub/dvc.yaml:split"])
def test_outside_a_stage_of_this_workflow_nothing_is_looked_at(
    stage: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DVC_STAGE")
    if stage:
        monkeypatch.setenv("DVC_STAGE", stage)
    run_stage(writing("params.yaml", "seed: 1", "seed: 2"))


def test_an_error_of_the_stage_comes_first():
    def main() -> None:
        writing("params.yaml", "seed: 1", "seed: 2")()
        raise UserError("its own")

    with pytest.raises(SystemExit, match="error: its own"):
        run_stage(main)


def test_the_code_of_a_stage_is_what_dvc_yaml_names(monkeypatch: pytest.MonkeyPatch):
    assert set(snapshot.code_of("split")) == {"stages/split.py", "stages/reporting/table.csv"}
    before = snapshot.code_of("split")
    Path("stages/train.py").write_text("changed\n")
    assert snapshot.code_of("split") == before
    Path("stages/split.py").write_text("changed\n")
    assert snapshot.code_of("split") != before
    with pytest.raises(KeyError, match="no modules of another"):
        snapshot.code_of("another")
    monkeypatch.chdir(TOP)
    assert "stages/learning/fit.py" in snapshot.code_of("train")
    assert "stages/core/files.py" in snapshot.code_of("train")
    assert "stages/report.py" not in snapshot.code_of("train")
