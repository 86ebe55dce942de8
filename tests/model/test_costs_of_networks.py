"""What a network costs, counted by hand."""

from pathlib import Path

import keras
import pytest
from test_fit import AUGMENTED, settings_of

from stages.evaluation.costs import costs_of, training_costs
from stages.networks.network import save_network


def costs_of_training(model, train, val, augmented=False, small=(0, 32)):
    """`training_costs` with augmentation, or with so many epochs on images of a smaller size."""
    augmentation = AUGMENTED if augmented else None
    settings = settings_of(progressive_epochs=small[0], augmentation=augmentation)
    settings = settings.model_copy(update={"progressive_size": small[1]})
    return training_costs(model, train, val, settings)


def test_costs_are_what_one_counts_by_hand(tmp_path: Path) -> None:
    inputs = keras.Input((1000,))
    frozen = keras.layers.Dense(1000, use_bias=False, trainable=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(500, use_bias=False)(frozen))
    save_network(model, tmp_path / "model.keras")
    costs = costs_of(model, tmp_path / "model.keras")
    assert costs["parameters"] == 1_000_000 + 500_000
    assert costs["trainable_parameters"] == 500_000
    assert costs["gflops"] == 2 * 1_500_000 / 1e9, "a multiplication and an addition each"
    assert costs["megabytes"] == round((tmp_path / "model.keras").stat().st_size / 1e6, 3)
    assert 5.9 < costs["megabytes"] < 6.2, "four bytes a parameter"


def test_what_is_frozen_goes_forward_once_unless_the_images_are_augmented() -> None:
    inputs = keras.Input((1000,))
    frozen = keras.layers.Dense(1000, use_bias=False, trainable=False)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(500, use_bias=False)(frozen))
    costs = costs_of_training(model, 300, 100, augmented=False)
    assert costs["training_tflop_once"] == pytest.approx(2e6 * 400 / 1e12)
    assert costs["training_tflop_epoch"] == pytest.approx(1e6 * (3 * 300 + 100) / 1e12)
    costs = costs_of_training(model, 300, 100, augmented=True)
    assert costs["training_tflop_once"] == 0
    assert costs["training_tflop_epoch"] == pytest.approx((1e6 * 1000 + 2e6 * 400) / 1e12)
    # At half the side a convolution costs a quarter, in training and in validation.
    images = keras.Input((64, 64, 3))
    conv = keras.layers.Conv2D(4, 1, padding="same", use_bias=False)(images)
    costs = costs_of_training(keras.Model(images, conv), 3_000_000, 1_000_000, False, small=(2, 32))
    whole = 2 * 64 * 64 * 12
    assert costs["training_tflop_epoch"] == pytest.approx(whole * 10 / 1e6, rel=1e-3)
    small = costs["training_tflop_progressive_epoch"]
    assert small == pytest.approx(whole * 10 / 4 / 1e6, rel=1e-3)
    assert costs["progressive_epochs"] == 2
    frozen = keras.layers.Conv2D(8, 1, use_bias=False, trainable=False)(images)
    model = keras.Model(images, keras.layers.Conv2D(4, 1, use_bias=False)(frozen))
    costs = costs_of_training(model, 3_000_000, 1_000_000, True, small=(2, 32))
    still, learns = (2 * 64 * 64 * weights / 1e6 for weights in (24, 32))
    assert costs["training_tflop_once"] == 0
    assert costs["training_tflop_epoch"] == pytest.approx(10 * learns + 4 * still, rel=1e-3)
    small = (10 * learns + 4 * still) / 4
    assert costs["training_tflop_progressive_epoch"] == pytest.approx(small, rel=1e-3)
    free = keras.Model(inputs, keras.layers.Dense(500, use_bias=False)(inputs))
    assert costs_of_training(free, 300, 100, False) == {
        "training_tflop_once": 0.0,
        "training_tflop_epoch": pytest.approx(1e6 * 1000 / 1e12),
    }
