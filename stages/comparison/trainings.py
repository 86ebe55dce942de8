"""Trainings in tables: learning curves, costs, time, accuracy over cost."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_json
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
    rows = [
        {"variant": run, PROGRESSIVE: 0, PROGRESSIVE_EPOCH: 0.0}
        | read_json(evaluation / run / "costs.json", f"evaluate@{run}")
        for run in runs
    ]
    columns = ["variant", *COSTS, ONCE, EPOCH, PROGRESSIVE, PROGRESSIVE_EPOCH]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"parameters": "Int64"})  # whole numbers beside missing ones


def read_timings(folder: Path, runs: Sequence[str]) -> pd.DataFrame:
    """Columns variant, seconds (of training) and images_per_second, from <folder>/<run>.json.

    Empty if the run was not trained in this workspace.
    """
    files = {run: folder / f"{run}.json" for run in runs}
    rows = [
        {"variant": run, **(read_json(file, f"train@{run}") if file.is_file() else {})}
        for run, file in files.items()
    ]
    return pd.DataFrame(rows, columns=["variant", *TIMINGS])


def accuracy_over_cost(curves: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracy of each variant over the cost of its training so far.

    Args:
        curves: as `collect_curves` returns them.
        costs: as `read_costs` returns them, of the same variants.

    Returns:
        Columns variant, task, epoch, tflop (10^12 operations up to its end) and accuracy (on the
        validation images, of the weights of the epoch with the best score so far). A variant has
        rows of its own tasks only.
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
    accuracy = val.rename(columns={"epoch": "kept", "value": "accuracy"})
    by_task = [
        table.merge(accuracy[accuracy["figure"] == f"{task} accuracy"], on=["variant", "kept"])
        for task in TASKS
    ]
    costs_by_task = pd.concat(by_task, keys=TASKS, names=["task"]).reset_index("task")
    return costs_by_task[["variant", "task", "epoch", "tflop", "accuracy"]].reset_index(drop=True)


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
