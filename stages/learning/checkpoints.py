"""Checkpoints: a training that was killed goes on from its last whole epoch.

A checkpoint holds every number that the rest of the training follows from (weights, the
optimiser's state, the random generators of dropout and augmentation, the best weights so far)
and the figures of the epochs done, so that the outcome is that of the undisturbed training.
It is bound to an identity, a digest of data and settings: another training's is not used.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Arrays = Sequence[npt.NDArray[Any]]


class Checkpoints:
    """The checkpoint of one training, in a folder of its own.

    Args:
        folder: is made when needed, and removed by `clear`.
        identity: of the training; see above.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def save(
        self,
        model: keras.Model,
        best: Arrays,
        history: list[dict[str, float]],
        writes: bool = True,
    ) -> None:
        """Keep the state after an epoch; the one before stays until this one is whole.

        With `writes` false the state is read, as all workers of a training must, and dropped.
        """
        state = _state(model)
        if not writes:
            return
        name = f"epoch-{len(history)}"
        partial = self.folder / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        np.savez(partial / "state.npz", *state)
        np.savez(partial / "best.npz", *best)
        content = {"identity": self.identity, "history": history}
        (partial / "history.json").write_text(json.dumps(content), encoding="utf-8")
        partial.rename(self.folder / name)
        for other in self.folder.iterdir():
            if other.name != name:
                shutil.rmtree(other)

    def restore(
        self, model: keras.Model
    ) -> tuple[list[npt.NDArray[Any]], list[dict[str, float]]] | None:
        """Put a model, built and compiled, into the state kept; None if there is none of its own.

        Returns:
            The best weights so far and the figures of the epochs done.
        """
        kept = sorted(self.folder.glob("epoch-*"), key=lambda path: int(path.name[6:]))
        if not kept:
            return None
        content = json.loads((kept[-1] / "history.json").read_text(encoding="utf-8"))
        if content["identity"] != self.identity:
            return None
        variables = state_variables(model)
        for variable, value in zip(variables, _arrays(kept[-1] / "state.npz"), strict=True):
            variable.assign(value)
        return _arrays(kept[-1] / "best.npz"), content["history"]

    def clear(self) -> None:
        """Remove the checkpoint: the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def state_variables(model: keras.Model) -> list[Any]:
    """All that the rest of a training follows from, in the order of a checkpoint."""
    return [*model.variables, *model.optimizer.variables]


def _state(model: keras.Model) -> list[npt.NDArray[Any]]:
    return [np.asarray(variable) for variable in state_variables(model)]


def _arrays(path: Path) -> list[npt.NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return [file[f"arr_{number}"] for number in range(len(file.files))]
