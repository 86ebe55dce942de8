"""How near a network's copy in another format comes to it, and how fast each is."""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from stages.networks.prediction import Network

SPEED_SECONDS = 2.0  # how long a speed is measured

Outputs = Mapping[str, npt.NDArray[np.float32]]


def agreement(
    found: Outputs, wanted: Outputs, labels: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, dict[str, float]]:
    """How a copy's outputs compare with the network's own, by task.

    Args:
        found: the copy's probabilities by task (N, classes).
        wanted: the network's.
        labels: true class indices by task (N).

    Returns:
        By task: `agreement`, the share of images of the same class; `max_difference` of any
        probability; `accuracy`, and `keras_accuracy`, the network's own.
    """
    compared = {}
    for task, true in labels.items():
        copy, own = found[task].argmax(axis=1), wanted[task].argmax(axis=1)
        compared[task] = {
            "agreement": round(float((copy == own).mean()), 6),
            "max_difference": float(f"{np.abs(found[task] - wanted[task]).max():.3g}"),
            "accuracy": round(float((copy == true).mean()), 6),
            "keras_accuracy": round(float((own == true).mean()), 6),
        }
    return compared


def images_per_second(network: Network, images: npt.NDArray[np.uint8]) -> float:
    """How many images (N, size, size, 3) a warm network does in a second, one at a time."""
    for image in images[:3]:
        network.predict_on_batch(image[None])
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SPEED_SECONDS:
        network.predict_on_batch(images[done % len(images)][None])
        done += 1
    return round(done / seconds, 1)
