"""Scores of a variant, computed from its prediction file alone.

`data/predictions/<variant>.csv` has a row for each test image: `name`, and for each task
`<task>_true` and `<task>_predicted` (class names) and `<task>_p_<class>` (probability in
[0, 1], six digits). Where the network tells the age in years, `years_true` and
`years_predicted` (the expected age) stand there too. Whoever has the file can recompute
every figure.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
from sklearn.metrics import precision_recall_fscore_support as per_class_scores

from stages.workspace.errors import UserError
from stages.workspace.files import read_csv

Classes = Mapping[str, Sequence[str]]


def prediction_table(
    names: Sequence[str],
    labels: Mapping[str, npt.NDArray[np.int64]],
    probabilities: Mapping[str, npt.NDArray[np.float32]],
    classes: Classes,
    ages: npt.NDArray[np.int64],
) -> pd.DataFrame:
    """The prediction file's content.

    Args:
        names: of the images (N).
        labels: true class indices by task (N).
        probabilities: by task, (N, classes); `age_years`, where it is there: (N, years), from 1.
        classes: class names by task.
        ages: true ages in years (N).
    """
    columns: dict[str, object] = {"name": list(names)}
    for task, names_of_task in classes.items():
        class_names, values = np.array(names_of_task), probabilities[task]
        columns[f"{task}_true"] = class_names[labels[task]]
        columns[f"{task}_predicted"] = class_names[values.argmax(axis=1)]
        columns |= {f"{task}_p_{name}": values[:, i] for i, name in enumerate(class_names)}
    if "age_years" in probabilities:
        years = probabilities["age_years"]
        columns["years_true"] = ages
        columns["years_predicted"] = years @ np.arange(1, years.shape[1] + 1, dtype=years.dtype)
    return pd.DataFrame(columns)


def read_predictions(path: Path, classes: Classes) -> pd.DataFrame:
    """Read a prediction file.

    Raises:
        UserError: missing, without any image, or a column of a task is missing.
    """
    texts = ["name", *(f"{task}_{column}" for task in classes for column in ("true", "predicted"))]
    numbers = [f"{task}_p_{name}" for task, names in classes.items() for name in names]
    frame = read_csv(path, texts + numbers, "evaluate", dtype=dict.fromkeys(texts, "str"))
    if frame.empty:
        raise UserError(f"{path}: lacks any image; run `dvc repro -f evaluate`")
    return frame


def summarise(predictions: pd.DataFrame, classes: Classes) -> dict[str, object]:
    """Accuracy, macro F1 (both in [0, 1]) and NLL (nats) of each task, and the number of images.

    `age.mae` is the mean absolute error of the expected age in years, where it was predicted.

    Macro F1 is the mean over all classes of the task, those without a test image included
    (their F1 is 0 when they were predicted, and is left out when they were not).
    """
    summary: dict[str, Any] = {"images": len(predictions)}
    for task, names in classes.items():
        true, predicted = predictions[f"{task}_true"], predictions[f"{task}_predicted"]
        present = [name for name in names if (true == name).any() or (predicted == name).any()]
        macro_f1 = f1_score(true, predicted, labels=present, average="macro", zero_division=0)
        summary[task] = {
            "accuracy": round(float(accuracy_score(true, predicted)), 6),
            "macro_f1": round(float(macro_f1), 6),
            "nll": round(_nll(predictions, task, names), 6),
        }
    if "years_true" in predictions:
        errors = (predictions["years_true"] - predictions["years_predicted"]).abs()
        summary["age"] |= {"mae": round(float(errors.mean()), 6)}
    return summary


def _nll(predictions: pd.DataFrame, task: str, names: Sequence[str]) -> float:
    """Mean negative log-likelihood of the true classes, in nats, >= 0."""
    codes = predictions[f"{task}_true"].map({name: i for i, name in enumerate(names)})
    probabilities = predictions[[f"{task}_p_{name}" for name in names]].to_numpy(float)
    total = probabilities.sum(axis=1, keepdims=True)  # with six digits each, only nearly 1
    return float(log_loss(codes, probabilities / total, labels=range(len(names))))


def per_class(predictions: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    """Precision, recall, F1 and support (test images) of each class of each task."""
    tables = []
    for task, names in classes.items():
        precision, recall, f1, support = per_class_scores(
            predictions[f"{task}_true"],
            predictions[f"{task}_predicted"],
            labels=list(names),
            zero_division=0,
        )
        columns = {"precision": precision, "recall": recall, "f1": f1, "support": support}
        tables.append(pd.DataFrame({"task": task, "class": list(names), **columns}))
    return pd.concat(tables, ignore_index=True)


def confusion(predictions: pd.DataFrame, classes: Classes) -> pd.DataFrame:
    """Confusion matrices as rows: task, actual, predicted, images, share of the actual class."""
    rows = []
    for task, names in classes.items():
        counts = confusion_matrix(
            predictions[f"{task}_true"], predictions[f"{task}_predicted"], labels=list(names)
        )
        totals = counts.sum(axis=1)
        for i, actual in enumerate(names):
            for j, predicted in enumerate(names):
                share = counts[i, j] / totals[i] if totals[i] else 0.0
                rows.append((task, actual, predicted, int(counts[i, j]), float(share)))
    return pd.DataFrame(rows, columns=["task", "actual", "predicted", "images", "share"])
