"""The results in the workspace that the report shows, read once.

Timings and the tables of searches, which DVC does not track, may be missing; the rest may not.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.comparison.trainings import read_timings
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_csv, read_json
from stages.core.params import Params
from stages.core.paths import COMPARISON, RunPaths
from stages.core.sections import TASKS
from stages.evaluation.predictions import Predictions, read_predictions
from stages.reporting.structure import Structure, read_structure
from stages.runs.resolve import Plan, read_plan
from stages.tuning.search_table import CHANGE, DIFFERENCE, LAST, SCORE, SPREAD
from stages.tuning.searches import combinations

TABLES = ("scores", "per_class", "confusion", "reliability", "subgroups", "fairness")
TEXTS = (  # columns of any table that are text; the others are numbers, maybe missing
    *("variant", "variant_a", "variant_b", "name", "split", "task", "metric", "figure", "scaling"),
    *("class", "actual", "predicted", "given", "suggested", "odds_class"),
    *("by", *TASKS, "worst", "best"),
)


@dataclass(frozen=True)
class RunResults:
    """The results of one variant."""

    plan: Plan
    training: dict[str, Any]  # the content of data/training/<variant>.json
    weights: dict[str, Any]  # `file` and `sha256` of the pretrained ones
    provenance: dict[str, Any]  # of the network
    structure: Structure
    predictions: Predictions  # for the test images
    costs: dict[str, float]  # the content of costs.json
    temperatures: dict[str, float]  # by task
    tables: dict[str, pd.DataFrame]  # of data/evaluation/<variant>/, by file name without suffix

    def score(self, task: str, metric: str) -> tuple[float, float, float]:
        """A score with its interval; NaN where there is none."""
        table = self.tables["scores"]
        rows = table[(table["task"] == task) & (table["metric"] == metric)]
        if rows.empty:
            return (float("nan"),) * 3
        value, low, high = rows.iloc[0][["value", "low", "high"]].astype(float)
        return value, low, high


@dataclass(frozen=True)
class Results:
    """The results of the whole workspace: the content of its files by their names."""

    runs: dict[str, RunResults]  # by variant, in the order of `runs`
    detected: dict[str, Any]
    split: dict[str, Any]
    audit: dict[str, Any]
    comparison: pd.DataFrame  # as `compare` returns it, with the costs
    curves: pd.DataFrame
    tests: pd.DataFrame
    contrasts: pd.DataFrame
    leakage: pd.DataFrame
    label_noise: pd.DataFrame
    issues: pd.DataFrame
    conflicting: pd.DataFrame
    timings: pd.DataFrame | None  # empty rows for runs not trained here; None: not shown
    searches: dict[str, pd.DataFrame]  # those that have a table


def read_results(params: Params) -> Results:
    """Read the workspace in the current folder; a `UserError` if a file is missing or malformed."""
    compared = {
        name: _read(COMPARISON / f"{name}.csv", "compare")
        for name in ("comparison", "curves", "tests", "contrasts", "leakage", "label_noise")
    }
    return Results(
        runs={variant: _read_run(params, variant) for variant in params.run_variants},
        detected=read_json(paths.DETECT_METRICS, "detect"),
        split=read_json(paths.SPLIT_METRICS, "split"),
        audit=read_json(paths.AUDIT_METRICS, "audit"),
        **compared,
        issues=_read(COMPARISON / "label_issues.csv", "compare"),
        conflicting=_read(paths.CONFLICTING, "split"),
        timings=read_timings(paths.TIMINGS, params.runs) if params.report.timings else None,
        searches=read_searches(params),
    )


def _read_run(params: Params, variant: str) -> RunResults:
    files, plan = RunPaths(variant), read_plan(variant)
    evaluated = f"evaluate{'-average' if plan.members else ''}@{variant}"
    classes = {task: params.classes.of(task) for task in TASKS}
    folder = files.evaluation
    # An average has its own scores; network and training are shown of its first member.
    trained = RunPaths(plan.members[0]) if plan.members else files
    return RunResults(
        plan=plan,
        training=read_json(trained.training, f"train@{trained.run}"),
        weights=read_json(trained.weights, "pretrained"),
        provenance=read_json(trained.provenance, f"train@{trained.run}"),
        structure=read_structure(trained.network),
        predictions=read_predictions(files.predictions("test"), classes),
        costs=read_json(folder / "costs.json", evaluated),
        temperatures=read_json(folder / "calibration.json", evaluated)["temperatures"],
        tables={name: _read(folder / f"{name}.csv", evaluated) for name in TABLES},
    )


def read_searches(params: Params) -> dict[str, pd.DataFrame]:
    """The tables of the searches that have one, by their names."""
    found = [name for name in params.searches if (paths.TUNING / f"{name}.csv").is_file()]
    return {name: _read_search(params, name) for name in found}


def _read_search(params: Params, name: str) -> pd.DataFrame:
    """The table of a search; a `UserError` if it is of another grid than the search has now."""
    search, path = params.searches[name], paths.TUNING / f"{name}.csv"
    figures = [SCORE, *([SPREAD] if search.seeds > 1 else [])]
    ablation = search.vary == "one-by-one"
    settings = [CHANGE, DIFFERENCE] if ablation else list(search.grid)
    columns = ["experiment", "state", *settings, *figures, "mark"]
    accuracies = (f"{task}_val_accuracy" for task in TASKS)
    empty = {name: [""] for name in (SCORE, SPREAD, DIFFERENCE, *accuracies, *LAST)}
    try:
        table = read_csv(path, columns, "tune", na_values=empty)
        known = {each.name for each in combinations(params, name)}
        if other := [each for each in table["experiment"] if each not in known]:
            raise UserError(f"{path}: {other[0]} is no setting of the search's grid")
        if search.seeds == 1 and SPREAD in table:
            raise UserError(f"{path}: has several seeds, where the search has one")
    except UserError as error:
        raise UserError(f"{error}; or rather `utkface-mtl tune table {name}`") from None
    return table.astype({column: "Int64" for column in LAST if column in table})


def _read(path: Path, stage: str) -> pd.DataFrame:
    types = dict.fromkeys(TEXTS, "str")
    return read_csv(path, [], stage, dtype=types, na_values=[""]).fillna(dict.fromkeys(TEXTS, ""))
