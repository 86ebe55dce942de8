"""Data feeding: batches sliced from one array, in memory or mapped from a file.

Images stay uint8 until they are in the network; a batch costs one copy of its rows and no
decoding. The order of each epoch follows from the seed and the epoch's number alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

Labels = Mapping[str, npt.NDArray[np.int64]]


class Batches(keras.utils.PyDataset):
    """Batches of chosen rows of an array, with the labels of each task.

    Args:
        inputs: array (N, ...), images or features.
        rows: indices into `inputs` (M), the examples.
        labels: class indices by task (M each), in the order of `rows`.
        batch_size: examples a batch; the last one may be smaller.
        seed: of the shuffling at each epoch; None keeps the order of `rows`.
    """

    def __init__(
        self,
        inputs: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        labels: Labels,
        batch_size: int,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.rows, self.labels = inputs, rows, labels
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.int64]]]:
        """Inputs and labels of batch `index`."""
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        labels = {task: values[chosen] for task, values in self.labels.items()}
        return np.ascontiguousarray(self.inputs[self.rows[chosen]]), labels

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = np.arange(len(self.rows))
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch]).shuffle(self.order)


def predict_rows(
    model: keras.Model, inputs: npt.NDArray[Any], rows: npt.NDArray[np.int64], batch_size: int
) -> dict[str, npt.NDArray[np.float32]]:
    """The network's outputs by task, float32 (M, classes), for chosen rows in their order."""
    outputs: dict[str, list[npt.NDArray[np.float32]]] = {}
    for start in range(0, len(rows), batch_size):
        batch = np.ascontiguousarray(inputs[rows[start : start + batch_size]])
        for task, values in model.predict_on_batch(batch).items():
            outputs.setdefault(task, []).append(np.asarray(values, np.float32))
    return {task: np.concatenate(values) for task, values in outputs.items()}


def write_features(
    trunk: keras.Model,
    inputs: npt.NDArray[Any],
    rows: npt.NDArray[np.int64],
    batch_size: int,
    path: Path,
) -> npt.NDArray[np.float32]:
    """Compute a frozen part's output once for chosen rows, into a file mapped into memory.

    Returns:
        float32 (M, ...) in the order of `rows`, backed by the .npy file at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(rows), *trunk.output.shape[1:])
    features = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    starts = range(0, len(rows), batch_size)
    for start in tqdm(starts, "features", unit="batch", disable=None):
        batch = np.ascontiguousarray(inputs[rows[start : start + batch_size]])
        features[start : start + batch_size] = trunk.predict_on_batch(batch)
    return features
