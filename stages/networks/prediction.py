"""Any network, Keras's or another's, asked for many images.

Batches change the last digits: float32 sums in another order. Equal images in equal batches give
equal bytes on one machine; in other batches they differ by some 1e-6 at most.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

AGE_YEARS = "age_years"  # the output over single years, of networks that learn ages so
BATCH_SIZE = 64  # images; that of stage evaluate, whose files other predictions must agree with


class Network(Protocol):
    """What a network is here; a keras.Model is one."""

    def predict_on_batch(self, x: npt.NDArray[np.uint8], /) -> Mapping[str, Any]:
        """Outputs by task, (M, classes), for uint8 images (M, size, size, 3)."""


def predict_rows(
    model: Network,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    batch_size: int,
    mirrored: bool = False,
) -> dict[str, npt.NDArray[np.float32]]:
    """The network's outputs by task, float32 (M, classes), for chosen rows in their order.

    Args:
        model: images to outputs by task.
        images: uint8 (N, height, width, 3).
        rows: indices into `images` (M).
        batch_size: images a step.
        mirrored: take the mean with the outputs for the mirrored image.
    """
    outputs: dict[str, list[npt.NDArray[np.float32]]] = {}
    for start in range(0, len(rows), batch_size):
        batch = np.ascontiguousarray(images[rows[start : start + batch_size]])
        predicted = model.predict_on_batch(batch)
        other = model.predict_on_batch(np.ascontiguousarray(batch[:, :, ::-1])) if mirrored else {}
        for task, values in predicted.items():
            mean = (values + other[task]) / 2 if mirrored else values
            outputs.setdefault(task, []).append(np.asarray(mean, np.float32))
    return {task: np.concatenate(values) for task, values in outputs.items()}
