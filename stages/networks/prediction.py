"""Any network, Keras's or another's, asked for many images.

Batches change the last digits: float32 sums in another order. Equal images in equal batches give
equal bytes on one machine; in other batches they differ by some 1e-6 at most.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

# A tiny probability is 0 in a file. As in scikit-learn's log_loss it counts as the float64 epsilon;
# otherwise one image would make a mean of logarithms infinite.
FLOOR = float(np.finfo(np.float64).eps)
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


def median_years(years: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The median (N) of distributions over the years (N, years), of which column 0 is year 1.

    Of all estimates the median has the least expected absolute error; the mean follows the tail.
    """
    return 1 + (np.cumsum(years, axis=1) < years.sum(axis=1, keepdims=True) / 2).sum(axis=1)


def scaled(probabilities: npt.NDArray[np.float64], temperature: float) -> npt.NDArray[np.float64]:
    """Probabilities (N, classes) at a temperature > 0; above 1 they become less confident.

    Their logarithms are the logits.
    """
    logits = np.log(np.maximum(probabilities, FLOOR)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
