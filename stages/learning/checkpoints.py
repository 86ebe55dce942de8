"""Checkpoints: a training that was killed continues from its last whole epoch.

A checkpoint holds all state of the training and the figures of the epochs done, so that the result
is that of an undisturbed training. It belongs to an identity, a digest of data and settings. Two
trainings of one identity may run at once (two experiments that differ in later stages): the first
to finish an epoch writes its checkpoint.
"""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

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
        name = f"epoch-{len(history)}"
        partial = self._hidden(name)
        partial.mkdir(parents=True)
        np.savez(partial / "state.npz", *state)
        np.savez(partial / "best.npz", *best)
        content = {"identity": self.identity, "history": history}
        (partial / "history.json").write_text(json.dumps(content), encoding="utf-8")
        for file in partial.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        try:
            partial.rename(self.folder / name)
        except OSError:
            if not (self.folder / name).is_dir():  # else the other training was first
                raise
            shutil.rmtree(partial)
        for other in self._kept()[:-1]:
            self._remove(other)

    def restore(self, model: keras.Model) -> tuple[list[Array], History] | None:
        """Put a model, built and compiled, into the state kept; None if there is none of its own.

        Returns the best weights so far and the figures of the epochs done.
        """
        for path in reversed(self._kept()):
            try:
                content = json.loads((path / "history.json").read_text(encoding="utf-8"))
                if content["identity"] != self.identity:
                    return None
                state, best = _arrays(path / "state.npz"), _arrays(path / "best.npz")
                history = content["history"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                print(f"warning: {path}: not whole, removed ({error})", file=sys.stderr)
                self._remove(path)
                continue
            for variable, value in zip(state_variables(model), state, strict=True):
                variable.assign(value)
            return best, history
        return None

    def clear(self) -> None:
        """Remove the checkpoint: the training is done."""
        for path in self._kept():
            self._remove(path)
        with suppress(OSError):  # another training of this identity writes here
            self.folder.rmdir()

    def _kept(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*"), key=lambda path: int(path.name[6:]))

    def _hidden(self, name: str) -> Path:
        """A path of this process alone, which is no checkpoint's; what is there is removed."""
        path = self.folder / f".{name}-{os.getpid()}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def _remove(self, path: Path) -> None:
        """Remove a checkpoint; a half-removed one is not found any more."""
        gone = self._hidden(f"gone-{path.name}")
        with suppress(OSError):  # another training of this identity removed it
            path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def state_variables(model: keras.Model) -> list[Any]:
    """All that the rest of a training follows from, in the order of a checkpoint."""
    return [*model.variables, *model.optimizer.variables]


def _arrays(path: Path) -> list[Array]:
    with np.load(path, allow_pickle=False) as file:
        return [file[f"arr_{number}"] for number in range(len(file.files))]
