"""Soft labels: what copies of one picture under different labels teach together."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from stages.learning.batches import Labels


def soft_labels(
    labels: Labels, classes: Mapping[str, int], copies: Iterable[npt.NDArray[np.int64]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Labels as distributions over the classes; copies of one picture share their mean.

    Args:
        labels: class indices by task (N), and possibly ages in years (N) under other names.
        classes: number of classes by task.
        copies: for each picture with several labels, the places of its copies in `labels`.

    Returns:
        float32 by task (N, classes), each row summing to 1, and ages (N).
    """
    soft = {
        name: np.eye(classes[name], dtype=np.float32)[values]
        if name in classes
        else values.astype(np.float32)
        for name, values in labels.items()
    }
    for places in copies:
        for values in soft.values():
            values[places] = values[places].mean(axis=0)
    return soft
