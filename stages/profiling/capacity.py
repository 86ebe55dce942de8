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

HOUR = 3600.0
TRACED = 10  # executions in a trace (steps, or `steps_per_execution` of them); each takes megabytes


@dataclass(frozen=True)
class Speed:
    """Images per second of each part of a training."""

    frozen: float | None  # None where nothing is cached
    training: float
    validation: float
    small: float | None = None  # of training; None where no epoch learns from small images
    small_validation: float | None = None


def probe(
    model: keras.Model,
    training: Training,
    execution: Execution,
    steps: int,
    trace: Path | None = None,
) -> Speed:
    """Measure a training's speed.

    The model learns a little from noise, drawn by the training's seed. `steps` of each part are
    timed, after as many untimed ones as run at once; `trace` is the folder for a trace of some
    more, https://www.tensorflow.org/guide/profiler.
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
        some = Batches(given, rows[: warm * TRACED], labels, size, training.seed)
        with tf.profiler.experimental.Profile(str(trace)):
            learner.fit(some, shuffle=False, verbose=0)
    validation = speed(learner.evaluate)
    if not training.progressive_epochs:
        return Speed(frozen_speed, whole, validation)
    learner.take_small(True)
    small = speed(learner.fit, shuffle=False)
    return Speed(frozen_speed, whole, validation, small, speed(learner.evaluate))


class _Clock(keras.callbacks.Callback):
    """The time at the end of each step, or of the steps run at once.

    Speeds are measured from the first end on: what precedes it is done once an epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.ends.append(time.perf_counter())

    on_test_batch_end = on_train_batch_end


def hours(speed: Speed, training: Training, train: int, val: int) -> tuple[float, float]:
    """The hours of a training on so many images: of the frozen part, and of all its epochs."""
    once = (train + val) / speed.frozen if speed.frozen else 0.0
    seconds = training.epochs * (train / speed.training + val / speed.validation)
    if speed.small and speed.small_validation:
        saved = train * (1 / speed.training - 1 / speed.small)
        saved += val * (1 / speed.validation - 1 / speed.small_validation)
        seconds -= training.progressive_epochs * saved
    return once / HOUR, seconds / HOUR
