"""Agreement of an exported network with the original, and the speed of both."""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from stages.networks.prediction import Network

SPEED_SECONDS = 2.0  # duration of a measurement

Outputs = Mapping[str, npt.NDArray[np.float32]]


def agreement(
    exported: Outputs, original: Outputs, labels: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, dict[str, float]]:
    """Compare the outputs of an exported network with those of the original.

    Args:
        exported: its probabilities by task (N, classes).
        original: those of the Keras network.
        labels: true class indices by task (N).

    Returns:
        By task: `agreement`, the fraction of images with the same predicted class;
        `max_difference` of any probability; `accuracy`, and `keras_accuracy` of the original.
    """
    result = {}
    for task, true in labels.items():
        ours, keras = exported[task].argmax(axis=1), original[task].argmax(axis=1)
        result[task] = {
            "agreement": round(float((ours == keras).mean()), 6),
            "max_difference": float(f"{np.abs(exported[task] - original[task]).max():.3g}"),
            "accuracy": round(float((ours == true).mean()), 6),
            "keras_accuracy": round(float((keras == true).mean()), 6),
        }
    return result


def images_per_second(network: Network, images: npt.NDArray[np.uint8]) -> float:
    """Images (N, size, size, 3) that a warm network predicts in a second, one at a time."""
    for image in images[:3]:
        network.predict_on_batch(image[None])
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SPEED_SECONDS:
        network.predict_on_batch(images[done % len(images)][None])
        done += 1
    return round(done / seconds, 1)
