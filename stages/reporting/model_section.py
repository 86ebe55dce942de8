"""The report's tables and charts of one model."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from stages.evaluation.predictions import Predictions
from stages.evaluation.scores import COMBINED
from stages.reporting import charts
from stages.reporting.results import RunResults
from stages.reporting.tables import Cell, Table, count, crossed, make_table, share, with_interval
from stages.reporting.theme import CELL, ROW, Figure, make_figure

ACCURACIES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "one_off": "off by one group at most",
    "mae": "mean absolute error, years",
    "cs5": "within 5 years",
    "mae_21_60": "mean absolute error at 21 to 60, years",
    "cs5_21_60": "within 5 years at 21 to 60",
    "accuracy_adult": "accuracy beyond the first age group",
    "roc_auc": "area under the ROC curve",
}
CALIBRATION = {
    "nll": "negative log-likelihood, nats",
    "nll_scaled": "the same after temperature scaling",
    "ece": "expected calibration error",
    "ece_null": "the same by chance, if perfectly calibrated",
    "ece_scaled": "the calibration error after temperature scaling",
    "ece_null_scaled": "the same by chance, if perfectly calibrated",
}


def variants_table(runs: Mapping[str, RunResults]) -> Table:
    """The network and the training of each variant, a row each."""
    rows = []
    for name, run in runs.items():
        network, training = run.plan.network, run.plan.training
        part = network.trainable
        rows.append(
            {
                "variant": name,
                "tasks": " ".join(run.plan.tasks),
                "backbone": network.backbone,
                "from": network.weights.replace("none", "random"),
                "learns": {"all": "all", "none": "heads only"}.get(part, f"{part} on"),
                "heads": network.heads.replace("_", ", ").upper().replace("PLAIN", "plain"),
                "pixels": network.preprocessing,
                "epochs": run.training["epochs"],
                "batch": training.batch_size,
                "rate": training.learning_rate,
            }
        )
    formats = dict.fromkeys(["epochs", "batch", "rate"], "{:g}".format)
    return make_table("The variants", pd.DataFrame(rows), formats)


def scores_table(run: RunResults, variant: str, confidence: float) -> Table:
    """All scores of a model, a column for each task; the combined one in the caption."""
    combined = with_interval(*run.score(COMBINED, "score"))
    caption = f"Scores of {variant} with {confidence:.0%} intervals; the combined one is {combined}"
    return crossed(caption, "score", run.plan.tasks, score_rows(run, ACCURACIES | CALIBRATION))


def score_rows(run: RunResults, metrics: Mapping[str, str]) -> list[list[Cell]]:
    """A row for each of these metrics that the run has, a cell for each task."""
    known = set(run.tables["scores"]["metric"])
    return [
        [Cell(words), *(with_interval(*run.score(task, metric)) for task in run.plan.tasks)]
        for metric, words in metrics.items()
        if metric in known
    ]


def classes_table(run: RunResults, variant: str) -> Table:
    """Precision, recall and F1 of each class."""
    numbers = dict.fromkeys(["precision", "recall", "f1"], share)
    table = run.tables["per_class"].copy()
    table.loc[table["support"] == 0, ["recall", "f1"]] = np.nan  # no image to recognise
    titles = {"f1": "F1", "support": "images"}
    return make_table(f"Classes, {variant}", table, {**numbers, "support": count}, titles)


def confusion_figures(run: RunResults, variant: str) -> list[Figure]:
    """A confusion matrix for each task."""
    figures = []
    for task, table in run.tables["confusion"].groupby("task", sort=False):
        right = table["actual"] == table["predicted"]
        wrong = table[~right].nlargest(1, "images").iloc[0]
        words = f"{table.loc[right, 'images'].sum():,} of {table['images'].sum():,} right"
        if wrong["images"]:
            words += f"; most often confused: {wrong['actual']} taken for {wrong['predicted']}"
            words += f", {wrong['images']:,} images"
        rows, height = table.drop(columns="task"), CELL * table["actual"].nunique()
        chart = charts.confusion_matrix()
        figures.append(make_figure(f"Confusion, {task}: {variant}", words, chart, rows, height))
    return figures


def reliability_figures(run: RunResults, variant: str) -> list[Figure]:
    """A reliability diagram for each task."""
    figures = []
    for task, table in run.tables["reliability"].groupby("task", sort=False):
        before, after = (run.score(str(task), m)[0] for m in ("ece", "ece_scaled"))
        words = f"Calibration error {before:.3f}"
        if temperature := run.temperatures.get(str(task)):
            words += f", {after:.3f} at temperature {temperature:.2f}"
        rows, chart = table.drop(columns="task"), charts.reliability_diagram()
        figures.append(make_figure(f"Calibration, {task}: {variant}", words, chart, rows, 230))
    return figures


def subgroup_figures(run: RunResults, variant: str) -> list[Figure]:
    """Accuracy by gender, race and age group for each task; the values list all crossings."""
    figures = []
    for task, table in run.tables["subgroups"].groupby("task", sort=False):
        rows = table.assign(group=group_names(table))
        single = rows[~rows["by"].str.contains(" ")]
        words = "All groups are small"
        if not single["small"].all():
            worst = single.loc[single["accuracy"].where(~single["small"]).idxmin()]
            words = f"Lowest of the groups that are not small: {worst['group']}"
            words += f", {worst['accuracy']:.3f} of {worst['images']:,} images"
        rows = rows[["by", "group", "images", "accuracy", "low", "high", "small"]]
        chart, height = charts.subgroup_accuracies(), ROW * len(single)
        figures.append(make_figure(f"Subgroups, {task}: {variant}", words, chart, rows, height))
    return figures


def group_names(subgroups: pd.DataFrame) -> list[str]:
    """The classes of each subgroup as one text."""
    traits = subgroups[["gender", "race", "age"]].itertuples(index=False)
    return [" ".join(filter(None, names)) for names in traits]


def training_table(run: RunResults, variant: str) -> Table:
    """The structure and training of a model, in pairs of name and value."""
    training = run.plan.training.model_dump()
    augmentation = training.pop("augmentation") or {}
    by_task = {
        key: ", ".join(f"{task} {value:g}" for task, value in training.pop(key).items())
        for key in ("task_weights", "loss_weights", "label_smoothing")
    }
    facts = {
        **run.plan.network.model_dump(),
        "tasks": " ".join(run.plan.tasks),
        **{key: training[key] for key in ("learning_rate", "batch_size", "epochs")},  # first
        **training,
        **by_task,
        "augmentation": ", ".join(f"{k} {v}" for k, v in augmentation.items()) or "none",
        "weights_file": run.weights["file"] or "none",
        "precision": run.training["precision"],
        "epochs_run": run.training["epochs"],
        "best_epoch": run.training["best_epoch"],
        "validation_score": share(run.training["val_score"]),
    }
    rows = [(key.replace("_", " "), str(value)) for key, value in facts.items()]
    table = pd.DataFrame(rows, columns=["param", "value"])
    return make_table(f"Structure and training of {variant}", table, {})


def confident_errors(predictions: Predictions, task: str, number: int) -> pd.DataFrame:
    """The most confident wrong predictions: name, true, predicted, confidence, of_true.

    The last two are the probabilities of the predicted and of the true class, in [0, 1].
    """
    rows = np.arange(len(predictions.names))
    true, predicted = predictions.true[task], predictions.predicted[task]
    probabilities, classes = predictions.probabilities[task], np.array(predictions.classes[task])
    columns = {"name": predictions.names, "true": classes[true], "predicted": classes[predicted]}
    columns["confidence"] = probabilities[rows, predicted]
    columns["of_true"] = probabilities[rows, true]
    wrong = pd.DataFrame(columns)[true != predicted]
    return wrong.sort_values("confidence", ascending=False, kind="stable").head(number)
