"""The optimizer: its learning rate, its steps, what decays."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_fit import settings_of

from stages.learning.optimizer import build_optimizer


def build(weight_decay: float = 0.0, **changes: object) -> keras.optimizers.Optimizer:
    """The optimizer of three epochs of two steps, at a constant rate of 0.1."""
    constant = {"learning_rate": 0.1, "constant_epochs": 3, "decay": 0.0, "clipnorm": 0.0}
    settings = {"epochs": 3, "weight_decay": weight_decay} | constant | changes
    return build_optimizer(settings_of(**settings), 2)


def small() -> keras.Model:
    """Two blocks, pooled features and a head, all of one weight."""
    image = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="block1_conv")(
        image
    )
    x = keras.layers.Conv2D(1, 1, use_bias=False, kernel_initializer="ones", name="block2_conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones", name="age")(x))


def step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, float]:
    """How far each weight goes with a gradient of 1."""
    before = {v.path: np.array(v) for v in model.trainable_variables}
    ones = [tf.ones(v.shape) for v in model.trainable_variables]
    optimizer.apply(ones, model.trainable_variables)
    return {v.path: float(np.abs(np.array(v) - before[v.path]).max()) for v in model.variables}


def test_the_rate_follows_its_course_step_by_step():
    model = small()
    optimizer = build(schedule="cosine", warmup_epochs=3.0)  # it rises to the end
    used = []
    for _ in range(8):
        used.append(float(optimizer.learning_rate))
        step(model, optimizer)
    rising = [0.1 * done / 6 for done in range(6)]
    assert used == pytest.approx([*rising, rising[-1], rising[-1]])


@pytest.mark.parametrize("clipnorm", [0.0, 1.0])
def test_steps_are_those_of_adam(clipnorm: float):
    models = [keras.Sequential([keras.Input((5,)), keras.layers.Dense(7)]) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    optimizers = [
        build(clipnorm=clipnorm),
        keras.optimizers.Adam(0.1, clipnorm=clipnorm or None),
    ]
    chance = np.random.default_rng(1)
    for _ in range(6):
        found = [chance.normal(0, 3, v.shape).astype(np.float32) for v in models[0].variables]
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.apply([tf.constant(each) for each in found], model.trainable_variables)
    # Six steps of a tenth; 1 - 0.999 in float32 is off by 1e-5, of which a step has the root.
    for weights, plain in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(weights, plain, rtol=0, atol=2e-5 * 6 * 0.1)


def test_kernels_decay_and_biases_do_not():
    model = small()
    model.get_layer("age").bias.assign([1.0])
    optimizer = build(weight_decay=0.5)
    zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    assert float(model.get_layer("age").kernel[0, 0]) == pytest.approx(1 - 0.1 * 0.5)
    assert float(model.get_layer("age").bias[0]) == 1.0
