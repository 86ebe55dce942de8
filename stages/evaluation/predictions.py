"""The prediction files of a run, from which all its figures follow (docs/reference/files.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import read_csv
from stages.networks.prediction import median_years

Classes = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Predictions:
    """The content of a file with N images, in its order."""

    names: list[str]
    classes: Classes  # class names of all tasks
    true: dict[str, npt.NDArray[np.int64]]  # class indices of all tasks (N)
    predicted: dict[str, npt.NDArray[np.int64]]  # class indices of the run's tasks (N)
    probabilities: dict[str, npt.NDArray[np.float64]]  # (N, classes), rows of sum 1
    years: npt.NDArray[np.float64] | None  # true and predicted age (N, 2), if predicted

    @property
    def tasks(self) -> list[str]:
        """The tasks that were predicted."""
        return list(self.predicted)

    @property
    def year_errors(self) -> npt.NDArray[np.float64] | None:
        """Predicted minus true age in years (N), if predicted."""
        return None if self.years is None else self.years[:, 1] - self.years[:, 0]

    def right(self, task: str) -> npt.NDArray[np.bool_]:
        """Whether each image's class was predicted (N)."""
        return self.true[task] == self.predicted[task]


def prediction_table(
    names: Sequence[str],
    labels: Mapping[str, npt.NDArray[np.int64]],
    probabilities: Mapping[str, npt.NDArray[np.float32]],
    classes: Classes,
    ages: npt.NDArray[np.int64],
) -> pd.DataFrame:
    """The content of a prediction file for N images.

    `labels` has the true class indices (N) of all tasks, `probabilities` (N, classes) by task,
    and optionally under `age_years` (N, years), from 1; `ages` are the true ones in years (N).
    """
    columns: dict[str, object] = {"name": list(names)}
    for task, names_of_task in classes.items():
        class_names = np.array(names_of_task)
        columns[f"{task}_true"] = class_names[labels[task]]
        if task in probabilities:
            values = probabilities[task]
            columns[f"{task}_predicted"] = class_names[values.argmax(axis=1)]
            columns |= {f"{task}_p_{name}": values[:, i] for i, name in enumerate(class_names)}
    if "age_years" in probabilities:
        columns["years_true"] = ages
        columns["years_predicted"] = median_years(probabilities["age_years"])
    return pd.DataFrame(columns)


def read_predictions(path: Path, classes: Classes) -> Predictions:
    """Read a prediction file. The tasks of the run are those with a predicted column.

    A `UserError` if it is missing or malformed, has no image or task, an image twice, an unknown
    class or an invalid probability, or lacks a column of a task.
    """
    mend = "run `dvc repro -f evaluate`"
    truths = [f"{task}_true" for task in classes]
    texts = ["name", *truths, *(f"{task}_predicted" for task in classes)]
    frame = read_csv(path, ["name", *truths], "evaluate", dtype=dict.fromkeys(texts, "str"))
    if frame.empty:
        raise UserError(f"{path}: lacks any image; {mend}")
    if (twice := frame["name"].duplicated()).any():
        raise UserError(f"{path}: {frame['name'][twice].iloc[0]!r} stands there twice; {mend}")
    tasks = [task for task in classes if any(c.startswith(f"{task}_p") for c in frame.columns)]
    if not tasks:
        raise UserError(f"{path}: lacks the predictions of any task; {mend}")
    shares = {task: [f"{task}_p_{name}" for name in classes[task]] for task in tasks}
    years = ["years_true", "years_predicted"] if "years_predicted" in frame else []
    needed = [*(f"{task}_predicted" for task in tasks), *chain(*shares.values(), years)]
    if missing := [column for column in needed if column not in frame]:
        raise UserError(f"{path}: lacks the columns {missing}; {mend}")
    return Predictions(
        frame["name"].tolist(),
        classes,
        {task: _codes(path, frame[f"{task}_true"], classes[task]) for task in classes},
        {task: _codes(path, frame[f"{task}_predicted"], classes[task]) for task in tasks},
        {task: _probabilities(path, frame[shares[task]], task) for task in tasks},
        _numbers(path, frame[years]) if years else None,
    )


def groups_of(predictions: Predictions, split: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The duplicate group of each predicted image (N), from split.csv's columns name and group."""
    return split["group"].to_numpy(np.int64)[_rows(predictions, split)]


def count_splits(predictions: Predictions, split: pd.DataFrame) -> dict[str, int]:
    """The number of predicted images by split, from split.csv's columns name and split."""
    counts = split["split"].iloc[_rows(predictions, split)].value_counts()
    return {str(name): int(number) for name, number in counts.items()}


def _rows(predictions: Predictions, split: pd.DataFrame) -> npt.NDArray[np.int64]:
    rows = pd.Index(split["name"]).get_indexer(pd.Index(predictions.names))
    if (rows < 0).any():
        stray = predictions.names[int(np.argmin(rows))]
        raise UserError(f"split.csv: lacks the predicted image {stray!r}; run `dvc repro`")
    return rows.astype(np.int64)


def _codes(path: Path, column: pd.Series, names: Sequence[str]) -> npt.NDArray[np.int64]:
    codes = pd.Index(list(names)).get_indexer(pd.Index(column))
    if (codes < 0).any():
        stray = column.iloc[int(np.argmin(codes))]
        raise UserError(f"{path}: {column.name} {stray!r} is not one of {list(names)}")
    return codes.astype(np.int64)


def _probabilities(path: Path, columns: pd.DataFrame, task: str) -> npt.NDArray[np.float64]:
    values = _numbers(path, columns)
    total = values.sum(axis=1, keepdims=True)  # only nearly 1: the file has six digits
    if not ((values >= 0).all() and (abs(total - 1) < 1e-3).all()):
        raise UserError(f"{path}: the probabilities of {task} are negative or do not sum to 1")
    return values / total


def _numbers(path: Path, columns: pd.DataFrame) -> npt.NDArray[Any]:
    try:
        return columns.to_numpy(float)
    except ValueError as error:
        raise UserError(f"{path}: not a number in {list(columns)}: {error}") from error
