"""What the runs cost: beside their scores, and how long this machine took for them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.workspace.errors import UserError

COSTS = ("parameters", "megabytes", "gflops")
TIMINGS = ("seconds", "images_per_second")


def read_costs(evaluation: Path, runs: Sequence[str]) -> pd.DataFrame:
    """Columns variant, parameters, megabytes and gflops, from <evaluation>/<run>/costs.json.

    Raises:
        UserError: a run has none.
    """
    rows = []
    for run in runs:
        path = evaluation / run / "costs.json"
        if not path.is_file():
            raise UserError(f"{path}: missing; run `dvc repro evaluate@{run}`")
        costs = json.loads(path.read_text(encoding="utf-8"))
        rows.append([run, *(costs[name] for name in COSTS)])
    table = pd.DataFrame(rows, columns=["variant", *COSTS])
    return table.astype({"parameters": "Int64"})  # whole also beside rows that have none


def read_timings(folder: Path, runs: Sequence[str]) -> pd.DataFrame:
    """Columns variant, seconds (of training) and images_per_second, from <folder>/<run>.json.

    Empty where the run was not trained in this workspace.
    """
    rows = []
    for run in runs:
        path = folder / f"{run}.json"
        timing = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        rows.append([run, *(timing.get(name) for name in TIMINGS)])
    return pd.DataFrame(rows, columns=["variant", *TIMINGS])
