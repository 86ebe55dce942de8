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
from stages.core.run_names import NATIVE, RunName
from stages.core.sections import TASKS

PUBLISHED = Path(__file__).with_name("published.csv")
FIGURES = ("accuracy", "macro_f1")
NAMES = [f"{task}_{figure}" for task in TASKS for figure in FIGURES]
KINDS = {"published": "published_", "rerun": "rerun_", "honest": ""}  # prefixes of columns
SCORES = ("task", "metric", "low", "high")  # columns of scores.csv
SEEDS, FOLDS = "seeds", "folds"  # stand as the condition of a row that has the mean of several


def compare(evaluation: Path, runs: Sequence[RunName]) -> pd.DataFrame:
    """A row for each variant, then for its native runs, for its seeds and for its folds.

    Args:
        evaluation: folder with <run>/metrics.json; files of runs not named are not read.
        runs: in the order of the rows; each variant without suffix is among them.

    Returns:
        Columns variant (`<variant>`, `<variant>+native`, `+seeds` or `+folds`; a run with another
        combination of suffixes has a row of its own), runs (how many are in the row; the
        variant's own seed is one of its seeds), images (tested by all of them together; those of
        one seed), and for each <name> = <task>_<figure>: <name> (a mean of several runs),
        sd_<name> (their sample standard deviation), difference_<name> (of the native run to the
        variant), published_<name>, rerun_<name> (a mean over seeds). Empty where there is none.

    Raises:
        UserError: a run has no metrics.
    """
    published = pd.read_csv(PUBLISHED, index_col="variant")
    measured = {run: _measured(evaluation, run.text) for run in runs}
    rows = []
    for base in (run for run in runs if not run.suffix):
        variant, own = base.variant, measured[base]
        others = [run for run in runs if run.variant == variant and run.suffix]
        reruns = [run for run in others if run.is_published_split and not run.native]
        seeds = [run for run in others if run.suffix == f"seed-{run.seed}"]
        folds = [run for run in others if run.suffix == run.split and run.fold is not None]
        row: dict[str, Any] = dict(own)
        if variant in published.index:
            row.update({f"published_{name}": published.at[variant, name] for name in NAMES})
        if reruns:
            mean = _spread([measured[run] for run in reruns])
            row |= {f"rerun_{name}": mean[name] for name in NAMES}
        rows.append({"variant": variant, "runs": 1} | row)
        for run in others:
            if run in reruns or run in seeds or run in folds:
                continue
            change = {}
            if run.suffix == NATIVE:
                change = {n: _difference(measured[run][n], own[n]) for n in NAMES}
            change = {f"difference_{name}": value for name, value in change.items()}
            rows.append({"variant": run.text, "runs": 1} | measured[run] | change)
        if seeds:
            several = [own, *(measured[run] for run in seeds)]
            rows.append(
                {"variant": f"{variant}+{SEEDS}", "images": own["images"], **_spread(several)}
            )
        if folds:
            several = [measured[run] for run in folds]
            images = sum(int(figures["images"] or 0) for figures in several)
            rows.append({"variant": f"{variant}+{FOLDS}", "images": images, **_spread(several)})
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


def _measured(evaluation: Path, run: str) -> dict[str, float | None]:
    path = evaluation / run / "metrics.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; run `dvc repro evaluate@{run}`")
    content = json.loads(path.read_text(encoding="utf-8"))
    figures = {f"{t}_{f}": content.get(t, {}).get(f) for t in TASKS for f in FIGURES}
    return {"images": content["images"]} | figures


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _spread(runs: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The number of runs, the mean of each figure and its sample standard deviation."""
    figures = pd.DataFrame(runs)[NAMES].astype(float)
    deviations = figures.std(ddof=1).add_prefix("sd_")
    return {"runs": len(figures)} | figures.mean().to_dict() | deviations.to_dict()
