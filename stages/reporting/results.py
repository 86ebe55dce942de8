"""The results in the workspace that the report shows, read once and checked.

Timings and the tables of searches, which DVC does not track, may be missing; the rest may not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.comparison.label_issues import COLUMNS as ISSUE_COLUMNS
from stages.comparison.leakage import COLUMNS as LEAKAGE_COLUMNS
from stages.comparison.significance import COLUMNS as TEST_COLUMNS
from stages.comparison.trainings import read_timings
from stages.core.errors import UserError
from stages.core.files import read_csv
from stages.core.params import Params
from stages.core.paths import RunPaths
from stages.core.sections import TASKS
from stages.evaluation.predictions import Predictions, read_predictions
from stages.reporting.structure import Structure, read_structure
from stages.runs.resolve import read_plan

_TRAITS = ("gender", "race", "age")
_TABLES = {  # of data/evaluation/<run>/: the columns that are text, and those that are numbers
    "scores": (("task", "metric"), ("value", "low", "high")),
    "per_class": (("task", "class"), ("precision", "recall", "f1", "support")),
    "confusion": (("task", "actual", "predicted"), ("images", "share")),
    "reliability": (("task", "scaling"), ("bin", "images", "confidence", "accuracy")),
    "subgroups": (("task", "by", *_TRAITS), ("images", "accuracy", "low", "high")),
    "fairness": (
        ("task", "by", "worst", "best", "odds_class"),
        ("groups", "worst_accuracy", "best_accuracy", "gap", "odds_difference"),
    ),
}


@dataclass(frozen=True)
class RunResults:
    """The results of one variant of the suite.

    Attributes:
        plan: the content of data/plan/<variant>.json.
        training: params and outcome of its training.
        weights: name and SHA-256 of the pretrained weights (`file`, `sha256`).
        structure: of the saved network.
        predictions: for the test images.
        costs: the content of costs.json.
        temperatures: by task.
        tables: of data/evaluation/<variant>/, by file name without suffix.
    """

    plan: dict[str, Any]
    training: dict[str, Any]
    weights: dict[str, Any]
    structure: Structure
    predictions: Predictions
    costs: dict[str, float]
    temperatures: dict[str, float]
    tables: dict[str, pd.DataFrame]

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
    """The results of the whole workspace.

    Attributes:
        runs: by variant, in the order of the suite.
        detected, split, audit: the content of metrics/detect.json, split.json and audit.json.
        comparison: as `compare` returns it, with the costs.
        curves, tests, leakage, issues, conflicting: the tables of these files.
        timings: of all runs, empty if the run was not trained here; None: not to be shown.
        searches: the table of each search that has one, by name.
    """

    runs: dict[str, RunResults]
    detected: dict[str, Any]
    split: dict[str, Any]
    audit: dict[str, Any]
    comparison: pd.DataFrame
    curves: pd.DataFrame
    tests: pd.DataFrame
    leakage: pd.DataFrame
    issues: pd.DataFrame
    conflicting: pd.DataFrame
    timings: pd.DataFrame | None
    searches: dict[str, pd.DataFrame]


def read_results(params: Params) -> Results:
    """Read the workspace in the current folder.

    Raises:
        UserError: a file is missing or malformed.
    """
    data, compared = Path("data"), Path("data/comparison")
    runs = params.runs
    comparison = read_csv(compared / "comparison.csv", ["variant"], "compare", na_values=[""])
    return Results(
        {variant: _read_run(params, variant) for variant in params.run_variants},
        _read_json(Path("metrics/detect.json"), "detect"),
        _read_json(Path("metrics/split.json"), "split"),
        _read_json(Path("metrics/audit.json"), "audit"),
        comparison,
        _read(
            compared / "curves.csv", "compare", ("variant", "figure", "split"), ("epoch", "value")
        ),
        _read(compared / "tests.csv", "compare", TEST_COLUMNS[:3], TEST_COLUMNS[3:]),
        _read(compared / "leakage.csv", "compare", LEAKAGE_COLUMNS[:2], LEAKAGE_COLUMNS[2:]),
        _read(compared / "label_issues.csv", "compare", ISSUE_COLUMNS[:4], ISSUE_COLUMNS[4:]),
        _read(data / "split/conflicting.csv", "split", ("name", "split"), ("group", "age")),
        read_timings(data / "timings", runs) if params.report.timings else None,
        _read_searches(data / "tuning", params),
    )


def _read_run(params: Params, variant: str) -> RunResults:
    data = Path("data")
    folder = data / "evaluation" / variant
    evaluated, trained = f"evaluate@{variant}", f"train@{variant}"
    classes = {task: params.classes.of(task) for task in TASKS}
    plan = read_plan(variant)
    shown = {"learning_rate", "batch_size", "epochs"}
    training = plan.training.model_dump(include=shown)
    outcome = _read_json(data / "training" / f"{variant}.json", trained)
    return RunResults(
        {
            "structure": plan.network.model_dump() | {"tasks": " ".join(plan.tasks)},
            "recipe": plan.training.model_dump(exclude={"augmentation"}),
            "augmentation": plan.training.augmentation and plan.training.augmentation.model_dump(),
        },
        {**training, "epochs_run": outcome.pop("epochs"), **outcome},
        _read_json(data / "pretrained/runs" / f"{variant}.json", "pretrained"),
        read_structure(Path("models") / variant / "model.keras"),
        read_predictions(RunPaths(variant).predictions("test"), classes),
        _read_json(folder / "costs.json", evaluated),
        _read_json(folder / "calibration.json", evaluated)["temperatures"],
        {
            name: _read(folder / f"{name}.csv", evaluated, *columns)
            for name, columns in _TABLES.items()
        },
    )


def _read_searches(folder: Path, params: Params) -> dict[str, pd.DataFrame]:
    """The tables of those searches of params.yaml that have one."""
    return {
        name: _read_search(path, name)
        for name in params.searches
        if (path := folder / f"{name}.csv").is_file()
    }


def _read_search(path: Path, name: str) -> pd.DataFrame:
    columns = ["experiment", "state", "val_score", "mark"]
    empty = {name: [""] for name in ("val_score", "difference", "best_epoch", "epochs")}
    try:
        return read_csv(path, columns, "tune", na_values=empty)
    except UserError as error:
        raise UserError(f"{error}; or rather `utkface-mtl tune table {name}`") from None


def _read(path: Path, stage: str, texts: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """A table whose empty numbers are missing values; other columns stay as they are."""
    columns = [*texts, *numbers]
    options: Mapping[str, Any] = {
        "dtype": dict.fromkeys(texts, "str"),
        "na_values": {name: [""] for name in numbers},
    }
    return read_csv(path, columns, stage, **options)


def _read_json(path: Path, stage: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: missing; run `dvc repro {stage}`")
    return dict(json.loads(path.read_text(encoding="utf-8")))
