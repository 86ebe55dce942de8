"""Batch normalisation as one operation: Keras's results, and moments that follow an average."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from specs import network_of
from test_fit import CLASSES, SIZE, examples, network, same, trained  # noqa: F401 - a fixture

from stages.learning.layers import for_training

IMAGES = np.random.default_rng(1).integers(0, 256, (12, SIZE, SIZE, 3)).astype(np.uint8)
STRUCTURES = {
    "cnn": ("cnn", "all", "plain", "unit", CLASSES, SIZE),
    "mobilenet": ("mobilenet", "conv_dw_12", "plain", "unit", CLASSES, SIZE),
}


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=list(STRUCTURES))
def test_outputs_and_moments_are_those_of_keras(structure: tuple[object, ...]):
    keras.utils.set_random_seed(1)
    plain, other = network_of(*structure), network_of(*structure)
    other.set_weights(plain.get_weights())
    quick = for_training(other)
    assert [w.path for w in quick.trainable_weights] == [w.path for w in other.trainable_weights]
    np.testing.assert_allclose(
        quick(IMAGES, training=True)["age"], plain(IMAGES, training=True)["age"], atol=1e-5
    )
    assert not same(other.get_weights(), network_of(*structure).get_weights()), "moments moved"
    for own, of_keras in zip(other.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(own, of_keras, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(quick(IMAGES)["race"], plain(IMAGES)["race"], atol=1e-5)


def test_gradients_are_those_of_keras():
    norm = keras.layers.BatchNormalization()
    image = keras.Input((8, 8, 3))
    plain = keras.Model(image, norm(image))
    values = tf.random.stateless_normal((16, 8, 8, 3), (1, 1))
    found = []
    for model in (for_training(plain), plain):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(model(values, training=True) ** 3)
        found.append(tape.gradient(loss, [values, norm.gamma.value, norm.beta.value]))
    for own, of_keras in zip(*found, strict=True):
        np.testing.assert_allclose(own, of_keras, rtol=1e-3, atol=1e-3)


def test_it_is_exact_in_bfloat16_where_keras_rounds():
    norm = keras.layers.BatchNormalization(dtype="mixed_bfloat16")
    image = keras.Input((8, 8, 3), dtype="bfloat16")
    model = keras.Model(image, norm(image))
    values = tf.random.stateless_normal((16, 8, 8, 3), (1, 1)) * 3 + 100
    outputs = for_training(model)(tf.cast(values, "bfloat16"), training=True)
    assert outputs.dtype == "bfloat16"
    rounded = np.asarray(tf.cast(tf.cast(values, "bfloat16"), "float32"))
    mean, deviation = rounded.mean((0, 1, 2)), rounded.std((0, 1, 2))
    wanted = (rounded - mean) / deviation
    np.testing.assert_allclose(tf.cast(outputs, "float32"), wanted, rtol=0.01, atol=0.01)
    np.testing.assert_allclose(norm.moving_mean, 0.01 * mean, rtol=1e-4)


def test_the_moments_of_averaged_weights_are_averaged_over_the_same_steps(trained):  # noqa: F811
    """With a momentum near 1 the average of two steps is their mean, whatever it started from."""
    model, first = network(tasks="gender"), network(tasks="gender")
    norm = model.get_layer("conv1_bn")
    norm.moving_mean.assign(norm.moving_mean + 1000)
    train = examples(16, 1, "gender")
    constant = {"learning_rate": 1e-9, "epochs": 1, "train": train}
    trained(model, weight_average=0.9999, **constant)
    # At this rate the weights stay, and the mean of two halves is that of all.
    trained(first, batch_size=16, weight_average=0.9999, **constant)
    wanted = first.get_layer("conv1_bn").moving_mean.numpy()
    np.testing.assert_allclose(norm.moving_mean, wanted, rtol=1e-3, atol=1e-4)
