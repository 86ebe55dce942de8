"""What the name of a file tells without a pixel: the accuracy of guessing by crawl date.

UTKFace's names end in the time at which the picture was collected, and pictures of one search were
collected together. A network that recognised such a series would reach these accuracies.
"""

from collections.abc import Sequence

import pandas as pd

from stages.core.sections import TASKS
from stages.faces.labels import (
    DATE_LENGTH,
    HOUR_LENGTH,
    LabelError,
    age_group,
    parse_name,
    time_in,
)

# Digits of the time that images must share.
BASELINES = {"commonest class": 0, "date in the name": DATE_LENGTH, "hour in the name": HOUR_LENGTH}


def name_baselines(split: pd.DataFrame, age_upper_bounds: Sequence[int]) -> pd.DataFrame:
    """The accuracy on the test split of the commonest class among training images of one time.

    From the columns name and split of split.csv. A time without a training image gives the class
    that the coarser baseline gives. Columns baseline and accuracy by task; no row if names are not
    UTKFace's.
    """
    try:
        labels = pd.DataFrame([parse_name(name)._asdict() for name in split["name"]])
    except LabelError:
        return pd.DataFrame(columns=["baseline", *TASKS])
    labels["age"] = age_group(labels["age"], age_upper_bounds)
    times = split["name"].map(time_in)
    train, test = (split["split"] == name for name in ("train", "test"))
    if not (train.any() and test.any()):
        return pd.DataFrame(columns=["baseline", *TASKS])
    guesses = {task: pd.Series(0, split.index) for task in TASKS}
    rows = []
    for baseline, length in BASELINES.items():
        keys = times.str[:length]
        for task in TASKS:
            classes = labels.loc[train, task].groupby(keys[train])
            commonest = classes.agg(lambda values: values.mode()[0])
            guesses[task] = keys.map(commonest).fillna(guesses[task])
        right = {t: (guesses[t][test] == labels.loc[test, t]).mean() for t in TASKS}
        rows.append({"baseline": baseline} | right)
    return pd.DataFrame(rows)
