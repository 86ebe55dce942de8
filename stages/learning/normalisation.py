"""Batch normalisation in training: folded moments made real, each layer as one operation."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

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


class FusedBatchNormalization(keras.Layer):
    """A layer of batch normalisation, computed in training by one operation of TensorFlow.

    Keras composes it of a dozen, each of which reads all activations. Variables and results are
    those of the layer.

    Args:
        norm: the layer. Where it does not learn, it works as ever.
        momentum: gives the momentum of its moving moments at a step; None: its own.
    """

    def __init__(
        self, norm: keras.layers.BatchNormalization, momentum: Callable[[], Any] | None
    ) -> None:
        super().__init__(name=norm.name, dtype=norm.dtype_policy)
        self.norm, self.momentum = norm, momentum
        self.built = True

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """As the layer's: (..., channels) of the same shape and dtype."""
        norm = self.norm
        if not training or not norm.trainable or mask is not None or len(inputs.shape) != 4:
            return norm(inputs, training=training, mask=mask)
        scale, shift, epsilon = norm.gamma, norm.beta, norm.epsilon
        if norm.synchronized:  # over all replicas, for which there is no single operation
            values = ops.cast(inputs, "float32")
            mean, variance = ops.moments(values, (0, 1, 2), synchronized=True)
            outputs = ops.batch_normalization(values, mean, variance, -1, shift, scale, epsilon)
            outputs = ops.cast(outputs, inputs.dtype)
        else:
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, scale, shift, epsilon=epsilon, is_training=True
            )
            number = ops.cast(ops.prod(ops.shape(inputs)[:3]), "float32")
            variance = variance * (number - 1) / number  # TensorFlow's has Bessel's correction
        momentum = norm.momentum if self.momentum is None else self.momentum()
        for moving, now in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
            moving.assign(moving * momentum + now * (1 - momentum))
        return outputs


def fused(network: keras.Model, momentum: Callable[[], Any] | None = None) -> keras.Model:
    """The same layers, with the same weights, each batch normalisation as one operation.

    `momentum` is that of `FusedBatchNormalization`.
    """

    def layer_of(layer: keras.Layer) -> keras.Layer:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        return FusedBatchNormalization(layer, momentum) if is_norm else layer

    return keras.models.clone_model(network, clone_function=layer_of)
