"""Contrasts, which are planned comparisons: is `a` better than `b`, worse, or as good?

Both sides may be several variants (three single-task networks against one of three tasks), and each
variant counts with all its seeds. The error of a difference has two parts: other test images, drawn
in groups of copies, and other seeds of each side. Their variances are added. The sum is somewhat
too large, since both contain the chance by which a seed errs on single images (as Owen, The
pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007). Student's t with Satterthwaite's
degrees of freedom allows for the few seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from stages.core.run_names import RunName
from stages.core.sections import TASKS
from stages.core.variants import Contrast
from stages.evaluation.predictions import Predictions

COLUMNS = [
    *("contrast", "task", "seeds_a", "seeds_b", "accuracy_a", "accuracy_b"),
    *("difference", "low", "high", "p", "p_holm", "verdict"),
]


def contrast_tests(
    contrasts: Mapping[str, Contrast],
    runs: Mapping[str, Predictions],
    groups: npt.NDArray[np.int64],
    confidence: float,
    equivalence: float,
) -> pd.DataFrame:
    """The outcome of each contrast for each task that both of its sides have.

    Args:
        contrasts: by name; one without runs on a side has no row.
        runs: the predictions of honest runs of the same images, by the runs' names.
        groups: the duplicate group of each image (N).
        confidence: of the intervals, in (0, 1); a difference counts if p_holm < 1 - confidence.
        equivalence: two sides are equivalent if the interval lies within this, in [0, 1].

    Returns:
        A row for each contrast and task: the number of seeds and mean accuracy of each side;
        difference (a minus b) with low and high; p, two-sided; p_holm after Holm's correction for
        all rows with several seeds on both sides; verdict: better, worse, equivalent, open, or
        `one seed` where a side has no second one, so that the seed may be what differs. Such a row
        has no p, and its interval is over images alone on that side.
    """
    rows: list[list[object]] = []
    for name, contrast in contrasts.items():
        for task in TASKS:
            sides = [_runs_of(side, task, runs) for side in (contrast.a, contrast.b)]
            if all(sides):
                a, b = (np.stack([runs[run].right(task) for run in side]) for side in sides)
                found = _compare(a.astype(float), b.astype(float), groups, confidence)
                rows.append([name, task, *map(len, sides), a.mean(), b.mean(), *found])
    table = pd.DataFrame(rows, columns=COLUMNS[:-2])
    if table.empty:
        return table.reindex(columns=COLUMNS)
    tested = table["p"].notna()
    table["p_holm"] = np.nan
    if tested.any():
        table.loc[tested, "p_holm"] = multipletests(table.loc[tested, "p"], method="holm")[1]
    surely = table["p_holm"] < 1 - confidence
    alike = (table["low"] >= -equivalence) & (table["high"] <= equivalence)
    table["verdict"] = np.select(
        [~tested, alike, surely & (table["difference"] > 0), surely],
        ["one seed", "equivalent", "better", "worse"],
        "open",
    )
    return table


def _runs_of(side: Sequence[str], task: str, runs: Mapping[str, Predictions]) -> list[str]:
    return [run for run in runs if RunName.parse(run).variant in side and task in runs[run].tasks]


def _compare(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    confidence: float,
) -> tuple[float, float, float, float]:
    """Difference, low, high and p of which images (seeds, N) each side got right."""
    difference = a.mean(axis=0) - b.mean(axis=0)
    variances, freedoms = [_variance_of_mean(difference, groups)], [len(np.unique(groups)) - 1]
    tested = min(len(a), len(b)) > 1
    for side in (a, b):
        if len(side) > 1:
            variances.append(side.mean(axis=1).var(ddof=1) / len(side))
            freedoms.append(len(side) - 1)
    variance, mean = sum(variances), float(difference.mean())
    if variance == 0:
        return mean, mean, mean, float(mean == 0) if tested else np.nan
    parts = zip(variances, freedoms, strict=True)
    spread = stats.t(variance**2 / sum(part**2 / freedom for part, freedom in parts if part))
    error = variance**0.5
    width = spread.ppf((1 + confidence) / 2) * error
    p = 2 * spread.sf(abs(mean) / error) if tested else np.nan
    return mean, mean - width, mean + width, p


def _variance_of_mean(values: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> float:
    """The variance of the mean of values (N) if whole groups are drawn."""
    _, place = np.unique(groups, return_inverse=True)
    sums = np.bincount(place, weights=values - values.mean())
    number = len(sums)
    return float((sums**2).sum() / len(values) ** 2 * number / max(number - 1, 1))
