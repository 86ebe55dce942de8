"""Folded moments of batch normalisation made real."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

BATCH = 64  # images at once


def unfold(model: keras.Model, images: npt.NDArray[np.uint8]) -> None:
    """Give each batch normalisation the moments of its input, without changing the function.

    Published inference graphs have normalisation folded to a scale and a shift. Trained like that,
    it normalises by moments that it has never had, and the network falls apart. Here the moving
    mean and variance become those that the images have; gamma and beta take up the difference:
    gamma' = scale * sqrt(variance + epsilon), beta' = shift + scale * mean.

    Args:
        model: changed in place; its outputs stay as they are, up to rounding.
        images: uint8 (N, size, size, 3), at least one, like those that it will learn from.
    """
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    if not norms:
        return
    inputs = keras.Model(model.input, [norm.input for norm in norms])
    sums, counts = [np.zeros((2, norm.gamma.shape[0])) for norm in norms], [0] * len(norms)
    for start in range(0, len(images), BATCH):
        for i, values in enumerate(inputs(images[start : start + BATCH], training=False)):
            flat = np.asarray(keras.ops.cast(values, "float32")).reshape(-1, values.shape[-1])
            sums[i] += flat.sum(axis=0, dtype=float), np.square(flat, dtype=float).sum(axis=0)
            counts[i] += len(flat)
    for norm, total, number in zip(norms, sums, counts, strict=True):
        mean, squares = total / number
        _set_moments(norm, mean, np.maximum(squares - mean**2, 0))


def _set_moments(norm: Any, mean: npt.NDArray[np.float64], variance: Any) -> None:
    gamma, beta, old_mean, old_variance = norm.get_weights()
    scale = gamma / np.sqrt(old_variance + norm.epsilon)
    shift = beta - scale * old_mean
    norm.set_weights(
        [scale * np.sqrt(variance + norm.epsilon), shift + scale * mean, mean, variance]
    )
