"""All figures of one run, from its prediction files and the duplicate groups."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.files import write_csv, write_json
from stages.core.params import Params
from stages.core.sections import TASKS
from stages.evaluation.calibration import (
    calibrates,
    calibration_error,
    fit_temperature,
    null_error,
    reliability,
    scaled,
)
from stages.evaluation.predictions import Predictions, groups_of, read_predictions
from stages.evaluation.scores import (
    COMBINED,
    area_under_curve,
    confusion,
    coverage,
    decades,
    per_class,
    score_table,
    summarise,
)
from stages.evaluation.subgroups import fairness_table, subgroup_table


@dataclass(frozen=True)
class Evaluation:
    """The figures of a run: its summary, tables by file name, temperatures by task."""

    summary: dict[str, object]
    tables: dict[str, pd.DataFrame]
    temperatures: dict[str, float]

    @property
    def in_one_line(self) -> str:
        """The accuracies and the combined score, for the terminal."""
        *tasks, score = [f"{name} {value:.3f}" for name, value in self.short.items()]
        return f"{self.summary['images']} test images, accuracy of {', '.join(tasks)}; {score}"

    @property
    def short(self) -> dict[str, float]:
        """The accuracy of each task and the combined score, as `dvc metrics` shows them."""
        tasks = {task: of for task, of in self.summary.items() if isinstance(of, dict)}
        return {t: of["accuracy"] for t, of in tasks.items()} | {"score": self.summary["score"]}

    def write(self, folder: Path, flip_tta: bool | None = None) -> None:
        """Write the summary as metrics.json, the tables, and the temperatures into a folder.

        `flip_tta`: whether the predictions are means with those for the flipped images, for
        which alone the temperatures hold; None: not known.
        """
        for name, table in self.tables.items():
            write_csv(folder / f"{name}.csv", table)
        calibration = {"flip_tta": flip_tta, "temperatures": self.temperatures}
        write_json(folder / "calibration.json", calibration)
        write_json(folder / "metrics.json", self.summary)


def evaluate_files(
    test_file: Path, val_file: Path | None, split: pd.DataFrame, params: Params
) -> Evaluation:
    """Score a run from its prediction files and the columns name and group of split.csv."""
    classes = {task: params.classes.of(task) for task in TASKS}
    test = read_predictions(test_file, classes)
    val = read_predictions(val_file, classes) if val_file else None
    return evaluate(test, groups_of(test, split), val, params)


def evaluate(
    test: Predictions, groups: npt.NDArray[np.int64], val: Predictions | None, params: Params
) -> Evaluation:
    """Score a run from its predictions for N test images and their duplicate groups (N).

    Temperatures are fitted on the predictions for validation images; without these, or where too
    few of them say how confident to be, the figures after temperature scaling are left out. Of
    `params` are read section `evaluate`, the seed of the bootstrap, and the weights of the tasks in
    the combined score.
    """
    settings, temperatures = params.evaluate, {}
    if val is not None:  # rounded as they are written: the file's temperatures give its figures
        for task in val.tasks:
            fitted = fit_temperature(val.probabilities[task], val.true[task])
            if calibrates(fitted, val.right(task)):
                temperatures[task] = round(fitted, 6)
    scores = score_table(
        test,
        groups,
        temperatures,
        params.train.task_weights.model_dump(),
        settings.confidence,
        settings.resamples,
        params.seed,
    )
    diagrams = _diagrams(test, temperatures, settings.bins)
    # No interval: the bins of a resample are rougher than the sample's, and its error larger. What
    # stands beside it is the range of the error by chance.
    errors: list[tuple[object, ...]] = []
    for key, diagram in diagrams.groupby(["task", "scaling"], sort=False):
        task, scaling = map(str, key)
        suffix = "" if scaling == "before" else "_scaled"
        shown = scaled(test.probabilities[task], temperatures[task] if suffix else 1.0)
        null = null_error(shown, settings.bins, settings.confidence, params.seed)
        errors.append((task, f"ece{suffix}", calibration_error(diagram), np.nan, np.nan))
        errors.append((task, f"ece_null{suffix}", *null))
    for task in test.tasks:
        if len(np.unique(test.true[task])) == len(test.classes[task]) == 2:
            errors.append((task, "roc_auc", area_under_curve(test, task), np.nan, np.nan))
    single = pd.DataFrame(errors, columns=["task", "metric", "value", "low", "high"])
    place = {task: i for i, task in enumerate([*test.tasks, COMBINED])}
    scores = pd.concat([scores, single], ignore_index=True)
    scores = scores.sort_values("task", key=lambda tasks: tasks.map(place), kind="stable")
    subgroups = subgroup_table(test, groups, settings.confidence, settings.min_subgroup_size)
    tables = {
        "scores": scores,
        "per_class": per_class(test),
        "confusion": confusion(test),
        "coverage": coverage(test),
        "decades": decades(test),
        "reliability": diagrams,
        "subgroups": subgroups,
        "fairness": fairness_table(test, subgroups, settings.min_subgroup_size),
    }
    return Evaluation(summarise(scores, len(test.names)), tables, temperatures)


def _diagrams(test: Predictions, temperatures: Mapping[str, float], bins: int) -> pd.DataFrame:
    diagrams = {}
    for task in test.tasks:
        probabilities, right = test.probabilities[task], test.right(task)
        diagrams[task, "before"] = reliability(probabilities, right, bins)
        if task in temperatures:
            warmed = scaled(probabilities, temperatures[task])
            diagrams[task, "after"] = reliability(warmed, right, bins)
    table = pd.concat(diagrams, names=["task", "scaling"])
    return table.reset_index(["task", "scaling"]).reset_index(drop=True)
