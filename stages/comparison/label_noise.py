"""How many labels are wrong, by the copies of pictures that have several; the ceiling of accuracy.

Where the copies of one picture disagree, all labels but the commonest are counted as wrong. An
honest accuracy above 1 - wrong is not to be expected: it would agree with wrong labels that nothing
in the picture explains. Copies may be labelled worse than single pictures, so it is an estimate.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.core.sections import TASKS
from stages.evaluation.bootstrap import interval, resampled_sums
from stages.faces.labels import age_group

FEWEST_GROUPS = 30  # of copies; fewer say nothing
COLUMNS = ("task", "groups", "images", "disagreeing", "wrong", "low", "high")


def label_noise(
    split: pd.DataFrame,
    conflicting: pd.DataFrame,
    age_upper_bounds: Sequence[int],
    confidence: float,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """The share of wrong labels of each task; no row if there are too few copies.

    From the columns name and group of split.csv and group, age (years), gender and race of
    conflicting.csv, which has every group whose labels disagree. Columns `COLUMNS`: groups of at
    least two copies, their images, the share of the groups that disagree; wrong, the share of wrong
    labels, with its bootstrap interval over the groups.
    """
    sizes = split.groupby("group").size()
    sizes = sizes[sizes > 1]
    if len(sizes) < FEWEST_GROUPS:
        return pd.DataFrame(columns=list(COLUMNS))
    labels = conflicting.assign(age=age_group(conflicting["age"], age_upper_bounds))
    commonest = labels.groupby("group")[list(TASKS)].agg(lambda values: values.value_counts().max())
    own = commonest.reindex(sizes.index)
    wrong = own.rsub(sizes, axis=0).fillna(0).to_numpy()
    values = np.column_stack([wrong, sizes])
    sums = resampled_sums(values, np.arange(len(values)), resamples, seed)
    low, high = interval(sums[:, :-1] / sums[:, -1:], confidence)
    columns = (wrong > 0).mean(axis=0), wrong.sum(axis=0) / sizes.sum(), low, high
    facts = {"task": list(TASKS), "groups": len(sizes), "images": int(sizes.sum())}
    return pd.DataFrame(facts | dict(zip(COLUMNS[3:], columns, strict=True)))
