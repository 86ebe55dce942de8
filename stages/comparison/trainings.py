"""Trainings in tables: learning curves, costs, time, accuracy over cost."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.sections import TASKS

COSTS = ("parameters", "megabytes", "gflops")
ONCE, EPOCH = "training_tflop_once", "training_tflop_epoch"
# Of the first epochs, if they train on smaller images.
PROGRESSIVE, PROGRESSIVE_EPOCH = "progressive_epochs", "training_tflop_progressive_epoch"
TIMINGS = ("seconds", "images_per_second")
CURVE_COLUMNS = ("variant", "epoch", "figure", "split", "value")


def read_costs(evaluation: Path, runs: Sequence[str]) -> pd.DataFrame:
    """The content of <evaluation>/<run>/costs.json, by variant.

    Returns:
        Columns variant, parameters, megabytes, gflops (of one image), training_tflop_once and
        training_tflop_epoch (before the first epoch and in each), progressive_epochs and
        training_tflop_progressive_epoch (number of first epochs with smaller images; in each).

    Raises:
        UserError: a run has none.
    """
    rows = []
    for run in runs:
        path = evaluation / run / "costs.json"
        if not path.is_file():
            raise UserError(f"{path}: missing; run `dvc repro evaluate@{run}`")
        costs = json.loads(path.read_text(encoding="utf-8"))
        progressive = [costs.get(PROGRESSIVE, 0), costs.get(PROGRESSIVE_EPOCH, 0.0)]
        rows.append([run, *(costs[name] for name in (*COSTS, ONCE, EPOCH)), *progressive])
    columns = ["variant", *COSTS, ONCE, EPOCH, PROGRESSIVE, PROGRESSIVE_EPOCH]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"parameters": "Int64"})  # whole numbers beside missing ones


def read_timings(folder: Path, runs: Sequence[str]) -> pd.DataFrame:
    """Columns variant, seconds (of training) and images_per_second, from <folder>/<run>.json.

    Empty if the run was not trained in this workspace.
    """
    rows = []
    for run in runs:
        path = folder / f"{run}.json"
        timing = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        rows.append([run, *(timing.get(name) for name in TIMINGS)])
    return pd.DataFrame(rows, columns=["variant", *TIMINGS])


def accuracy_over_cost(curves: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracy of each variant over the cost of its training so far.

    Args:
        curves: as `collect_curves` returns them.
        costs: as `read_costs` returns them, of the same variants.

    Returns:
        Columns variant, task, epoch, tflop (10^12 operations up to its end) and accuracy (on the
        validation images, of the weights of the epoch with the
        best score so far). A variant has rows of its own tasks only.
    """
    val = curves[curves["split"] == "val"]
    scores = val[val["figure"] == "score"]
    best = scores.groupby("variant", sort=False)["value"].cummax()
    # The first of equals is kept, as in training.
    rises = best.groupby(scores["variant"], sort=False).diff().ne(0)
    kept = scores["epoch"].where(rises).groupby(scores["variant"], sort=False).ffill()
    table = scores[["variant", "epoch"]].assign(kept=kept.astype(int)).merge(costs, on="variant")
    first = table["epoch"].clip(upper=table[PROGRESSIVE])
    epochs = first * table[PROGRESSIVE_EPOCH] + (table["epoch"] - first) * table[EPOCH]
    table["tflop"] = table[ONCE] + epochs
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


def collect_curves(folder: Path, variants: Sequence[str]) -> pd.DataFrame:
    """Gather what DVCLive wrote under <folder>/<variant>/plots/metrics/<split>/<figure>.tsv.

    Args:
        folder: of the variants' curve folders; those of variants not named are not read.
        variants: names, in the order of the rows.

    Raises:
        UserError: a variant has no curves.
    """
    tables = []
    for variant in variants:
        metrics = folder / variant / "plots" / "metrics"
        files = sorted(metrics.glob("*/*.tsv"))
        if not files:
            raise UserError(f"{metrics}: no curves; run `dvc repro train@{variant}`")
        for file in files:
            curve = pd.read_csv(file, sep="\t")
            rows = {
                "variant": variant,
                "epoch": curve["step"] + 1,
                "figure": file.stem.replace("_", " "),
                "split": file.parent.name,
                "value": curve[file.stem],
            }
            tables.append(pd.DataFrame(rows, columns=list(CURVE_COLUMNS)))
    return pd.concat(tables, ignore_index=True)
