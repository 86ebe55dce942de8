"""Checkpoints: a training that was killed continues from its last whole epoch.

A checkpoint holds all state of the training and the figures of the epochs done, so that the result
is that of an undisturbed training. It belongs to an identity, a digest of data and settings. Two
trainings of one identity may run at once (two experiments that differ in later stages): the first
to finish an epoch writes its checkpoint.
"""

import json
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from stages.core.files import atomic_write

Array = npt.NDArray[Any]
History = list[dict[str, float]]


class Checkpoints:
    """The checkpoint of one training, in a folder of its own, made when needed."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def save(
        self, model: keras.Model, best: Sequence[Array], history: History, writes: bool = True
    ) -> None:
        """Keep the state after an epoch; the one before stays until this one is whole.

        With `writes` false the state is read, as all workers of a training must, and dropped.
        """
        state = [np.asarray(variable) for variable in state_variables(model)]
        if not writes:
            return
        about = json.dumps({"identity": self.identity, "history": history, "state": len(state)})
        path = self.folder / f"epoch-{len(history)}.npz"
        with atomic_write(path, shared=True) as partial, partial.open("wb") as file:
            np.savez(file, *state, *best, about=about)
        for other in self._kept()[:-1]:
            other.unlink(missing_ok=True)

    def restore(self, model: keras.Model) -> tuple[list[Array], History] | None:
        """Put a model, built and compiled, into the state kept; None if there is none of its own.

        Returns the best weights so far and the figures of the epochs done.
        """
        for path in reversed(self._kept()):
            try:
                with np.load(path, allow_pickle=False) as file:
                    about = json.loads(str(file["about"]))
                    if about["identity"] != self.identity:
                        return None
                    arrays = [file[f"arr_{number}"] for number in range(len(file.files) - 1)]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                print(f"warning: {path}: not whole, removed ({error})", file=sys.stderr)
                path.unlink(missing_ok=True)
                continue
            state, best = arrays[: about["state"]], arrays[about["state"] :]
            for variable, value in zip(state_variables(model), state, strict=True):
                variable.assign(value)
            return best, about["history"]
        return None

    def clear(self) -> None:
        """Remove the checkpoint: the training is done."""
        for path in self._kept():
            path.unlink(missing_ok=True)
        with suppress(OSError):  # another training of this identity writes here
            self.folder.rmdir()

    def _kept(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.npz"), key=lambda path: int(path.stem[6:]))


def state_variables(model: keras.Model) -> list[Any]:
    """All that the rest of a training follows from, in the order of a checkpoint."""
    return [*model.variables, *model.optimizer.variables]
