"""Data feeding: every example once an epoch, with its own labels, without loading the file."""

import tracemalloc
from pathlib import Path

import keras
import numpy as np
import pytest

from stages.learning.batches import Batches, predict_rows, write_features
from stages.learning.network import build_network, divide

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
    for _ in range(number):
        epochs.append(epoch_of(data))
        data.on_epoch_end()
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


class Recorder(keras.Model):
    """Learns nothing; keeps the rows that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def call(self, inputs):
        return inputs

    def train_step(self, data):
        inputs, labels = data
        numbers = np.asarray(inputs)[:, 0].astype(int)
        assert np.asarray(labels["age"]).tolist() == (numbers % 5).tolist()
        self.seen += numbers.tolist()
        return {"loss": 0.0}


def test_keras_sees_every_example_once_in_each_of_its_epochs():
    runs = []
    for _ in range(2):
        model = Recorder()
        model.compile(run_eagerly=True)
        model.fit(batches(), epochs=3, shuffle=False, verbose=0)
        runs.append([model.seen[i : i + len(ROWS)] for i in range(0, len(model.seen), len(ROWS))])
    first, again = runs
    assert [sorted(rows) for rows in first] == [sorted(ROWS)] * 3
    assert len({tuple(rows) for rows in first}) == 3
    assert first == again


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
    model = build_network("cnn", "all", "ge", "unit", {"age": 5, "gender": 2, "race": 5}, 32)
    wanted = model.predict(images[ROWS], verbose=0)
    for batch_size in (3, 64):
        found = predict_rows(model, images, ROWS, batch_size)
        assert found.keys() == wanted.keys()
        for task, values in wanted.items():
            assert found[task].dtype == np.float32
            assert found[task] == pytest.approx(values, abs=1e-6)


def test_features_are_those_of_the_rows_in_a_mapped_file(images: np.ndarray, tmp_path: Path):
    model = build_network("vgg16", "block5", "plain", "unit", {"gender": 2}, 32)
    frozen, _ = divide(model)
    path = tmp_path / "new" / "features.npy"
    features = write_features(frozen, images, ROWS, 4, path)
    assert isinstance(features, np.memmap)
    wanted = frozen.predict(images[ROWS], verbose=0)
    assert np.asarray(features) == pytest.approx(wanted, abs=1e-6)
    assert wanted.std() > 1e-4
    assert np.load(path) == pytest.approx(wanted, abs=1e-6)
