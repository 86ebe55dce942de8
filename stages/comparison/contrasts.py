"""Contrasts, which are planned comparisons: is `a` better than `b`, worse, or as good?

Both sides may be several variants (three single-task networks against one of three tasks), and each
variant counts with all its seeds. A resample draws groups of copies and, on each side, seeds; so
the interval holds another choice of test images and, as far as a few seeds tell, other seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from statsmodels.stats.multitest import multipletests

from stages.core.run_names import RunName
from stages.core.sections import TASKS
from stages.core.variants import Contrast
from stages.evaluation.bootstrap import interval, p_value, resampled_sums
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
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """The outcome of each contrast for each task that both of its sides have.

    Args:
        contrasts: by name; one without runs on a side has no row.
        runs: the predictions of honest runs of the same images, by the runs' names.
        groups: the duplicate group of each image (N).
        confidence: of the intervals, in (0, 1); a difference counts if p_holm < 1 - confidence.
        equivalence: two sides are equivalent if the interval lies within this, in [0, 1].
        resamples: of the bootstrap.
        seed: of it.

    Returns:
        A row for each contrast and task: the number of seeds and mean accuracy of each side;
        difference (a minus b) with low and high; p, two-sided, of the bootstrap; p_holm after
        Holm's correction for all rows; verdict: better, worse, equivalent, open, or `one seed`
        where a side has no second one, so that the seed may be what differs.
    """
    rows: list[list[object]] = []
    for name, contrast in contrasts.items():
        for task in TASKS:
            sides = [_runs_of(side, task, runs) for side in (contrast.a, contrast.b)]
            if not all(sides):
                continue
            right = np.column_stack([runs[run].right(task) for side in sides for run in side])
            ones = np.ones((len(right), 1))
            sums = resampled_sums(np.hstack([right, ones]), groups, resamples, seed)
            shares = sums[:, :-1] / sums[:, -1:]
            cut, generator = len(sides[0]), np.random.default_rng(seed)
            drawn = _mean_over_seeds(shares[:, :cut], generator)
            drawn -= _mean_over_seeds(shares[:, cut:], generator)
            accuracies = right[:, :cut].mean(), right[:, cut:].mean()
            low, high = interval(drawn, confidence)
            numbers = (accuracies[0] - accuracies[1], low, high, p_value(drawn))
            rows.append([name, task, *map(len, sides), *accuracies, *map(float, numbers)])
    table = pd.DataFrame(rows, columns=COLUMNS[:-2])
    if table.empty:
        return table.reindex(columns=COLUMNS)
    table["p_holm"] = multipletests(table["p"], method="holm")[1]
    surely = table["p_holm"] < 1 - confidence
    alike = (table["low"] >= -equivalence) & (table["high"] <= equivalence)
    one_seed = table[["seeds_a", "seeds_b"]].min(axis=1) < 2
    table["verdict"] = np.select(
        [one_seed, alike, surely & (table["difference"] > 0), surely],
        ["one seed", "equivalent", "better", "worse"],
        "open",
    )
    return table


def _runs_of(side: Sequence[str], task: str, runs: Mapping[str, Predictions]) -> list[str]:
    return [run for run in runs if RunName.parse(run).variant in side and task in runs[run].tasks]


def _mean_over_seeds(
    shares: npt.NDArray[np.float64], generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The mean over as many seeds, drawn with replacement, of each resample (B, seeds): (B)."""
    number = shares.shape[1]
    times = generator.multinomial(number, [1 / number] * number, size=len(shares))
    return np.asarray((shares * times).sum(axis=1) / number)
