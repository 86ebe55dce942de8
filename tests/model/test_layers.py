"""Layers as trainings compute them: gradients of Keras's, in bfloat16 too."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from specs import network_of
from test_fit import CLASSES

from stages.learning import layers
from stages.learning.layers import SmallConvolution, StridedDepthwise, for_training

SIZE = 64
IMAGES = np.random.default_rng(1).integers(0, 256, (8, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def precision():
    yield
    keras.config.set_dtype_policy("float32")


def pair(layer: keras.Layer, side: int, channels: int) -> tuple[keras.Model, keras.Model]:
    """A network of that layer, and the same one as a training computes it."""
    image = keras.Input((side, side, channels), dtype="bfloat16")
    plain = keras.Model(image, layer(image))
    return plain, for_training(plain)


def outcome(network: keras.Model, inputs: Any) -> list[npt.NDArray[np.float32]]:
    """Outputs, and gradients of the inputs and of all weights."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = tf.cast(network(inputs, training=True), "float32")
        loss = tf.reduce_sum(outputs**2)
    weights = [weight.value for weight in network.trainable_weights]
    found = [outputs, *tape.gradient(loss, [inputs, *weights])]
    return [np.asarray(tf.cast(x, "float32")) for x in found]


def distance(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Relative to the size of `other`."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


CONVOLUTIONS = {
    "3x3": {"kernel_size": 3},
    "1x1": {"kernel_size": 1, "use_bias": False},
    "3x5": {"kernel_size": (3, 5), "activation": "relu"},
}


@pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=list(CONVOLUTIONS))
def test_a_small_convolution_is_that_of_keras(settings: dict[str, Any]):
    keras.utils.set_random_seed(1)
    layer = keras.layers.Conv2D(24, padding="same", dtype="mixed_bfloat16", **settings)
    plain, quick = pair(layer, 7, 16)
    assert isinstance(quick.layers[1], SmallConvolution)
    inputs = tf.cast(tf.random.normal((5, 7, 7, 16), seed=1), "bfloat16")
    for own, of_keras in zip(outcome(quick, inputs), outcome(plain, inputs), strict=True):
        assert own.shape == of_keras.shape
        assert distance(own, of_keras) < 0.01


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_strided_depthwise_convolution_is_that_of_keras(padding: str):
    keras.utils.set_random_seed(1)
    layer = keras.layers.DepthwiseConv2D(3, 2, padding, dtype="mixed_bfloat16")
    plain, quick = pair(layer, 9, 16)
    assert isinstance(quick.layers[1], StridedDepthwise)
    inputs = tf.cast(tf.random.normal((5, 9, 9, 16), seed=1), "bfloat16")
    assert quick(inputs).dtype == "bfloat16"
    for own, of_keras in zip(outcome(quick, inputs), outcome(plain, inputs), strict=True):
        assert own.shape == of_keras.shape
        assert distance(own, of_keras) < 0.01


LEFT_ALONE = {
    "large": (keras.layers.Conv2D(4, 3, padding="same", dtype="mixed_bfloat16"), 15),
    "strided": (keras.layers.Conv2D(4, 3, 2, "same", dtype="mixed_bfloat16"), 6),
    "unpadded": (keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"), 6),
    "even": (keras.layers.Conv2D(4, 2, padding="same", dtype="mixed_bfloat16"), 6),
    "float32": (keras.layers.Conv2D(4, 3, padding="same"), 6),
    "frozen": (keras.layers.Conv2D(4, 3, padding="same", dtype="bfloat16", trainable=False), 6),
    "depthwise": (keras.layers.DepthwiseConv2D(3, dtype="mixed_bfloat16"), 6),
}


@pytest.mark.parametrize(("layer", "side"), LEFT_ALONE.values(), ids=list(LEFT_ALONE))
def test_other_layers_stay_keras_s(layer: keras.Layer, side: int):
    assert pair(layer, side, 3)[1].layers[1] is layer


def test_on_a_gpu_all_convolutions_stay_keras_s(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layers, "has_gpu", lambda: True)
    layer = keras.layers.Conv2D(4, 1, padding="same", dtype="mixed_bfloat16")
    assert pair(layer, 6, 3)[1].layers[1] is layer


def test_a_network_learns_in_bfloat16_as_it_does_with_keras_s_layers():
    found = []
    for policy, change in (
        ("float32", lambda network: network),
        ("mixed_bfloat16", lambda network: network),
        ("mixed_bfloat16", for_training),
    ):
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(1)
        network = network_of("vgg16", "block4", "plain", "unit", CLASSES, SIZE)
        quick = change(network)
        assert [w.path for w in quick.trainable_weights] == [
            w.path for w in network.trainable_weights
        ]
        with tf.GradientTape() as tape:
            outputs = quick(IMAGES, training=True)
            loss = sum(tf.reduce_sum(tf.cast(x, "float32")[:, 0]) for x in outputs.values())
        weights = [weight.value for weight in network.trainable_weights]
        found.append([np.asarray(x) for x in tape.gradient(loss, weights)])
    for exact, of_keras, own in zip(*found, strict=True):
        assert distance(own, exact) < 1.05 * distance(of_keras, exact) + 1e-3
