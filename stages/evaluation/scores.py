"""Scores of a run's predictions, with bootstrap intervals; per class; confusion matrices.

Most are computed from confusion matrices, for the sample and thousands of resamples at once;
scikit-learn, which the tests compare them with, takes one list of labels a call.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import confusion_matrix, roc_auc_score
from sklearn.metrics import precision_recall_fscore_support as per_class_scores

from stages.evaluation.bootstrap import Array, effective_number, interval, resampled_sums, wilson
from stages.evaluation.calibration import negative_log_likelihood, scaled
from stages.evaluation.predictions import Predictions

COMBINED = "all"  # the task of the combined score
ORDERED = "age"  # the task whose classes have an order
CS_YEARS = 5
AGE_RANGE = (21, 60)  # years; of Adience, MORPH and AFAD, and so of most papers
FEWEST_IMAGES = 30  # for a score of only some of the images
COVERAGES = np.arange(1.0, 0.49, -0.05).round(2)
_SUMMARY = (
    *("accuracy", "macro_f1", "accuracy_adult", "roc_auc", "nll", "ece"),
    *("one_off", "mae", "cs5", "mae_21_60", "cs5_21_60"),
)


def rates(counts: Array, ordered: bool = False) -> dict[str, Array]:
    """Scores in [0, 1], each (...), from confusion matrices (..., true classes, predicted classes).

    accuracy. balanced_accuracy: the mean recall of the classes that have an image. macro_f1: the
    mean over the classes that have an image or were predicted. weighted_f1: the mean weighted by
    the classes' images. one_off, if the classes are ordered: the share of images that are off by
    one class at most.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    images = true.sum(axis=-1)
    recall = right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(true + predicted, 1)
    scores = {
        "accuracy": right.sum(axis=-1) / images,
        "balanced_accuracy": recall.sum(axis=-1) / (true > 0).sum(axis=-1),
        "macro_f1": f1.sum(axis=-1) / (true + predicted > 0).sum(axis=-1),
        "weighted_f1": (f1 * true).sum(axis=-1) / images,
    }
    if ordered:
        classes = np.arange(counts.shape[-1])
        near = abs(classes[:, np.newaxis] - classes) <= 1
        scores["one_off"] = (counts * near).sum(axis=(-2, -1)) / images
    return scores


def score_table(
    predictions: Predictions,
    groups: npt.NDArray[np.int64],
    temperatures: Mapping[str, float],
    task_weights: Mapping[str, float],
    confidence: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Every score of every task, and the combined one, with bootstrap intervals.

    `groups` has the duplicate group of each image (N), the unit that is resampled. `temperatures`
    were fitted on other images. `task_weights` are those of the accuracies in the combined score,
    brought to sum 1 over the tasks that were predicted.

    Columns task, metric, value, low, high. Metrics of a task: those of `rates`; nll (mean,
    nats) and nll_scaled (at the task's temperature); mae (mean absolute error of the predicted
    age, years) and cs5 (cumulative score, the share of errors of at most 5 years), both also of
    true ages 21 to 60 alone; accuracy_adult of gender (beyond the first age group). The last row
    is the combined score (task `all`). If all images are correct, or none, all resamples are
    equal: the interval of accuracy and one_off is then Wilson's.
    """
    parts = _parts(predictions, temperatures)
    values = np.hstack(list(parts.values()))
    sums = np.vstack([values.sum(axis=0), resampled_sums(values, groups, resamples, seed)])
    ends = np.cumsum([part.shape[1] for part in parts.values()])
    pieces = dict(zip(parts, np.split(sums, ends[:-1], axis=1), strict=True))

    figures: dict[tuple[str, str], Array] = {}
    for task in predictions.tasks:
        number = len(predictions.classes[task])
        counts = pieces.pop((task, "counts")).reshape(-1, number, number)
        images = counts.sum(axis=(1, 2))
        figures |= {(task, m): v for m, v in rates(counts, task == ORDERED).items()}
        for key, part in pieces.items():
            if key[0] == task:  # a sum over all images, or over those that the second column counts
                figures[key] = part[:, 0] / (part[:, 1] if part.shape[1] > 1 else images)
    accuracies = [figures[task, "accuracy"] for task in predictions.tasks]
    weights = [task_weights[task] for task in predictions.tasks]
    figures[COMBINED, "score"] = np.average(accuracies, axis=0, weights=weights)

    rows = []
    for (task, metric), each in figures.items():
        low, high = interval(each[1:], confidence)
        if metric in ("accuracy", "one_off") and each[0] in (0, 1):
            low, high = wilson(each[0], effective_number(groups), confidence)
        rows.append((task, metric, float(each[0]), float(low), float(high)))
    return pd.DataFrame(rows, columns=["task", "metric", "value", "low", "high"])


def _parts(
    predictions: Predictions, temperatures: Mapping[str, float]
) -> dict[tuple[str, str], npt.NDArray[Any]]:
    """Quantities to be summed over the images, (N, K) each, by task and name."""
    parts: dict[tuple[str, str], npt.NDArray[Any]] = {}
    for task in predictions.tasks:
        true, probabilities = predictions.true[task], predictions.probabilities[task]
        number = len(predictions.classes[task])
        pairs = true * number + predictions.predicted[task]
        parts[task, "counts"] = np.eye(number * number)[pairs]
        parts[task, "nll"] = negative_log_likelihood(probabilities, true)[:, np.newaxis]
        if task in temperatures:
            warmed = scaled(probabilities, temperatures[task])
            parts[task, "nll_scaled"] = negative_log_likelihood(warmed, true)[:, np.newaxis]
        if task == ORDERED and predictions.years is not None:
            years, errors = predictions.years[:, 0], np.abs(np.diff(predictions.years)[:, 0])
            near = errors <= CS_YEARS
            parts |= {(task, "mae"): errors[:, np.newaxis], (task, "cs5"): near[:, np.newaxis]}
            middle = (years >= AGE_RANGE[0]) & (years <= AGE_RANGE[1])
            parts |= _of_some(middle, {(task, "mae_21_60"): errors, (task, "cs5_21_60"): near})
        if task == "gender":
            adult = {(task, "accuracy_adult"): predictions.right(task)}
            parts |= _of_some(predictions.true[ORDERED] > 0, adult)
    return parts


def _of_some(
    chosen: npt.NDArray[np.bool_], values: Mapping[tuple[str, str], npt.NDArray[Any]]
) -> dict[tuple[str, str], npt.NDArray[Any]]:
    """Values of chosen images beside their number (N, 2); nothing of too few."""
    if chosen.sum() < FEWEST_IMAGES:
        return {}
    return {key: np.column_stack([each * chosen, chosen]) for key, each in values.items()}


def summarise(scores: pd.DataFrame, images: int) -> dict[str, object]:
    """The main figures of a run by task, the combined score and the number of images."""
    summary: dict[str, Any] = {"images": images}
    for row in scores.itertuples():
        value = round(float(str(row.value)), 6)
        if row.task == COMBINED:
            summary[str(row.metric)] = value
        elif row.metric in _SUMMARY:
            summary.setdefault(str(row.task), {})[str(row.metric)] = value
    return summary


def per_class(predictions: Predictions) -> pd.DataFrame:
    """Precision, recall, F1 and support (test images) of each class of each task.

    Precision is 0 for a class that was never predicted, recall for one without an image.
    """
    tables = []
    for task in predictions.tasks:
        precision, recall, f1, support = per_class_scores(
            predictions.true[task],
            predictions.predicted[task],
            labels=range(len(predictions.classes[task])),
            zero_division=0,
        )
        columns = {"precision": precision, "recall": recall, "f1": f1, "support": support}
        tables.append(pd.DataFrame({"task": task, "class": predictions.classes[task], **columns}))
    return pd.concat(tables, ignore_index=True)


def area_under_curve(predictions: Predictions, task: str) -> float:
    """Area under the ROC curve of a task of two classes, both of which have an image, in [0, 1]."""
    second = predictions.probabilities[task][:, 1]
    return float(roc_auc_score(predictions.true[task], second))


def coverage(predictions: Predictions) -> pd.DataFrame:
    """Accuracy where a task is answered for its most confident images only.

    Columns task, coverage (share of the images that are answered, 0.5 to 1), confidence (the lowest
    of them), accuracy.
    """
    rows = []
    for task in predictions.tasks:
        confidence = predictions.probabilities[task].max(axis=1)
        order = np.argsort(-confidence, kind="stable")
        right = np.cumsum(predictions.right(task)[order])
        for share in COVERAGES:
            number = max(1, round(share * len(order)))
            rows.append((task, share, confidence[order[number - 1]], right[number - 1] / number))
    return pd.DataFrame(rows, columns=["task", "coverage", "confidence", "accuracy"])


def decades(predictions: Predictions) -> pd.DataFrame:
    """The error of the predicted age by decade of the true one; no row if ages are not predicted.

    Columns decade (its first year), images, mae and bias (mean of predicted minus true age; years),
    cs5.
    """
    columns = ["decade", "images", "mae", "bias", "cs5"]
    if predictions.years is None or predictions.year_errors is None:
        return pd.DataFrame(columns=columns)
    error = predictions.year_errors
    frame = pd.DataFrame({"mae": abs(error), "bias": error, "cs5": abs(error) <= CS_YEARS})
    grouped = frame.astype(float).groupby(predictions.years[:, 0].astype(int) // 10 * 10)
    table = grouped.mean().assign(images=grouped.size())
    return table.rename_axis("decade").reset_index()[columns]


def confusion(predictions: Predictions) -> pd.DataFrame:
    """Confusion matrices as rows: task, actual, predicted, images, share of the actual class."""
    tables = []
    for task in predictions.tasks:
        names, true = predictions.classes[task], predictions.true[task]
        counts = confusion_matrix(true, predictions.predicted[task], labels=range(len(names)))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        classes = pd.MultiIndex.from_product([[task], names, names])
        columns = {"images": counts.ravel(), "share": shares.ravel()}
        tables.append(pd.DataFrame(columns, classes))
    return pd.concat(tables).rename_axis(["task", "actual", "predicted"]).reset_index()
