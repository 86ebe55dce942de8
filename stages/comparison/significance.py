"""Paired tests of runs on the same images; their unit is the group of a picture's copies."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from tqdm import tqdm

from stages.evaluation.bootstrap import interval, p_value, resampled_sums
from stages.evaluation.predictions import Predictions

COLUMNS = [
    *("variant_a", "variant_b", "task", "difference", "low", "high"),
    *("p_bootstrap", "p_mcnemar", "p_holm"),
]


def pairwise_tests(
    runs: Mapping[str, Predictions],
    groups: Mapping[str, npt.NDArray[np.int64]],
    confidence: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Paired tests of the accuracies of every two runs of the same images that share a task.

    Runs that predicted other images, or the same in another order, are not paired, such as runs
    of two folds. `groups` has the duplicate group of each predicted image, by run. A row for each
    pair and task: variant_a, variant_b, task; difference (accuracy of a minus that of b), low,
    high (paired bootstrap over groups); p_bootstrap (two-sided, at least 2 / (resamples + 1));
    p_mcnemar (McNemar's exact test, two-sided: a group counts for the run that has more of its
    images right, and is left out at a tie; with groups of one image it is the usual test); p_holm
    (p_mcnemar after Holm's correction for all rows of the same images: Scandinavian Journal of
    Statistics 6(2), 1979).
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for run, predictions in runs.items():
        alike.setdefault(tuple(predictions.names), []).append(run)
    rows: list[tuple[object, ...]] = []
    for names in alike.values():
        same = {run: runs[run] for run in names}
        tests = _tests_on_same_images(same, groups[names[0]], confidence, resamples, seed)
        if tests:
            corrected = multipletests([row[-1] for row in tests], method="holm")[1]
            rows += [(*row, float(p)) for row, p in zip(tests, corrected, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _tests_on_same_images(
    runs: Mapping[str, Predictions],
    groups: npt.NDArray[np.int64],
    confidence: float,
    resamples: int,
    seed: int,
) -> list[tuple[object, ...]]:
    """The rows of `pairwise_tests`, without the last column."""
    keys = [
        (a, b, task)
        for a, b in combinations(runs, 2)
        for task in runs[a].tasks
        if task in runs[b].tasks
    ]
    if not keys:
        return []
    right = pd.DataFrame({(run, t): p.right(t) for run, p in runs.items() for t in p.tasks})
    right = right.astype(float)
    sums = resampled_sums(np.column_stack([right, np.ones(len(right))]), groups, resamples, seed)
    # The share of images that are right, a row for each resample.
    shares = pd.DataFrame(sums[:, :-1] / sums[:, -1:], columns=right.columns)
    _, place = np.unique(groups, return_inverse=True)
    rows: list[tuple[object, ...]] = []
    for a, b, task in tqdm(keys, "testing", unit="pair", disable=None):
        differences = (shares[a, task] - shares[b, task]).to_numpy()
        images = (right[a, task] - right[b, task]).to_numpy()
        low, high = interval(differences, confidence)
        ahead = np.bincount(place, weights=images)
        wins = int((ahead > 0).sum()), int((ahead < 0).sum())
        exact = mcnemar([[0, wins[0]], [wins[1], 0]], exact=True).pvalue
        numbers = (images.mean(), low, high, p_value(differences), exact)
        rows.append((a, b, task, *map(float, numbers)))
    return rows


def describe(tests: pd.DataFrame, runs: Mapping[str, Predictions], level: float) -> list[str]:
    """One sentence for each task that several runs have: the best run, and what it beats.

    `tests` is what `pairwise_tests` returns for the runs. Runs that predicted other images than
    the first are left out. A difference is significant if p_holm is below `level`.
    """
    images = next(iter(runs.values())).names
    same = {run: predictions for run, predictions in runs.items() if predictions.names == images}
    lines = []
    for task in dict.fromkeys(tests["task"]):
        accuracy = {r: float(p.right(task).mean()) for r, p in same.items() if task in p.tasks}
        if len(accuracy) < 2:
            continue
        best, *equal = (run for run in accuracy if accuracy[run] == max(accuracy.values()))
        rows = tests[
            (tests["task"] == task) & (tests[["variant_a", "variant_b"]] == best).any(axis=1)
        ]
        others = rows["variant_a"].where(rows["variant_b"] == best, rows["variant_b"])
        beaten = ", ".join(others[rows["p_holm"] < level])
        alike = ", ".join(others[(rows["p_holm"] >= level) & ~others.isin(equal)])
        as_often = f", as often as {', '.join(equal)}" if equal else ""
        clauses = [f"{task}: {best} is most often right ({accuracy[best]:.3f}){as_often}"]
        clauses += [f"significantly more often than {beaten}"] if beaten else []
        clauses += [f"not significantly more often than {alike}"] if alike else []
        lines.append("; ".join(clauses))
    return lines
