"""A small search as real DVC experiments: queued, killed, gone on with, shown at any time."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.long

Run = Callable[..., str]

TUNE = (sys.executable, "-m", "stages.commands", "tune")
SEARCH = """searches:
  small:
    variant: mtl-cnn-ge
    epochs: 1
    subset:
      train: 0.5
      val: 1.0
    vary: together
    grid:
      learning_rate:
      - 0.0001
      - 0.001
      batch_size:
      - 16
      - 32
    published:
      learning_rate: 0.001
      batch_size: 32
  worth:
    variant: mtl-cnn-ge
    epochs: 1
    subset:
      train: 0.5
      val: 1.0
    vary: one-by-one
    seeds: 2
    grid:
      dropout:
      - 0.5
    published: {}
"""
# In place of a training that ends for want of memory: only this setting does.
FAILING = """    if plan.training.batch_size == 32 and plan.training.learning_rate < 0.001:
        raise MemoryError
"""
EDITS = {
    "params.yaml": {"portraits: 300": "portraits: 60", "searches:\n": SEARCH},
    "stages/train.py": {"    growth, seed = ": f"{FAILING}    growth, seed = "},
}


@pytest.fixture(scope="module")
def run(
    copy_project: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Run a command in a copy of the project that is reproduced as far as the split."""
    project = tmp_path_factory.mktemp("tuning") / "project"
    yield copy_project(project, EDITS, "dvc repro split")
    for process in _processes(project):
        process.kill()


def _project(run: Run) -> Path:
    return run.project  # type: ignore[attr-defined]


def _processes(project: Path) -> list[psutil.Process]:
    """All processes that work in the project or in a temporary copy of it."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(project):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _rows(run: Run) -> dict[str, dict[str, str]]:
    run(*TUNE, "table", "small")
    with (_project(run) / "data/tuning/small.csv").open() as file:
        return {row["experiment"].removeprefix("small-"): row for row in csv.DictReader(file)}


def _states(run: Run) -> dict[str, str]:
    return {name: row["state"] for name, row in _rows(run).items()}


def test_each_setting_is_queued_once_and_the_table_says_so(run: Run) -> None:
    assert set(_states(run).values()) == {"not queued"}
    assert "4 settings of small queued" in run(*TUNE, "queue", "small")
    assert "0 settings of small queued" in run(*TUNE, "queue", "small")
    assert _states(run) == dict.fromkeys(
        ["lr1e-4-b16", "lr1e-4-b32", "lr1e-3-b16", "lr1e-3-b32"], "queued"
    )
    output = run(*TUNE, "table", "small")
    assert "4 settings: 4 queued" in output
    assert "best: none yet" in output
    assert run("git", "status", "--porcelain") == ""


def test_a_killed_search_goes_on_and_a_failing_setting_stops_no_other(run: Run) -> None:
    project = _project(run)
    running = subprocess.Popen([*TUNE, "run"], cwd=project, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not any("stages.train" in _command(p) for p in _processes(project)):
        assert time.monotonic() < deadline, "no training has begun"
        assert running.poll() is None
        time.sleep(0.2)
    for process in _processes(project):  # the command, DVC's worker, the training: a power cut
        os.kill(process.pid, signal.SIGKILL)
    running.wait()
    assert sorted(_states(run).values()) == ["queued", "queued", "queued", "running"]

    output = run(*TUNE, "search", "small")
    assert "1 settings of small queued" in output
    assert "small-lr1e-4-b32: failed, see `dvc queue logs small-lr1e-4-b32`" in output
    assert "4 settings: 3 finished, 1 failed" in output
    assert "error: not enough memory" in run("dvc", "queue", "logs", "small-lr1e-4-b32")
    left = [path.name for path in (project / ".dvc/tmp/exps").glob("tmp*")]
    assert left == [], "temporary copies are left"


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_the_table_has_the_validation_figures_the_best_and_the_published_setting(run: Run) -> None:
    rows = _rows(run)
    assert rows["lr1e-4-b32"]["state"] == "failed"
    assert rows["lr1e-4-b32"]["val_score"] == ""
    finished = [row for row in rows.values() if row["state"] == "finished"]
    assert len(finished) == 3
    for row in finished:
        accuracies = [float(row[f"{task}_val_accuracy"]) for task in ("age", "gender", "race")]
        assert all(0 <= value <= 1 for value in accuracies)
        age, gender, race = accuracies
        assert float(row["val_score"]) == pytest.approx(
            0.4 * age + 0.2 * gender + 0.4 * race, abs=1e-5
        )
    best = [row for row in finished if "best" in row["mark"]]
    assert [float(row["val_score"]) for row in best] == [
        max(float(r["val_score"]) for r in finished)
    ]
    assert "published" in rows["lr1e-3-b32"]["mark"]
    folder = _project(run) / "data/tuning"
    assert (folder / "small.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "small.md").read_text()
    assert "published best: learning_rate 1e-3, batch_size 32: here 0." in text


def test_dvc_shows_the_validation_figures_of_each_experiment_and_draws_the_heat_map(
    run: Run,
) -> None:
    shown = json.loads(run("dvc", "exp", "show", "--json").split("\n", 1)[0])
    experiments = {e["name"]: e["revs"][0] for e in shown[1]["experiments"]}
    metrics = experiments["small-lr1e-3-b32"]["data"]["metrics"]["data/training/mtl-cnn-ge.json"]
    assert metrics["data"]["val_score"] == pytest.approx(
        float(_rows(run)["lr1e-3-b32"]["val_score"]), abs=1e-5
    )
    axes = ("-t", "search", "-x", "batch_size", "-y", "learning_rate")
    run("dvc", "plots", "show", "data/tuning/small.csv", *axes, "-o", "rendered")
    page = (_project(run) / "rendered/index.html").read_text()
    assert "small-lr1e-3-b32" in page
    assert "viridis" in page


def test_what_was_finished_with_other_params_does_not_count(run: Run) -> None:
    path = _project(run) / "params.yaml"
    text = path.read_text()
    path.write_text(text.replace("seed: 1 #", "seed: 2 #"))
    try:
        assert sorted(_states(run).values()) == ["failed", "outdated", "outdated", "outdated"]
        output = run(*TUNE, "queue", "small", fails=True)
        assert "finished on this commit with other params" in output
        assert "dvc exp remove small-lr1e-4-b16 small-lr1e-3-b16 small-lr1e-3-b32" in output
    finally:
        path.write_text(text)


def test_a_failed_setting_is_queued_again_and_no_other(run: Run) -> None:
    assert "1 settings of small queued" in run(*TUNE, "queue", "small")
    assert _states(run) == {
        "lr1e-4-b16": "finished",
        "lr1e-4-b32": "queued",
        "lr1e-3-b16": "finished",
        "lr1e-3-b32": "finished",
    }
    assert run("dvc", "queue", "status").count("small-lr1e-4-b32") == 1


def test_an_ablation_of_several_seeds_has_their_means(run: Run) -> None:
    output = run(*TUNE, "search", "worth")
    assert "4 settings of worth queued" in output
    assert "2 settings: 2 finished" in output
    with (_project(run) / "data/tuning/worth.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["unchanged", "unchanged-seed-2", "dropout-0.5", "dropout-0.5-seed-2"]
    scores = {}
    for name in names:
        run_name = "mtl-cnn-ge+seed-2" if "seed" in name else "mtl-cnn-ge"
        shown = run("git", "show", f"{_revision(run, f'worth-{name}')}:dvc.lock")
        assert f"train@{run_name}:" in shown
        metrics = json.loads(run("dvc", "exp", "show", "--json").split("\n", 1)[0])
        found = {e["name"]: e["revs"][0] for e in metrics[1]["experiments"]}[f"worth-{name}"]
        figures = found["data"]["metrics"][f"data/training/{run_name}.json"]["data"]
        scores[name] = figures["val_score"]
    assert len(set(scores.values())) > 1
    for row, pair in zip(rows, (names[:2], names[2:]), strict=True):
        assert float(row["val_score"]) == pytest.approx(
            sum(scores[name] for name in pair) / 2, abs=1e-5
        )
    assert float(rows[1]["difference"]) == pytest.approx(
        float(rows[1]["val_score"]) - float(rows[0]["val_score"]), abs=1e-5
    )


def _revision(run: Run, experiment: str) -> str:
    refs = run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return next(ref for ref in refs if ref.endswith(f"/{experiment}"))


def test_a_misspelt_search_is_told_with_the_known_ones(run: Run) -> None:
    output = run(*TUNE, "table", "smal", fails=True)
    assert "unknown search 'smal'; did you mean 'small'?" in output
    assert "mtl-vgg16-block5" in output
