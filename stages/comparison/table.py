"""All runs side by side: published, rerun, honest.

The published figures (`published.csv`, as they were printed) come from a protocol that trained
on most of its test images, a rerun is the same network under that protocol here, and honest
figures come from test images that were never trained on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.files import read_csv, read_json
from stages.core.run_names import NATIVE, PUBLISHED_SPLIT, RunName
from stages.core.sections import TASKS

PUBLISHED = Path(__file__).with_name("published.csv")
PUBLISHED_BOUNDS = (14, 25, 40, 60, 116)  # of the age groups, years
FIGURES = ("accuracy", "macro_f1")
NAMES = [f"{task}_{figure}" for task in TASKS for figure in FIGURES]
KINDS = {"published": "published_", "rerun": "rerun_", "honest": ""}  # prefixes of columns
SCORES = ("task", "metric", "low", "high")  # columns of scores.csv
ENDS = ("low", "high")
SEEDS, FOLDS = "seeds", "folds"  # stand as the condition of a row that has the mean of several


def compare(evaluation: Path, runs: Sequence[RunName], published: pd.DataFrame) -> pd.DataFrame:
    """A row for each variant, then for its native runs, for its seeds and for its folds.

    From <evaluation>/<run>/metrics.json of the runs, of which each variant without suffix is one,
    and what `read_published` returns.
    Columns variant (with `+native`, `+seeds`, `+folds`, or other suffixes of a single run), runs
    (in the row; the variant's own seed is one of its seeds), images (tested by all of them
    together; those of one seed), and for each <name> = <task>_<figure>: <name> (a mean of several
    runs), sd_<name> (their sample standard deviation), difference_<name> (of the native run to the
    variant), published_<name>, rerun_<name> (a mean over seeds). Empty where there is none.
    """
    measured = pd.DataFrame({run.text: _measured(evaluation, run.text) for run in runs}).T
    rows: list[dict[str, Any]] = []
    for base in (run for run in runs if not run.suffix):
        variant, own = base.variant, measured.loc[base.text]
        others = [run for run in runs if run.variant == variant and run.suffix]
        reruns = [run.text for run in others if run.is_published_split and not run.native]
        seeds = [run.text for run in others if run.suffix == f"seed-{run.seed}"]
        folds = [run.text for run in others if run.suffix == run.split and run.fold is not None]
        row = {"variant": variant, "runs": 1, **own}
        if variant in published.index:
            row |= published.loc[variant].add_prefix("published_").to_dict()
        if reruns:
            row |= measured.loc[reruns, NAMES].mean().add_prefix("rerun_").to_dict()
        rows.append(row)
        for run in others:
            if run.text in (*reruns, *seeds, *folds):
                continue
            row = {"variant": run.text, "runs": 1, **measured.loc[run.text]}
            if run.suffix == NATIVE:
                change = measured.loc[run.text, NAMES] - own[NAMES]
                row |= change.add_prefix("difference_").to_dict()
            rows.append(row)
        if seeds:
            rows.append(_mean(measured.loc[[base.text, *seeds]], f"{variant}+{SEEDS}"))
            rows[-1]["images"] = own["images"]
        if folds:
            rows.append(_mean(measured.loc[folds], f"{variant}+{FOLDS}"))
    prefixes = ("", "sd_", "difference_", "published_", "rerun_")
    columns = ["variant", "runs", "images", *(p + name for name in NAMES for p in prefixes)]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype({"images": int} | dict.fromkeys(columns[3:], float))


def read_published(source: str, age_bounds: Sequence[int] = PUBLISHED_BOUNDS) -> pd.DataFrame:
    """The published figures, a row for each variant, columns <task>_<figure>.

    They are of photographs: without a row if `source`, data.source, is the demo of drawn faces. And
    of five age groups: without figures of the age if `age_bounds` are others.
    """
    published = pd.read_csv(PUBLISHED, index_col="variant")[NAMES]
    if [*age_bounds] != [*PUBLISHED_BOUNDS]:
        published[[name for name in NAMES if name.startswith("age_")]] = np.nan
    return published.iloc[:0] if source == "demo" else published


def with_epochs(comparison: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The comparison with the last epoch of each single run, and of its rerun, in their curves.

    In columns epochs and rerun_epochs; empty where there is none.
    """
    table, last = comparison.copy(), curves.groupby("variant")["epoch"].max()
    names = table["variant"]
    table.insert(3, "epochs", names.map(last).astype("Int64"))
    table.insert(4, "rerun_epochs", (names + f"+{PUBLISHED_SPLIT}").map(last).astype("Int64"))
    return table


def with_intervals(comparison: pd.DataFrame, evaluation: Path) -> pd.DataFrame:
    """The comparison with low_<name> and high_<name> of single runs, from their scores.csv."""
    bounds = []
    for variant in comparison["variant"]:
        rows = []
        if variant.partition("+")[2] not in (SEEDS, FOLDS):
            file = evaluation / variant / "scores.csv"
            rows = read_csv(file, SCORES, "evaluate").to_dict("records")
        bounds.append({f"{e}_{r['task']}_{r['metric']}": r[e] for r in rows for e in ENDS})
    columns = [f"{end}_{name}" for name in NAMES for end in ENDS]
    return comparison.join(pd.DataFrame(bounds, comparison.index, columns, float))


def _measured(evaluation: Path, run: str) -> pd.Series:
    content = read_json(evaluation / run / "metrics.json", f"evaluate@{run}")
    figures = {f"{t}_{f}": content.get(t, {}).get(f) for t in TASKS for f in FIGURES}
    return pd.Series({"images": content["images"]} | figures, dtype=float)


def _mean(runs: pd.DataFrame, name: str) -> dict[str, Any]:
    row = {"variant": name, "runs": len(runs), "images": runs["images"].sum()}
    deviations = runs[NAMES].std(ddof=1).add_prefix("sd_")
    return row | runs[NAMES].mean().to_dict() | deviations.to_dict()
