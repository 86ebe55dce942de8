"""Batches: slices of one array, in memory or mapped from a file.

Images stay uint8 until they are in the network. A batch costs one copy of its rows and no
decoding. Seed and number of an epoch decide its order.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Labels = Mapping[str, npt.NDArray[Any]]  # int64 class indices or float32 distributions, by task


class Batches(keras.utils.PyDataset):
    """Batches of chosen rows of an array, with the labels of each task.

    Args:
        inputs: array (N, ...), images or features.
        rows: indices into `inputs` (M), the examples.
        labels: class indices by task (M), or distributions (M, classes), in the order of `rows`.
        batch_size: examples a batch; the last one may be smaller.
        seed: of the order of each epoch; None keeps the order of `rows`.
        chances: of each example (M, sum 1), to draw M with replacement at each epoch; None:
            each once.
    """

    def __init__(
        self,
        inputs: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        labels: Labels,
        batch_size: int,
        seed: int | None = None,
        chances: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        # A bare array: a mapped one makes each slice a mapped one, which takes longer.
        self.inputs = inputs.view(np.ndarray) if isinstance(inputs, np.memmap) else inputs
        self.rows, self.labels = rows, labels
        self.batch_size, self.seed, self.chances = batch_size, seed, chances
        self.set_epoch(0)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
        """Inputs and labels of batch `index`."""
        return self.part(index, 0, 1)

    def part(
        self, index: int, place: int, parts: int
    ) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
        """One of the nearly equal parts, in order, of batch `index`.

        No part is empty: where the batch has fewer examples than parts, each is all of it.
        """
        chosen = self._chosen(index)
        if 1 < parts <= len(chosen):
            chosen = np.array_split(chosen, parts)[place]
        labels = {task: values[chosen] for task, values in self.labels.items()}
        return np.ascontiguousarray(self.inputs[self.rows[chosen]]), labels

    def size(self, index: int) -> int:
        """Examples in batch `index`."""
        return len(self._chosen(index))

    def _chosen(self, index: int) -> npt.NDArray[np.int64]:
        return self.order[index * self.batch_size : (index + 1) * self.batch_size]

    def set_epoch(self, epoch: int) -> None:
        """Set the examples of an epoch, counted from 0, and their order."""
        number = len(self.rows)
        self.order = np.arange(number)
        if self.seed is None:
            return
        generator = np.random.default_rng([self.seed, epoch])
        if self.chances is not None:
            self.order = generator.choice(number, number, p=self.chances)
        generator.shuffle(self.order)
