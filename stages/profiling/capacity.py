"""How fast a training runs on this device, probed in a few steps, and how long all of it takes.

A probe runs the same compiled step on the same batches as a training, with images of random pixels,
which cost as much as real ones. The frozen part is timed by itself, since it is computed once for
each image. The rest is arithmetic: epochs times images over speed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from stages.core.variants import Training
from stages.learning.batches import Batches
from stages.learning.features import BATCH
from stages.learning.fit import Examples, Execution, caches_features, classes_of, compile_learner
from stages.learning.objective import FIRST_YEAR
from stages.networks.heads import AGE_YEARS
from stages.networks.network import split_frozen
from stages.profiling.trace import Trace

HOUR = 3600.0


@dataclass(frozen=True)
class Speed:
    """Images per second of each part of a training.

    `frozen` is None where nothing is cached, `small` where no epoch learns from small images.
    """

    frozen: float | None
    training: float
    validation: float
    small: float | None = None


@dataclass(frozen=True)
class Hours:
    """The hours of a training: once for each image (frozen part), and in all its epochs."""

    frozen: float
    epochs: float


def probe(
    model: keras.Model,
    training: Training,
    execution: Execution,
    steps: int,
    trace: Path | None = None,
) -> Speed:
    """Measure a training's speed.

    Args:
        model: from `build_network`; it learns a little from noise, drawn by the training's seed.
        training: how it is trained.
        execution: how the steps are run.
        steps: timed steps of each part, after as many untimed ones as run at once.
        trace: folder for a profiler's trace of some more steps; None: no trace.
    """
    tf.get_logger().setLevel("ERROR")  # it warns of each new network's steps being compiled
    random = np.random.default_rng(training.seed)
    size = training.batch_size
    images = random.integers(0, 256, (max(size, BATCH), *model.input.shape[1:]), np.uint8)
    network, inputs, frozen_speed = model, images, None
    if caches_features(training) and (parts := split_frozen(model)) is not None:
        frozen, network = parts
        inputs = np.asarray(frozen.predict_on_batch(images))
        begin = time.perf_counter()
        for _ in range(steps):
            frozen.predict_on_batch(images[:BATCH])
        frozen_speed = steps * BATCH / (time.perf_counter() - begin)
    warm = size * execution.steps_at_once
    number = warm + steps * size
    rows = np.arange(number) % len(images)
    classes = classes_of(model)
    labels = {task: random.integers(0, count, number) for task, count in classes.items()}
    if AGE_YEARS in model.output:
        last = FIRST_YEAR + int(model.output[AGE_YEARS].shape[-1])
        labels[AGE_YEARS] = random.integers(FIRST_YEAR, last, number)
    learner = compile_learner(network, inputs, Examples(rows, labels), training, execution)
    given = np.arange(len(inputs)) if execution.on_device else inputs
    batches = Batches(given, rows, labels, size, training.seed)
    first = Batches(given, rows[:warm], labels, size, training.seed)

    def speed(run: Callable[..., object], **settings: Any) -> float:
        for _ in range(2):  # compiles, then fills caches
            run(first, verbose=0, **settings)
        clock = _Clock()
        run(batches, verbose=0, callbacks=[clock], **settings)
        return (number - warm) / (clock.ends[-1] - clock.ends[0])

    whole = speed(learner.fit, shuffle=False)
    if trace is not None:
        learner.fit(batches, shuffle=False, verbose=0, callbacks=[Trace(trace)])
    validation = speed(learner.evaluate)
    small = None
    if training.progressive_epochs:
        learner.take_small(True)
        small = speed(learner.fit, shuffle=False)
    return Speed(frozen_speed, whole, validation, small)


class _Clock(keras.callbacks.Callback):
    """The time at the end of each step, or of the steps run at once.

    Speeds are measured from the end of the first to that of the last. The work of Keras before
    the first step takes as long as some steps, but a training does it once an epoch, which has
    hundreds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note the time."""
        self.ends.append(time.perf_counter())

    on_test_batch_end = on_train_batch_end


def hours(speed: Speed, training: Training, train: int, val: int) -> Hours:
    """The hours of a training of all its epochs, on so many images."""
    once = (train + val) / speed.frozen if speed.frozen else 0.0
    learning = training.epochs * train / speed.training
    if speed.small:
        learning += training.progressive_epochs * train * (1 / speed.small - 1 / speed.training)
    return Hours(once / HOUR, (learning + training.epochs * val / speed.validation) / HOUR)
