"""Soft labels: distributions that copies of one picture under different labels share."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from stages.learning.batches import Labels
from stages.learning.objective import AGE_DISTRIBUTION, label_distribution
from stages.networks.heads import AGE_YEARS


def soft_labels(
    labels: Labels,
    classes: Mapping[str, int],
    copies: Iterable[npt.NDArray[np.int64]],
    years: int,
    age_sigma: float,
) -> dict[str, npt.NDArray[np.float32]]:
    """Labels as distributions over the classes; copies of one picture share their mean.

    Args:
        labels: class indices by task (N), and ages in years (N) as `AGE_YEARS` if they are learnt.
        classes: number of classes by task.
        copies: for each picture with several labels, the places of its copies in `labels`.
        years: number of years that ages are distributed over.
        age_sigma: standard deviation of the distribution of a single age, in years.

    Returns:
        float32 by task (N, classes), each row summing to 1; ages (N) and, as `AGE_DISTRIBUTION`,
        their distributions (N, years).
    """
    soft = {task: np.eye(n, dtype=np.float32)[labels[task]] for task, n in classes.items()}
    if AGE_YEARS in labels:
        soft[AGE_YEARS] = labels[AGE_YEARS].astype(np.float32)
        soft[AGE_DISTRIBUTION] = np.array(label_distribution(labels[AGE_YEARS], years, age_sigma))
    for places in copies:
        for values in soft.values():
            values[places] = values[places].mean(axis=0)
    return soft
