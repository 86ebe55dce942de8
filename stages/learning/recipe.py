"""The published recipe: how a network learns.

Adam; cross-entropy, weighted over the tasks; a learning rate that is constant for some
epochs and then falls by exp(-decay) each; of all epochs, the weights of the one that is
best by the weighted validation accuracy. The frozen part of a network is computed once for
each image: its output does not change, so the result is that of training the whole.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from stages.learning.batches import Batches, Labels, write_features
from stages.learning.network import divide

# Images a step when a frozen part is computed: its result does not depend on it.
FEATURE_BATCH = 64

Log = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a network learns; see params.yaml for units and ranges."""

    learning_rate: float
    batch_size: int
    epochs: int
    clipnorm: float
    constant_epochs: int
    decay: float
    task_weights: Mapping[str, float]

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.learning_rate * math.exp(-self.decay * max(0, epoch - self.constant_epochs + 1))


@dataclass(frozen=True)
class Examples:
    """All images (or their features), the rows meant, and their labels in that order."""

    images: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    labels: Labels


def fit(
    model: keras.Model,
    train: Examples,
    val: Examples,
    recipe: Recipe,
    seed: int,
    scratch: Path,
    log: Log,
) -> dict[str, float]:
    """Train a network in place; it ends with the weights of its best epoch.

    Args:
        model: from `build_network`.
        train: what it learns from.
        val: what chooses the best epoch.
        recipe: the settings.
        seed: of the order of the batches.
        scratch: path of the file that the frozen part's features may use; deleted at the end.
        log: called after each epoch with its number from 0 and its figures by name, as
            `train/loss`, `val/age_accuracy`, `val/score`.

    Returns:
        `best_epoch` (from 1), `epochs` and `val_score` of the best one.
    """
    learner, sides = model, (train, val)
    parts = divide(model)
    try:
        if parts is not None:
            frozen, learner = parts
            sides = (
                _through(frozen, train, scratch, "train"),
                _through(frozen, val, scratch, "val"),
            )
        return _fit(learner, *sides, recipe, seed, log)
    finally:
        for side in ("train", "val"):
            _features_path(scratch, side).unlink(missing_ok=True)


def _features_path(scratch: Path, side: str) -> Path:
    return scratch.with_name(f"{scratch.name}-{side}.npy")


def _through(frozen: keras.Model, examples: Examples, scratch: Path, side: str) -> Examples:
    path = _features_path(scratch, side)
    features = write_features(frozen, examples.images, examples.rows, FEATURE_BATCH, path)
    return Examples(features, np.arange(len(features)), examples.labels)


def _fit(
    learner: keras.Model, train: Examples, val: Examples, recipe: Recipe, seed: int, log: Log
) -> dict[str, float]:
    tasks = list(learner.output)
    weights = {task: recipe.task_weights[task] for task in tasks}
    learner.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate, clipnorm=recipe.clipnorm or None),
        loss={task: keras.losses.SparseCategoricalCrossentropy() for task in tasks},
        loss_weights=weights,
        metrics={task: [keras.metrics.SparseCategoricalAccuracy("accuracy")] for task in tasks},
    )
    scores: list[float] = []

    def after_epoch(epoch: int, logs: dict[str, float]) -> None:
        figures = {_curve(name, tasks): float(value) for name, value in logs.items()}
        score = sum(w * figures[f"val/{task}_accuracy"] for task, w in weights.items())
        logs["val_score"] = score / sum(weights.values())  # read by the callback below
        scores.append(logs["val_score"])
        log(epoch, figures | {"val/score": scores[-1]})

    learner.fit(
        Batches(train.images, train.rows, train.labels, recipe.batch_size, seed),
        validation_data=Batches(val.images, val.rows, val.labels, recipe.batch_size),
        epochs=recipe.epochs,
        shuffle=False,  # Batches shuffles, from the seed
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(recipe.rate),
            keras.callbacks.LambdaCallback(on_epoch_end=after_epoch),
            keras.callbacks.EarlyStopping(
                "val_score", mode="max", patience=recipe.epochs, restore_best_weights=True
            ),
        ],
    )
    best = int(np.argmax(scores))
    return {"best_epoch": best + 1, "epochs": len(scores), "val_score": scores[best]}


def _curve(name: str, tasks: Sequence[str]) -> str:
    side, figure = ("val", name[4:]) if name.startswith("val_") else ("train", name)
    if figure == "accuracy":  # Keras leaves the output's name out where there is only one
        figure = f"{tasks[0]}_accuracy"
    return f"{side}/{figure}"
