"""How a network is trained: from examples to the weights of its best epoch.

The published recipes: Adam; cross-entropy, weighted over the tasks; of all epochs, the weights
of the one that is best by the weighted validation accuracy. `mtl` holds the learning rate for
some epochs and then lets it fall by exp(-decay) each; `stl` ends when the validation accuracy
has not risen for some epochs. Everything beyond (see params.yaml) is off in them.

Progressive resizing: the first epochs may learn from smaller images, at the cost of their area
(Tan and Le 2021, https://arxiv.org/abs/2104.00298, section 4). They are validated on images of that
size too, so that the curve shows what is learnt; the best epoch is one at full size.

Where no image is changed, the frozen part of a network is computed once for each image: its
output does not change, so the result is that of training the whole.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from stages.core.variants import Training
from stages.learning.augmentation import Augment
from stages.learning.batches import Batches, Labels
from stages.learning.checkpoints import Checkpoints
from stages.learning.distributed import fit_distributed, normalises
from stages.learning.layers import for_training
from stages.learning.mixup import MixUp
from stages.learning.objective import (
    Learner,
    Objective,
    balanced_class_weights,
    sampling_probabilities,
)
from stages.learning.optimizer import build_optimizer
from stages.learning.replicas import Replicas
from stages.networks.heads import AGE_YEARS
from stages.networks.network import split_frozen

CHECKPOINT_SECONDS = 60.0  # between two checkpoints at least; a training this short has none

Log = Callable[[int, dict[str, float]], None]
Features = Callable[[keras.Model], npt.NDArray[Any]]


@dataclass(frozen=True)
class Execution:
    """How steps are run. The result is the same; with XLA the last bits differ.

    Attributes:
        xla: see `Learner`.
        steps_at_once: steps between two returns to Python.
        on_device: keep all images, or the features of all, in the device's memory.
        replicas: the devices that share each batch; None: one has it all.
    """

    xla: bool = False
    steps_at_once: int = 1
    on_device: bool = False
    replicas: Replicas | None = None

    def suited_to(self, network: keras.Model) -> "Execution":
        """The same, without XLA where that cannot compile the network.

        That is batch normalisation that counts over several devices.
        """
        if self.replicas is None or not normalises(network):
            return self
        return replace(self, xla=False)

    def scope(self) -> AbstractContextManager[Any]:
        """What a network that is to be trained so has to be made in."""
        return nullcontext() if self.replicas is None else self.replicas.strategy.scope()


@dataclass(frozen=True)
class Examples:
    """Rows of the images, or of their features, and their labels in that order."""

    rows: npt.NDArray[np.int64]
    labels: Labels


@dataclass(frozen=True)
class Data:
    """What a training reads.

    Attributes:
        images: uint8 (N, height, width, 3), of which the examples are some.
        train: what the network learns from.
        val: what chooses the best epoch.
    """

    images: npt.NDArray[np.uint8]
    train: Examples
    val: Examples


def fit(
    model: keras.Model,
    data: Data,
    training: Training,
    features: Features,
    checkpoints: Checkpoints,
    log: Log,
    execution: Execution = Execution(),
) -> dict[str, Any]:
    """Train a network in place; it ends with the weights of its best epoch.

    Args:
        model: from `build_network`, made in `execution.scope()`.
        data: what it learns from and is validated with.
        training: the settings; the seed is that of batch order, sampling and augmentation.
        features: gives the output of a frozen part for all images.
        checkpoints: where the training goes on if it was killed; the caller clears them.
        log: called after each epoch with its number from 0 and its figures by name, as
            `train/loss`, `val/age_accuracy`, `val/score`.
        execution: how the steps are run.

    Returns:
        `best_epoch` (from 1), `epochs`, and of the best one `val_score` and `val_accuracy` by
        task; `seconds` of training (features not included) and `images_per_second` in this
        process.
    """
    execution = execution.suited_to(model)
    network, inputs = model, data.images
    if caches_features(training) and (parts := split_frozen(model)) is not None:
        frozen, network = parts
        inputs = features(frozen)
    with execution.scope():
        learner = compile_learner(network, inputs, data.train, training, execution)
    given = np.arange(len(inputs)) if execution.on_device else inputs
    batches, validation = _batches(given, data, training, classes_of(network))
    epochs = _Epochs(network, training, batches, checkpoints, log, execution.replicas)
    with execution.scope():
        started = epochs.restore(learner)
    begin = time.monotonic()
    if started < training.epochs and not epochs.ended:
        rest = range(started, training.epochs)
        _run(learner, batches, validation, rest, [epochs, *_more_callbacks(training)], execution)
    seconds = time.monotonic() - begin
    network.set_weights(epochs.best_weights)
    done, best = len(epochs.history), epochs.history[epochs.best]
    return {
        "best_epoch": epochs.best + 1,
        "epochs": done,
        "val_score": best["val/score"],
        "val_accuracy": {task: best[f"val/{task}_accuracy"] for task in classes_of(network)},
        "seconds": round(seconds, 3),
        "images_per_second": round((done - started) * len(data.train.rows) / max(seconds, 1e-9), 1),
    }


def _batches(
    inputs: npt.NDArray[Any], data: Data, training: Training, classes: Mapping[str, int]
) -> tuple[Batches, Batches]:
    """The batches of the train and val splits."""
    train, val = data.train, data.val
    probabilities = (
        sampling_probabilities(train.labels, classes) if training.balance == "sampling" else None
    )
    size, seed = training.batch_size, training.seed
    return (
        Batches(inputs, train.rows, train.labels, size, seed, probabilities),
        Batches(inputs, val.rows, val.labels, size),
    )


def _run(
    learner: Learner,
    train: Batches,
    val: Batches,
    epochs: range,
    callbacks: list[keras.callbacks.Callback],
    execution: Execution,
) -> None:
    if execution.replicas is not None:
        fit_distributed(execution.replicas, learner, train, val, epochs, callbacks)
        return
    learner.fit(
        train,
        validation_data=val,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        shuffle=False,  # Batches shuffles, from the seed
        verbose=0,
        callbacks=callbacks,
    )


def caches_features(training: Training) -> bool:
    """Whether a frozen part sees the same pixels at each epoch, so that once is enough."""
    same = training.augmentation is None and not training.mixup
    return same and not training.progressive_epochs


def classes_of(network: keras.Model) -> dict[str, int]:
    """The number of classes by task, in the order of the outputs."""
    outputs = {task: int(output.shape[-1]) for task, output in network.output.items()}
    return {task: number for task, number in outputs.items() if task != AGE_YEARS}


def compile_learner(
    network: keras.Model,
    inputs: npt.NDArray[Any],
    train: Examples,
    training: Training,
    execution: Execution,
) -> Learner:
    """The learner that `fit` trains: a network with its objective, augmentation and optimizer.

    Args:
        network: the part that learns.
        inputs: of the network: images or features (N, ...).
        train: what it learns from.
        training: the settings.
        execution: how the steps are run; with `on_device` the learner takes rows of `inputs`.
    """
    classes = classes_of(network)
    objective = Objective(
        classes,
        training.loss_weights.model_dump(),
        training.label_smoothing.model_dump(),
        balanced_class_weights(train.labels, classes)
        if training.balance == "class-weights"
        else None,
        training.age_sigma,
        training.age_error_weight,
    )
    augmentation = training.augmentation
    augment = None if augmentation is None else Augment(augmentation, training.seed)
    store = inputs if execution.on_device else None
    size = training.progressive_size if training.progressive_epochs else 0
    mixup = MixUp(training.mixup, training.seed) if training.mixup else None
    optimizer = build_optimizer(training, -(-len(train.rows) // training.batch_size))
    # Averaged weights need moments of their own activations: averaged likewise.
    momentum = (lambda: optimizer.ema_momentum) if training.weight_average else None
    network = for_training(network, momentum)
    learner = Learner(network, objective, augment, mixup, execution.xla, store, size)
    learner.compile(
        optimizer,
        jit_compile=False,  # Keras's own choice; Learner knows what XLA is to compile
        steps_per_execution=execution.steps_at_once,
    )
    return learner


def _more_callbacks(training: Training) -> list[keras.callbacks.Callback]:
    """Those that only some trainings have."""
    # The averaged weights are in the network from before its validation to after it.
    return [keras.callbacks.SwapEMAWeights()] if training.weight_average > 0 else []


class _Epochs(keras.callbacks.Callback):
    """What happens between epochs: the order of the batches, the best weights, the log.

    The score of an epoch is the mean of the validation accuracies, weighted as the tasks.
    """

    def __init__(
        self,
        network: keras.Model,
        training: Training,
        batches: Batches,
        checkpoints: Checkpoints,
        log: Log,
        replicas: Replicas | None = None,
    ) -> None:
        super().__init__()
        self.replicas = replicas
        self.network, self.patience = network, training.patience
        weights = training.task_weights.model_dump()
        self.weights = {task: weights[task] for task in classes_of(network)}
        self.small = training.progressive_epochs
        self.batches, self.checkpoints, self.log = batches, checkpoints, log
        self.history: list[dict[str, float]] = []
        self.best_weights: list[npt.NDArray[Any]] = []
        self.saved = time.monotonic()

    @property
    def writes(self) -> bool:
        """Whether checkpoints are this process's matter."""
        return self.replicas is None or self.replicas.chief

    @property
    def scores(self) -> list[float]:
        """Of the epochs done."""
        return [figures["val/score"] for figures in self.history]

    @property
    def best(self) -> int:
        """Number of the best epoch, the first of equals; at full size once there is one."""
        first = self.small if len(self.history) > self.small else 0
        return first + int(np.argmax(self.scores[first:]))

    @property
    def ended(self) -> bool:
        """Whether the score has not risen for as many epochs as patience allows."""
        full = len(self.history) > self.small  # small images alone end nothing
        return bool(self.patience and full) and len(self.history) - 1 - self.best >= self.patience

    def restore(self, learning: keras.Model) -> int:
        """Go on from a checkpoint; returns the number of the epochs done."""
        learning.optimizer.build(learning.trainable_variables)
        kept = self.checkpoints.restore(learning) if self.writes else None
        if self.replicas is not None and self.replicas.peers:
            kept = self.replicas.agree_on(self.checkpoints.identity, learning, self.network, kept)
        if kept is not None:
            self.best_weights, self.history = kept
        for epoch, figures in enumerate(self.history):
            self.log(epoch, figures)
        return len(self.history)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Set the batches and the image size of this epoch; note its first learning rate."""
        self.batches.set_epoch(epoch)
        self.model.take_small(epoch < self.small)
        self.rate = float(self.model.optimizer.learning_rate)

    def on_test_end(self, logs: Any = None) -> None:
        """Keep the weights if they are the best so far."""
        accuracies = {task: logs[f"{task}_accuracy"] for task in self.weights}
        score = sum(w * float(accuracies[task]) for task, w in self.weights.items())
        self.score = score / sum(self.weights.values())
        first_at_full_size = len(self.history) == self.small
        if not self.history or first_at_full_size or self.score > self.scores[self.best]:
            self.best_weights = self.network.get_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log the figures; save a checkpoint now and then; stop when patience has run out."""
        figures = {
            (f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"): float(value)
            for name, value in logs.items()
        }
        figures["train/learning_rate"] = self.rate
        figures["val/score"] = self.score
        self.history.append(figures)
        self.log(epoch, figures)
        due = time.monotonic() - self.saved >= CHECKPOINT_SECONDS
        # Reading the state takes all workers, so they save by one clock.
        if due if self.replicas is None else self.replicas.by_chief(due):
            self.checkpoints.save(self.model, self.best_weights, self.history, self.writes)
            self.saved = time.monotonic()
        if self.ended:
            self.model.stop_training = True
