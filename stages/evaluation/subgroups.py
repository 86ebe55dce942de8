"""Accuracy of every subgroup, and the gaps between subgroups.

A subgroup has one class of gender, race and age group, or of one or two of them, by the true
labels. Subgroups of few images are marked as `small`; worst and best group, gap and odds leave
them out.
"""

from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import pandas as pd
from fairlearn.metrics import equalized_odds_difference

from stages.evaluation.bootstrap import wilson
from stages.evaluation.predictions import Predictions

TRAITS = ("gender", "race", "age")
GROUPINGS = [by for number in (1, 2, 3) for by in combinations(TRAITS, number)]


def subgroup_table(
    predictions: Predictions,
    groups: npt.NDArray[np.int64],
    confidence: float,
    min_subgroup_size: int,
) -> pd.DataFrame:
    """The accuracy of each task in each subgroup, including those without an image.

    The interval is Wilson's (`bootstrap.wilson`), since that of the bootstrap has no width if all
    images are correct; n is Kish's `effective_number`, from the duplicate group of each image (N).
    Columns: those of subgroups.csv in docs/reference/files.md; small is < `min_subgroup_size`.
    """
    right = {f"{task} right": predictions.right(task) for task in predictions.tasks}
    samples = _samples(predictions).assign(group=groups, **right)
    tables = []
    for task, by in product(predictions.tasks, GROUPINGS):
        cells = samples.groupby(list(by), observed=False)
        images, accuracy = cells.size(), cells[f"{task} right"].mean()
        copies = samples.groupby([*by, "group"], observed=True).size()
        squares = (copies**2).groupby(level=list(by), observed=False).sum()
        low, high = wilson(accuracy, images**2 / squares.reindex(images.index), confidence)
        columns = {"images": images, "accuracy": accuracy, "low": low, "high": high}
        table = pd.DataFrame(columns).reset_index().assign(task=task, by=" ".join(by))
        tables.append(table.astype(dict.fromkeys(by, "str")))
    whole = pd.concat(tables, ignore_index=True)
    whole[list(TRAITS)] = whole[list(TRAITS)].fillna("")
    whole["small"] = whole["images"] < min_subgroup_size
    return whole[["task", "by", *TRAITS, "images", "accuracy", "low", "high", "small"]]


def fairness_table(
    predictions: Predictions, subgroups: pd.DataFrame, min_subgroup_size: int
) -> pd.DataFrame:
    """For each task and grouping: the worst and the best group, their gap, equalised odds.

    Equalised odds (Hardt, Price & Srebro, NeurIPS 2016) is defined for two classes. Here it is
    computed for each class against all others, and the largest difference is taken: 0 if every
    class has the same true and false positive rates in all groups. Groups need at least
    `min_subgroup_size` images of the class and of the others, so there is none if the task is
    among the traits.

    The columns are those of fairness.csv in docs/reference/files.md; gap is best - worst,
    odds_class the class that has odds_difference. Empty if fewer than two groups can be compared.
    """
    samples = _samples(predictions)
    rows = []
    for task, by in product(predictions.tasks, GROUPINGS):
        chosen = (subgroups["task"] == task) & (subgroups["by"] == " ".join(by))
        cells = subgroups[chosen & ~subgroups["small"]]
        row: dict[str, object] = {"task": task, "by": " ".join(by), "groups": len(cells)}
        if len(cells) > 1:
            worst = cells.loc[cells["accuracy"].idxmin()]
            best = cells.loc[cells["accuracy"].idxmax()]
            for name, cell in (("worst", worst), ("best", best)):
                row[name] = " ".join(cell[trait] for trait in by)
                row[f"{name}_accuracy"] = cell["accuracy"]
            row |= {f"worst_{end}": worst[end] for end in ("low", "high")}
            row["gap"] = best["accuracy"] - worst["accuracy"]
        if task not in by:
            cell_of = samples.groupby(list(by), observed=True).ngroup().to_numpy()
            row |= _odds(predictions, task, cell_of, min_subgroup_size)
        rows.append(row)
    columns = [
        *("task", "by", "groups", "worst", "worst_accuracy", "worst_low", "worst_high"),
        *("best", "best_accuracy", "gap", "odds_difference", "odds_class"),
    ]
    return pd.DataFrame(rows, columns=columns)


def _odds(
    predictions: Predictions, task: str, cells: npt.NDArray[np.int64], min_subgroup_size: int
) -> dict[str, object]:
    names = list(predictions.classes[task])
    differences = {}
    for code, name in enumerate(names[:1] if len(names) == 2 else names):  # two give the same
        true, predicted = predictions.true[task] == code, predictions.predicted[task] == code
        counts = [np.bincount(cells, weights=chosen) for chosen in (true, ~true)]
        enough = (np.minimum(*counts) >= min_subgroup_size)[cells]
        if len(np.unique(cells[enough])) > 1:
            difference = equalized_odds_difference(
                true[enough].astype(int),
                predicted[enough].astype(int),
                sensitive_features=cells[enough],
            )
            differences[name] = round(float(difference), 9)  # the first one wins a tie
    if not differences:
        return {}
    largest = max(differences, key=lambda name: differences[name])
    return {"odds_difference": differences[largest], "odds_class": largest}


def _samples(predictions: Predictions) -> pd.DataFrame:
    true, classes = predictions.true, predictions.classes
    columns = {t: pd.Categorical.from_codes(true[t], pd.Index(list(classes[t]))) for t in TRAITS}
    return pd.DataFrame(columns)
