"""What the runs cost, as the comparison reads it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages.reporting.costs import read_costs, read_timings
from stages.workspace.errors import UserError

COSTS = {"parameters": 12, "trainable_parameters": 10, "megabytes": 0.5, "gflops": 0.25}


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
    }
    with pytest.raises(UserError, match=r"costs\.json: missing; run `dvc repro evaluate@c`"):
        read_costs(tmp_path, ["a", "c"])


def test_a_run_that_was_not_trained_here_has_no_timing(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"seconds": 12.5, "images_per_second": 80.0}')
    table = read_timings(tmp_path, ["a", "b"])
    assert table.iloc[0].tolist() == ["a", 12.5, 80]
    assert pd.isna(table.iloc[1][["seconds", "images_per_second"]]).all()
