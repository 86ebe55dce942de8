"""The report's tables and charts of one model."""

from collections.abc import Mapping

import numpy as np

from stages.evaluation.calibration import at_bound
from stages.evaluation.scores import COMBINED
from stages.reporting import model_charts as charts
from stages.reporting.results import RunResults
from stages.reporting.tables import (
    Cell,
    Table,
    count,
    crossed,
    make_table,
    share,
    with_interval,
)
from stages.reporting.vega import Chart

_SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "one_off": "off by one group at most",
    "mae": "mean absolute error, years",
    "nll": "negative log-likelihood, nats",
    "nll_scaled": "the same after temperature scaling",
    "ece": "expected calibration error",
    "ece_scaled": "the same after temperature scaling",
}


def variants_table(runs: Mapping[str, RunResults]) -> Table:
    """What each variant is and how it learnt, a row each."""
    rows = []
    for name, run in runs.items():
        structure, training = run.plan["structure"], run.training
        weights = structure["weights"]
        learns = {"all": "all", "none": "heads only"}.get(
            structure["trainable"], f"{structure['trainable']} on"
        )
        cells = [
            *(name, structure["tasks"], structure["backbone"]),
            "random" if weights == "none" else weights,
            *(learns, structure["heads"].replace("_", ", ").upper().replace("PLAIN", "plain")),
            structure["preprocessing"],
        ]
        numbers = [training[key] for key in ("epochs_run", "batch_size", "learning_rate")]
        rows.append([Cell(text) for text in cells] + [Cell(f"{n:g}", float(n)) for n in numbers])
    header = ["variant", "tasks", "backbone", "from", "learns", "heads", "pixels"]
    figures = ["epochs", "batch", "rate"]
    numeric = [False] * len(header) + [True] * len(figures)
    return Table("The variants", header + figures, numeric, rows)


def scores_table(run: RunResults, variant: str, confidence: float) -> Table:
    """All scores of a model, a column for each task; the combined one in the caption."""
    metrics = set(run.tables["scores"]["metric"])
    tasks = run.predictions.tasks
    rows = [
        [Cell(words), *(with_interval(*run.score(task, metric)) for task in tasks)]
        for metric, words in _SCORES.items()
        if metric in metrics
    ]
    value, low, high = run.score(COMBINED, "score")
    caption = (
        f"Scores of {variant} with {confidence:.0%} intervals; the combined one is {value:.3f} "
        f"[{low:.3f}, {high:.3f}]"
    )
    return crossed(caption, "score", tasks, rows)


def classes_table(run: RunResults, variant: str) -> Table:
    """Precision, recall and F1 of each class."""
    numbers = dict.fromkeys(["precision", "recall", "f1"], share)
    formats = {**numbers, "support": count}
    titles = {"f1": "F1", "support": "images"}
    table = run.tables["per_class"].copy()
    table.loc[table["support"] == 0, ["recall", "f1"]] = np.nan  # there is nothing to recognise
    return make_table(f"Classes, {variant}", table, formats, titles)


def confusion_charts(run: RunResults, variant: str) -> list[Chart]:
    """A confusion matrix for each task."""
    found = []
    for task, table in run.tables["confusion"].groupby("task", sort=False):
        right = table.loc[table["actual"] == table["predicted"], "images"].sum()
        wrong = table[(table["actual"] != table["predicted"])].nlargest(1, "images").iloc[0]
        words = f"{right:,} of {table['images'].sum():,} right"
        if wrong["images"]:
            words += (
                f"; most often confused: {wrong['actual']} taken for {wrong['predicted']}, "
                f"{wrong['images']:,} images"
            )
        spec = charts.confusion_matrix(table.drop(columns="task"))
        found.append(Chart(f"Confusion, {task}: {variant}", words, spec))
    return found


def reliability_charts(run: RunResults, variant: str) -> list[Chart]:
    """A reliability diagram for each task."""
    found = []
    for task, table in run.tables["reliability"].groupby("task", sort=False):
        before, after = (run.score(str(task), m)[0] for m in ("ece", "ece_scaled"))
        heat = run.temperatures.get(str(task))
        words = f"Calibration error {before:.3f}"
        words += f", {after:.3f} at temperature {heat:.2f}" if heat else ""
        if heat and at_bound(heat):
            words += ", the end of the range that was searched"
        spec = charts.reliability_diagram(table.drop(columns="task"))
        found.append(Chart(f"Calibration, {task}: {variant}", words, spec))
    return found


def subgroup_charts(run: RunResults, variant: str) -> list[Chart]:
    """Accuracy by gender, race and age group for each task; the values hold all crossings."""
    found = []
    for task, table in run.tables["subgroups"].groupby("task", sort=False):
        traits = [table[trait] for trait in ("gender", "race", "age")]
        groups = [" ".join(filter(None, names)) for names in zip(*traits, strict=True)]
        shown = table.assign(group=groups)
        single = shown[~shown["by"].str.contains(" ") & ~shown["small"]]
        words = "All groups are small"
        if len(single):
            worst = single.loc[single["accuracy"].idxmin()]
            words = (
                f"Lowest of those that are not small: {worst['group']}, "
                f"{worst['accuracy']:.3f} of {worst['images']:,} images"
            )
        columns = ["by", "group", "images", "accuracy", "low", "high", "small"]
        spec = charts.subgroup_accuracies(shown[columns])
        found.append(Chart(f"Subgroups, {task}: {variant}", words, spec))
    return found


def training_table(run: RunResults, variant: str) -> Table:
    """How a model is built and learns, in pairs of name and value."""
    structure, recipe = dict(run.plan["structure"]), dict(run.plan["recipe"])
    smoothing = recipe.pop("label_smoothing")
    augmentation = run.plan["augmentation"]
    facts = {
        **structure,
        **{k: run.training[k] for k in ("learning_rate", "batch_size", "epochs")},
        **recipe,
        "label_smoothing": ", ".join(f"{task} {value:g}" for task, value in smoothing.items()),
        "augmentation": "none"
        if augmentation is None
        else ", ".join(f"{k} {v}" for k, v in augmentation.items()),
        "weights_file": run.weights["file"] or "none",
        "precision": run.training["precision"],
        "epochs_run": run.training["epochs_run"],
        "best_epoch": run.training["best_epoch"],
        "validation_score": share(run.training["val_score"]),
    }
    rows = [[Cell(key.replace("_", " ")), Cell(str(value))] for key, value in facts.items()]
    return Table(f"How {variant} is built and learns", ["param", "value"], [False, False], rows)
