"""What the runs cost: beside their scores, and how long this machine took for them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.sections import TASKS

COSTS = ("parameters", "megabytes", "gflops")
ONCE, EPOCH = "training_tflop_once", "training_tflop_epoch"
SMALL, SMALL_EPOCH = (
    "progressive_epochs",
    "training_tflop_progressive_epoch",
)  # where images were small
TIMINGS = ("seconds", "images_per_second")


def read_costs(evaluation: Path, runs: Sequence[str]) -> pd.DataFrame:
    """What costs.json holds in <evaluation>/<run>/, by variant.

    Returns:
        Columns variant, parameters, megabytes, gflops (of one image), training_tflop_once and
        training_tflop_epoch (before the first epoch and in each), progressive_epochs and
        training_tflop_progressive_epoch (how many of the first epochs had small images; in each).

    Raises:
        UserError: a run has none.
    """
    rows = []
    for run in runs:
        path = evaluation / run / "costs.json"
        if not path.is_file():
            raise UserError(f"{path}: missing; run `dvc repro evaluate@{run}`")
        costs = json.loads(path.read_text(encoding="utf-8"))
        small = [costs.get(SMALL, 0), costs.get(SMALL_EPOCH, 0.0)]
        rows.append([run, *(costs[name] for name in (*COSTS, ONCE, EPOCH)), *small])
    table = pd.DataFrame(rows, columns=["variant", *COSTS, ONCE, EPOCH, SMALL, SMALL_EPOCH])
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


def accuracy_over_cost(curves: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """How good each variant was after how much training.

    Args:
        curves: as `collect_curves` gives them.
        costs: as `read_costs` gives them, of the same variants.

    Returns:
        Columns variant, task, epoch, tflop (10^12 operations up to its end) and accuracy (on the
        validation images, of the weights that would be kept then: those of the epoch with the
        best score so far). A variant has rows of its own tasks only.
    """
    val = curves[curves["side"] == "val"]
    scores = val[val["figure"] == "score"]
    best = scores.groupby("variant", sort=False)["value"].cummax()
    # The first of equals is kept, as in training.
    rises = best.groupby(scores["variant"], sort=False).diff().ne(0)
    kept = scores["epoch"].where(rises).groupby(scores["variant"], sort=False).ffill()
    table = scores[["variant", "epoch"]].assign(kept=kept.astype(int)).merge(costs, on="variant")
    small = table["epoch"].clip(upper=table[SMALL])
    learnt = small * table[SMALL_EPOCH] + (table["epoch"] - small) * table[EPOCH]
    table["tflop"] = table[ONCE] + learnt
    by_task = [
        table.merge(
            val[val["figure"] == f"{task} accuracy"][["variant", "epoch", "value"]],
            left_on=["variant", "kept"],
            right_on=["variant", "epoch"],
            suffixes=("", "_kept"),
        ).assign(task=task)
        for task in TASKS
    ]
    columns = ["variant", "task", "epoch", "tflop", "value"]
    return pd.concat(by_task, ignore_index=True)[columns].rename(columns={"value": "accuracy"})
