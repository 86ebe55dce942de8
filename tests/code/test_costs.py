"""What the runs cost, as the comparison reads it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages.comparison.trainings import accuracy_over_cost, read_costs, read_timings
from stages.core.errors import UserError

COSTS = {"parameters": 12, "trainable_parameters": 10, "megabytes": 0.5, "gflops": 0.25}
COSTS |= {"training_tflop_once": 4.0, "training_tflop_epoch": 1.5}


def test_the_costs_of_each_run_are_read_in_the_order_of_the_runs(tmp_path: Path):
    for factor, run in ((1, "a"), (2, "b")):
        (tmp_path / run).mkdir()
        costs = {name: value * factor for name, value in COSTS.items()}
        (tmp_path / run / "costs.json").write_text(json.dumps(costs))
    assert read_costs(tmp_path, ["b", "a"]).to_dict("list") == {
        "variant": ["b", "a"],
        "parameters": [24, 12],
        "megabytes": [1, 0.5],
        "gflops": [0.5, 0.25],
        "training_tflop_once": [8, 4],
        "training_tflop_epoch": [3, 1.5],
        "progressive_epochs": [0, 0],
        "training_tflop_progressive_epoch": [0, 0],
    }
    with pytest.raises(UserError, match=r"costs\.json: missing; run `dvc repro evaluate@c`"):
        read_costs(tmp_path, ["a", "c"])


def test_a_run_that_was_not_trained_here_has_no_timing(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"seconds": 12.5, "images_per_second": 80.0}')
    table = read_timings(tmp_path, ["a", "b"])
    assert table.iloc[0].tolist() == ["a", 12.5, 80]
    assert pd.isna(table.iloc[1][["seconds", "images_per_second"]]).all()


def test_the_accuracy_over_the_cost_is_that_of_the_best_epoch_up_to_then():
    # The first two epochs of a are on small images: its network comes from a later one.
    scores = {"a": [0.5, 0.9, 0.7, 0.6], "b": [0.4]}
    accuracies = {("a", "age"): [0.1, 0.2, 0.3, 0.9], ("a", "race"): [0.9, 0.8, 0.7, 0.6]}
    accuracies[("b", "gender")] = [0.4]
    rows = [(v, e, "score", "val", x) for v, xs in scores.items() for e, x in enumerate(xs, 1)]
    rows += [
        (variant, epoch, f"{task} accuracy", side, value + (side == "train"))
        for (variant, task), values in accuracies.items()
        for epoch, value in enumerate(values, 1)
        for side in ("train", "val")
    ]
    curves = pd.DataFrame(rows, columns=["variant", "epoch", "figure", "split", "value"])
    costs = pd.DataFrame(
        {
            "variant": ["b", "a"],
            "training_tflop_once": [0, 10],
            "training_tflop_epoch": [3, 2],
            "progressive_epochs": [0, 2],
            "training_tflop_progressive_epoch": [0, 0.5],
        }
    )
    table = accuracy_over_cost(curves, costs)
    assert list(table.columns) == ["variant", "task", "epoch", "tflop", "accuracy"]
    assert table.to_numpy().tolist() == [
        ["a", "age", 1, 10.5, 0.1],
        ["a", "age", 2, 11, 0.2],
        ["a", "age", 3, 13, 0.3],
        ["a", "age", 4, 15, 0.3],
        ["b", "gender", 1, 3, 0.4],
        ["a", "race", 1, 10.5, 0.9],
        ["a", "race", 2, 11, 0.8],
        ["a", "race", 3, 13, 0.7],
        ["a", "race", 4, 15, 0.7],
    ]
