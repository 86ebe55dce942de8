"""The optimiser: the course of its rate, and smaller rates further down."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from stages.learning.optimizer import build_optimizer, depth_factors
from stages.networks.network import build_network

SETTINGS = {
    "steps_per_epoch": 2,
    "epochs": 3,
    "clipnorm": 0.0,
    "weight_decay": 0.0,
    "layer_decay": 1.0,
    "average": 0.0,
}


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
    optimizer = build_optimizer(model, lambda epoch: 0.001 * (1 + epoch), **SETTINGS)
    used = []
    for _ in range(8):
        used.append(float(optimizer.learning_rate))
        step(model, optimizer)
    assert used == pytest.approx([0.001, 0.0015, 0.002, 0.0025, 0.003, 0.0035, 0.0035, 0.0035])


@pytest.mark.parametrize("clipnorm", [0.0, 1.0])
def test_steps_are_those_of_adam(clipnorm: float):
    models = [keras.Sequential([keras.Input((5,)), keras.layers.Dense(7)]) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    optimizers = [
        build_optimizer(models[0], lambda _: 0.1, **SETTINGS | {"clipnorm": clipnorm}),
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


def test_blocks_further_down_go_shorter_steps():
    model = small()
    optimizer = build_optimizer(model, lambda _: 0.1, **SETTINGS | {"layer_decay": 0.5})
    moved = step(model, optimizer)
    assert moved["age/kernel"] == pytest.approx(0.1, rel=1e-4)
    assert moved["age/bias"] == pytest.approx(0.1, rel=1e-4)
    assert moved["block2_conv/kernel"] == pytest.approx(0.05, rel=1e-4)
    assert moved["block1_conv/kernel"] == pytest.approx(0.025, rel=1e-4)


@pytest.mark.parametrize(("backbone", "blocks"), [("cnn", 4), ("vgg16", 5)])
def test_every_weight_of_a_backbone_has_its_blocks_factor(backbone: str, blocks: int):
    model = build_network(backbone, "all", "plain", "unit", {"gender": 2}, 32)
    factors = depth_factors(model, 0.5)
    heads = {
        v.path for name in ("gender_hidden", "gender") for v in model.get_layer(name).variables
    }
    assert set(factors) == {v.path for v in model.trainable_variables} - heads
    assert set(factors.values()) == {0.5**depth for depth in range(1, blocks + 1)}
    first = next(path for path in factors if "1" in path.split("/")[0])
    assert factors[first] == 0.5**blocks


def test_kernels_decay_and_biases_do_not():
    model = small()
    model.get_layer("age").bias.assign([1.0])
    optimizer = build_optimizer(model, lambda _: 0.1, **SETTINGS | {"weight_decay": 0.5})
    zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    assert float(model.get_layer("age").kernel[0, 0]) == pytest.approx(1 - 0.1 * 0.5)
    assert float(model.get_layer("age").bias[0]) == 1.0


def test_blocks_further_down_decay_as_much_slower_as_they_learn():
    model = small()
    changes = {"weight_decay": 0.5, "layer_decay": 0.5}
    optimizer = build_optimizer(model, lambda _: 0.1, **SETTINGS | changes)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    for path, factor in (
        ("age/kernel", 1),
        ("block2_conv/kernel", 0.5),
        ("block1_conv/kernel", 0.25),
    ):
        (after,) = (v.numpy() for v in model.trainable_variables if v.path == path)
        np.testing.assert_allclose(after, before[path] * (1 - 0.1 * 0.5 * factor), rtol=1e-6)


def test_learnt_task_weights_do_not_decay():
    weights = keras.Variable([1.0], name="age_log_variance")
    optimizer = build_optimizer(small(), lambda _: 0.1, **SETTINGS | {"weight_decay": 0.5})
    optimizer.apply([tf.zeros(1)], [weights])
    assert float(weights[0]) == 1.0
