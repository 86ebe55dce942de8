"""Trainings in tables: learning curves, costs, time, accuracy over cost."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.sections import TASKS

COSTS = (
    *("parameters", "megabytes", "gflops", "training_tflop_once", "training_tflop_epoch"),
    *("progressive_epochs", "training_tflop_progressive_epoch"),
)
TIMINGS = ("seconds", "images_per_second")


def read_costs(evaluation: Path, runs: Sequence[str]) -> pd.DataFrame:
    """The content of <evaluation>/<run>/costs.json (docs/reference/files.md), by variant."""
    rows = [
        {"variant": run, "progressive_epochs": 0, "training_tflop_progressive_epoch": 0.0}
        | read_json(evaluation / run / "costs.json", f"evaluate@{run}")
        for run in runs
    ]
    return pd.DataFrame(rows, columns=["variant", *COSTS]).astype({"parameters": "Int64"})


def read_timings(folder: Path, runs: Sequence[str]) -> pd.DataFrame:
    """Columns variant, seconds and images_per_second; empty if the run was not trained here."""
    files = [folder / f"{run}.json" for run in runs]
    rows = [read_json(file, "train") if file.is_file() else {} for file in files]
    return pd.DataFrame(rows, columns=list(TIMINGS)).assign(variant=runs)[["variant", *TIMINGS]]


def accuracy_over_cost(curves: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracy of each variant over the cost of its training so far.

    From the tables of `collect_curves` and `read_costs`. Columns variant, task (of the variant),
    epoch, tflop (10^12 operations up to its end) and accuracy (on the validation images, of the
    weights of the epoch with the best score so far).
    """
    val = curves[curves["split"] == "val"]
    scores = val[val["figure"] == "score"]
    table = scores[["variant", "epoch", "value"]].merge(costs, on="variant")
    # Epochs on small images do not compete with the others.
    phase = [table["variant"], table["epoch"] > table["progressive_epochs"]]
    best = table.groupby(phase, sort=False)["value"].cummax()
    # The first of equals is kept, as in training.
    rises = best.groupby(phase, sort=False).diff().ne(0)
    kept = table["epoch"].where(rises).groupby(phase, sort=False).ffill()
    table = table.drop(columns="value").assign(kept=kept.astype(int))
    first = table["epoch"].clip(upper=table["progressive_epochs"])
    full = (table["epoch"] - first) * table["training_tflop_epoch"]
    epochs = first * table["training_tflop_progressive_epoch"] + full
    table["tflop"] = table["training_tflop_once"] + epochs
    accuracy = val.rename(columns={"epoch": "kept", "value": "accuracy"})
    by_task = [
        table.merge(accuracy[accuracy["figure"] == f"{task} accuracy"], on=["variant", "kept"])
        for task in TASKS
    ]
    costs_by_task = pd.concat(by_task, keys=TASKS, names=["task"]).reset_index("task")
    return costs_by_task[["variant", "task", "epoch", "tflop", "accuracy"]].reset_index(drop=True)


def collect_curves(folder: Path, variants: Sequence[str]) -> pd.DataFrame:
    """The curves that DVCLive wrote: columns variant, epoch (from 1), figure, split, value."""
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
            tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)
