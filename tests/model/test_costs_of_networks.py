"""What a network costs, counted by hand."""

from pathlib import Path

import keras

from stages.learning.costs import costs_of
from stages.learning.network import save_network


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
