"""All variants of a suite side by side: published, rerun, honest.

The published figures (`published.csv`, as they were printed) come from a protocol that trained
on most of its test images. A rerun is the same network here, trained and tested under that
protocol. Honest figures come from test images that were never trained on; they are not comparable
with the other two.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv
from stages.core.params import TASKS
from stages.runs.resolve import (
    NATIVE,
    PUBLISHED_SPLIT,
    fold_of,
    run_name,
    seed_of,
    stage_name,
)

PUBLISHED = Path(__file__).with_name("published.csv")
FIGURES = ("accuracy", "macro_f1")
NAMES = [f"{task}_{figure}" for task in TASKS for figure in FIGURES]
KINDS = {"published": "published_", "rerun": "rerun_", "honest": ""}  # prefixes of columns
SCORES = ("task", "metric", "low", "high")  # columns of scores.csv
SEEDS, FOLDS = "seeds", "folds"  # stand as the condition of a row that has the mean of several


def compare(metrics: Path, variants: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Each variant, then its native twin, the mean of its seeds and that of its folds.

    Args:
        metrics: folder of <run>.json; files of runs not named are not read.
        variants: names, in the order of the rows, each with the conditions under which it was
            trained and evaluated too.

    Returns:
        Columns variant (`<variant>`, `<variant>+native`, `+seeds` or `+folds`), runs (how many
        are in the row; the variant's own seed is one of its seeds), images (tested by all of
        them together; those of one seed), and for each <name> = <task>_<figure>: <name> (a mean
        of several runs), sd_<name> (their sample standard deviation), difference_<name> (to the
        variant, of the native twin), published_<name>, rerun_<name>. Empty where there is none.

    Raises:
        UserError: a run has no metrics.
    """
    published = pd.read_csv(PUBLISHED, index_col="variant")
    rows = []
    for variant, conditions in variants.items():
        seeds = [None, *(c for c in conditions if seed_of(c) is not None)]
        folds = [c for c in conditions if fold_of(c) is not None]
        own = _measured(metrics, run_name(variant, None))
        row: dict[str, Any] = dict(own)
        if variant in published.index:
            row.update({f"published_{name}": published.at[variant, name] for name in NAMES})
        if PUBLISHED_SPLIT in conditions:
            rerun = _measured(metrics, run_name(variant, PUBLISHED_SPLIT))
            row |= {f"rerun_{name}": rerun[name] for name in NAMES}
        rows.append({"variant": variant, "runs": 1} | row)
        if NATIVE in conditions:
            twin = _measured(metrics, run_name(variant, NATIVE))
            change = {f"difference_{name}": _difference(twin[name], own[name]) for name in NAMES}
            rows.append({"variant": run_name(variant, NATIVE), "runs": 1} | twin | change)
        if len(seeds) > 1:
            runs = pd.DataFrame([_measured(metrics, run_name(variant, c)) for c in seeds])
            images = int(runs["images"].iloc[0])
            rows.append({"variant": run_name(variant, SEEDS), "images": images} | _spread(runs))
        if folds:
            runs = pd.DataFrame([_measured(metrics, run_name(variant, c)) for c in folds])
            images = int(runs["images"].sum())
            rows.append({"variant": run_name(variant, FOLDS), "images": images} | _spread(runs))
    prefixes = ("", "sd_", "difference_", "published_", "rerun_")
    columns = ["variant", "runs", "images", *(p + name for name in NAMES for p in prefixes)]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype(dict.fromkeys(columns[3:], float))


def with_epochs(comparison: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The comparison with a column epochs: how many each run was trained for at most.

    Args:
        comparison: as `compare` gives it; rows of several runs get none.
        curves: as `collect_curves` gives them.
    """
    epochs = comparison["variant"].map(curves.groupby("variant")["epoch"].max()).astype("Int64")
    table = comparison.copy()
    table.insert(3, "epochs", epochs)
    return table


def with_intervals(comparison: pd.DataFrame, evaluation: Path) -> pd.DataFrame:
    """The comparison with columns low_<name> and high_<name>, from <evaluation>/<run>/scores.csv.

    Raises:
        UserError: a run has no such file; rows of several runs need none.
    """
    bounds: list[dict[str, float]] = []
    for variant in comparison["variant"]:
        if variant.partition("+")[2] in (SEEDS, FOLDS):
            bounds.append({})
            continue
        scores = read_csv(evaluation / variant / "scores.csv", SCORES, "evaluate")
        rows = scores.set_index(scores["task"] + "_" + scores["metric"])
        known = [name for name in NAMES if name in rows.index]
        bounds.append(
            {f"{side}_{name}": rows.at[name, side] for side in ("low", "high") for name in known}
        )
    columns = [f"{side}_{name}" for name in NAMES for side in ("low", "high")]
    return comparison.join(pd.DataFrame(bounds, comparison.index, columns, float))


def _measured(metrics: Path, run: str) -> dict[str, float | None]:
    path = metrics / f"{run}.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; run `dvc repro {stage_name(run, 'evaluate')}`")
    content = json.loads(path.read_text(encoding="utf-8"))
    figures = {f"{t}_{f}": content.get(t, {}).get(f) for t in TASKS for f in FIGURES}
    return {"images": content["images"]} | figures


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _spread(runs: pd.DataFrame) -> dict[str, float]:
    figures = runs[NAMES].astype(float)
    deviations = figures.std(ddof=1).add_prefix("sd_")
    return {"runs": len(runs)} | figures.mean().to_dict() | deviations.to_dict()
