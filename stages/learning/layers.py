"""Layers as a training computes them: Keras's variables and results, in faster operations.

The saved network has Keras's own layers.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stages.networks.device import has_gpu

# Up to so many pixels in an output, oneDNN's gradient of a kernel in bfloat16 is slower than one
# matrix product for each of the kernel's places.
_SMALL = 14 * 14


def for_training(network: keras.Model, momentum: Callable[[], Any] | None = None) -> keras.Model:
    """The same layers, with the same weights, as a training computes them.

    Args:
        network: whose weights the outcome shares.
        momentum: see `FusedBatchNormalization`.
    """
    on_cpu = not has_gpu()

    def layer_of(layer: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            return FusedBatchNormalization(layer, momentum)
        if on_cpu and _is_strided_depthwise(layer) and _learns_in_bfloat16(layer):
            return StridedDepthwise(layer)
        if on_cpu and _has_small_output(layer) and _learns_in_bfloat16(layer):
            return SmallConvolution(layer)
        return layer

    return keras.models.clone_model(network, clone_function=layer_of)


def _learns_in_bfloat16(layer: keras.Layer) -> bool:
    return bool(layer.trainable) and layer.compute_dtype == "bfloat16"


def _is_strided_depthwise(layer: Any) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D) and max(layer.strides) > 1


def _has_small_output(layer: Any) -> bool:
    if type(layer) is not keras.layers.Conv2D:
        return False
    plain = set(layer.strides) == set(layer.dilation_rate) == {1} and layer.groups == 1
    odd = all(side % 2 for side in layer.kernel_size)
    height, width = layer.output.shape[1:3]
    pointwise = layer.kernel_size == (1, 1)
    return plain and odd and layer.padding == "same" and (pointwise or height * width <= _SMALL)


class FusedBatchNormalization(keras.Layer):
    """A layer of batch normalisation as one operation of TensorFlow.

    Keras composes it of a dozen, each of which reads all activations.

    Args:
        norm: the layer.
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
        if mask is not None or len(inputs.shape) != 4:
            return norm(inputs, training=training, mask=mask)
        scale, shift, epsilon = norm.gamma, norm.beta, norm.epsilon
        if not training or not norm.trainable:
            outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                scale,
                shift,
                norm.moving_mean,
                norm.moving_variance,
                epsilon=epsilon,
                is_training=False,
            )
            return outputs
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


class StridedDepthwise(keras.Layer):
    """A depthwise convolution with strides, computed in float32.

    TensorFlow's gradient of its input takes twenty times as long in bfloat16 as in float32.

    Args:
        convolution: the layer, of which the outputs have their dtype.
    """

    def __init__(self, convolution: keras.layers.DepthwiseConv2D) -> None:
        super().__init__(name=convolution.name, dtype="float32")
        self.convolution = convolution
        self.built = True

    def call(self, inputs: Any) -> Any:
        """As the layer's, rounded once."""
        outputs = self.convolution.call(inputs)
        return ops.cast(outputs, self.convolution.compute_dtype)


class SmallConvolution(keras.Layer):
    """A convolution with `same` padding and without strides; its kernel learns by matrix products.

    Args:
        convolution: the layer.
    """

    def __init__(self, convolution: keras.layers.Conv2D) -> None:
        super().__init__(name=convolution.name, dtype=convolution.dtype_policy)
        self.convolution = convolution
        self.built = True

    def call(self, inputs: Any) -> Any:
        """As the layer's."""
        layer = self.convolution
        outputs = _convolve(inputs, ops.cast(layer.kernel, inputs.dtype))
        if layer.use_bias:
            outputs = tf.nn.bias_add(outputs, ops.cast(layer.bias, inputs.dtype))
        return layer.activation(outputs)


@tf.custom_gradient
def _convolve(inputs: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    """`inputs` (batch, height, width, in) by `kernel` (odd, odd, in, out)."""

    def gradient(upstream: Any) -> tuple[Any, Any]:
        of_inputs = tf.compat.v1.nn.conv2d_backprop_input(
            tf.shape(inputs), kernel, upstream, [1] * 4, padding="SAME"
        )
        return of_inputs, _gradient_of_kernel(inputs, upstream, kernel.shape)

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), gradient


def _gradient_of_kernel(inputs: Any, upstream: Any, shape: Any) -> Any:
    """For each place of the kernel, the product of the inputs under it and what comes back."""
    rows, columns, channels, filters = shape
    height, width = inputs.shape[1:3]
    up, left = rows // 2, columns // 2
    padded = tf.pad(inputs, ((0, 0), (up, up), (left, left), (0, 0)))
    flat = tf.reshape(upstream, (-1, filters))
    products = [
        tf.matmul(
            tf.reshape(padded[:, i : i + height, j : j + width], (-1, channels)),
            flat,
            transpose_a=True,
        )
        for i in range(rows)
        for j in range(columns)
    ]
    return tf.reshape(tf.stack(products), shape)
