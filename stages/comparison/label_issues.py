"""Labels contradicted by out-of-fold predictions: candidates for wrong labels.

Cross-validation predicts each image by a network that was not trained on it. Confident learning
(C. Northcutt, L. Jiang, I. Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels,
JAIR 70, 2021; implemented by its authors' library, cleanlab) flags a label if another class is
predicted with at least the mean confidence of that class among its own images. Flagged labels
include errors of the networks, especially for rare classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues as contradicted_labels

from stages.core.files import read_csv

COLUMNS = ["name", "task", "given", "suggested", "confidence"]


def find_label_issues(
    predictions: Path, runs: Sequence[Sequence[str]], classes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """The contradicted labels, the most confident contradictions first; none without runs.

    `predictions` is the folder of <run>.csv. `runs` has for each variant its runs of all folds;
    the variants' probabilities are averaged. Columns name, task, given, suggested (class names)
    and confidence (the probability of the suggested class, in [0, 1]).
    """
    tables = [_read_folds(predictions, folds, classes) for folds in runs]
    flagged = []
    for task, names in classes.items():
        columns = [f"{task}_p_{name}" for name in names]
        parts = [table for table in tables if set(columns) <= set(table)]
        if not parts:
            continue
        mean = sum(part.loc[parts[0].index, columns].to_numpy(float) for part in parts)
        mean /= mean.sum(axis=1, keepdims=True)  # with six digits each, only nearly 1
        given = parts[0][f"{task}_true"]
        codes = pd.Index(names).get_indexer(given)
        conflicting = contradicted_labels(codes, mean, filter_by="confident_learning", n_jobs=1)
        table = given.rename("given").reset_index()
        table["task"], table["confidence"] = task, mean.max(axis=1)
        table["suggested"] = np.array(names)[mean.argmax(axis=1)]
        flagged.append(table[conflicting])
    issues = pd.concat(flagged)[COLUMNS] if flagged else pd.DataFrame(columns=COLUMNS)
    return issues.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def _read_folds(predictions: Path, runs: Sequence[str], tasks: Iterable[str]) -> pd.DataFrame:
    kinds = {"name": "str"} | {f"{task}_true": "str" for task in tasks}
    parts = [
        read_csv(predictions / f"{run}.csv", ["name"], "evaluate", dtype=kinds) for run in runs
    ]
    return pd.concat(parts).set_index("name")
