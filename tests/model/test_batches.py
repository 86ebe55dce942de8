"""Data input_spec: every example once an epoch, with its own labels, without loading the file."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from specs import network_of

from stages.learning.batches import Batches
from stages.networks.prediction import predict_rows

ROWS = np.array([7, 3, 11, 0, 5, 2, 9, 14, 6, 1, 13])  # eleven of twenty, out of order


def batches(batch_size: int = 4, seed: int | None = 1) -> Batches:
    """Inputs that hold their own row's number; labels that can be worked out from it."""
    inputs = np.arange(20.0, dtype=np.float32)[:, None]
    labels = {"age": ROWS % 5, "gender": ROWS % 2}
    return Batches(inputs, ROWS, labels, batch_size, seed)


def epoch_of(data: Batches) -> list[int]:
    """The rows of an epoch in order; each label is checked on the way."""
    rows: list[int] = []
    for index in range(len(data)):
        inputs, labels = data[index]
        numbers = inputs[:, 0].astype(int)
        assert labels["age"].tolist() == (numbers % 5).tolist()
        assert labels["gender"].tolist() == (numbers % 2).tolist()
        rows += numbers.tolist()
    return rows


def epochs_of(data: Batches, number: int) -> list[list[int]]:
    epochs = []
    for epoch in range(number):
        data.set_epoch(epoch)
        epochs.append(epoch_of(data))
    return epochs


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_every_example_comes_once_an_epoch_with_its_own_labels(batch_size: int):
    data = batches(batch_size)
    assert len(data) == {1: 11, 4: 3, 11: 1, 50: 1}[batch_size]
    for rows in epochs_of(data, 3):
        assert sorted(rows) == sorted(ROWS)


def test_the_order_differs_between_epochs_and_follows_from_the_seed():
    first, again, other = (epochs_of(batches(seed=seed), 3) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({tuple(epoch) for epoch in first}) == 3


def test_without_a_seed_the_order_is_that_of_the_rows():
    assert epochs_of(batches(seed=None), 2) == [ROWS.tolist()] * 2


def test_an_epoch_can_be_dealt_without_those_before_it():
    data = batches()
    data.set_epoch(2)
    assert epoch_of(data) == epochs_of(batches(), 3)[2]


def test_examples_are_drawn_as_often_as_their_chances_say():
    number = 4000
    rows = np.arange(number)
    chances = np.where(rows < 1000, 3.0, 1.0)
    data = Batches(rows, rows, {}, number, 1, chances / chances.sum())
    drawn, _ = data[0]
    assert len(drawn) == number
    assert np.mean(drawn < 1000) == pytest.approx(0.5, abs=0.04)
    data.set_epoch(1)
    assert data[0][0].tolist() != drawn.tolist()


def test_a_mapped_file_is_read_a_batch_at_a_time(tmp_path: Path):
    shape = (200_000, 32, 32, 3)  # 600 MB, sparse on disk
    images = np.lib.format.open_memmap(tmp_path / "crops.npy", "w+", np.uint8, shape)
    images[123_456] = 7
    rows = np.arange(shape[0])
    tracemalloc.start()
    try:
        data = Batches(images, rows, {"age": rows}, 64)
        batch, labels = data[123_456 // 64]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batch[123_456 % 64].min() == 7
    assert labels["age"][123_456 % 64] == 123_456
    assert type(batch) is np.ndarray
    assert batch.dtype == np.uint8
    assert peak < 10_000_000


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (20, 32, 32, 3), np.uint8)


def test_predictions_for_rows_are_those_of_keras_in_their_order(images: np.ndarray):
    model = network_of("cnn", "all", "ge", "unit", {"age": 5, "gender": 2, "race": 5}, 32)
    wanted = model.predict(images[ROWS], verbose=0)
    for batch_size in (3, 64):
        found = predict_rows(model, images, ROWS, batch_size)
        assert found.keys() == wanted.keys()
        for task, values in wanted.items():
            assert found[task].dtype == np.float32
            assert found[task] == pytest.approx(values, abs=1e-6)


def test_mirrored_predictions_are_the_mean_of_both_sides(images: np.ndarray):
    model = network_of("cnn", "all", "plain", "unit", {"gender": 2}, 32)
    plain = predict_rows(model, images, ROWS, 4)["gender"]
    other = predict_rows(model, images[:, :, ::-1], ROWS, 4)["gender"]
    found = predict_rows(model, images, ROWS, 4, mirrored=True)["gender"]
    assert found == pytest.approx((plain + other) / 2, abs=1e-6)
    assert np.abs(plain - other).max() > 1e-4
