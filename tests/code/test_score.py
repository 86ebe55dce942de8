"""Recomputing a run's figures as an outsider does: two tables in, no TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import draw_table

from stages.core.files import write_csv

TOP = Path(__file__).parents[2]
# Runs the command where neither TensorFlow nor Keras can be imported.
COMMAND = (
    "import runpy, sys; sys.modules |= {'tensorflow': None, 'keras': None}; "
    "sys.argv.insert(1, 'score'); runpy.run_module('stages.commands', run_name='__main__')"
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the predictions of a run and the split, and nothing else."""
    test, val = draw_table(200, seed=1), draw_table(250, seed=2)
    write_csv(tmp_path / "v.csv", test)
    write_csv(tmp_path / "v.val.csv", val)
    sides = {"test": test["name"], "val": val["name"], "train": pd.Series(["x.jpg"])}
    rows = [pd.DataFrame({"name": names, "split": side}) for side, names in sides.items()]
    split = pd.concat(rows)
    write_csv(tmp_path / "split.csv", split.assign(group=np.arange(len(split))))
    return tmp_path


def score(folder: Path, *options: str, fails: bool = False) -> str:
    params = ("--params", str(TOP / "params.yaml"))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "--split", "split.csv", *params, *options],
        cwd=folder,
        env={"PYTHONPATH": str(TOP)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_files_give_the_same_bytes(files: Path):
    both = ("--predictions", "v.csv", "--val-predictions", "v.val.csv")
    score(files, *both, "--output", "one")
    score(files, *both, "--output", "two")
    found = contents(files / "one")
    assert found == contents(files / "two")
    assert list(found) == [
        *("calibration.json", "confusion.csv", "coverage.csv", "decades.csv", "fairness.csv"),
        *("metrics.json", "per_class.csv", "reliability.csv", "scores.csv", "subgroups.csv"),
    ]
    scores = pd.read_csv(files / "one/scores.csv").set_index(["task", "metric"])["value"]
    summary = json.loads(found["metrics.json"])
    for task in ("age", "gender", "race"):
        for metric, value in summary[task].items():
            assert scores[task, metric] == pytest.approx(value, abs=1e-6)


def test_without_validation_predictions_only_the_scaled_figures_are_missing(files: Path):
    score(files, "--predictions", "v.csv", "--val-predictions", "v.val.csv", "--output", "with")
    score(files, "--predictions", "v.csv", "--output", "without")
    with_, without = contents(files / "with"), contents(files / "without")
    differing = {name for name in with_ if with_[name] != without[name]}
    assert differing == {"calibration.json", "reliability.csv", "scores.csv"}
    wanted = pd.read_csv(files / "with/scores.csv")
    wanted = wanted[~wanted["metric"].str.endswith("_scaled")].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(files / "without/scores.csv"), wanted)


def test_it_is_told_which_images_were_scored(files: Path):
    output = score(files, "--predictions", "v.csv", "--output", "out")
    assert "v.csv: images by split: {'test': 200}\n" in output
    output = score(files, "--predictions", "v.val.csv", "--output", "other")
    assert "v.val.csv: images by split: {'val': 250}\n" in output


def test_an_unknown_image_is_refused(files: Path):
    split = pd.read_csv(files / "split.csv")
    write_csv(files / "split.csv", split[split["name"] != "1_00007.jpg"])
    output = score(files, "--predictions", "v.csv", "--output", "out", fails=True)
    assert "error: split.csv: lacks the predicted image '1_00007.jpg'" in output
    assert not (files / "out").exists()
