"""Several devices, of one machine or of many, that train one network together: tf.distribute.

Data-parallel and in step (https://www.tensorflow.org/guide/distributed_training): each replica
has all weights and computes a share of each batch. What is learnt is what one device learns
from the same batches, up to rounding:

- A batch is the same whatever the number of replicas, which divide it; unequal shares count by
  their examples. A last batch of fewer examples than replicas goes to all of them, and counts
  as one: oneDNN's convolutions of no images have wrong shapes.
- Gradients are summed over the replicas and then clipped, as the gradient of the whole batch is.
- Batch normalisation takes the moments of the whole batch.

Only dropout and augmentation draw other numbers, those of each replica apart.

Keras's own `fit` knows tf.distribute, but clips each replica's gradients before it sums them,
weighs unequal shares alike, and cannot reduce its figures over several workers (Keras 3.15);
hence the loop here. Callbacks are Keras's.

Workers are processes, started by hand or by a cluster's scheduler, that know each other by the
environment variable TF_CONFIG. The first one is the chief: it alone reads and writes
checkpoints and outputs. All of them need the same crops, lists and params. A worker that is lost
ends all of them; what was learnt up to the last checkpoint stays.
"""

import copy
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from stages.core.errors import UserError
from stages.learning.batches import Batches
from stages.learning.checkpoints import state_variables
from stages.learning.objective import Learner

Kept = tuple[list[npt.NDArray[Any]], list[dict[str, float]]] | None  # of a checkpoint

CONFIG = "TF_CONFIG"
AGAIN = "start all workers again: the training goes on from its last checkpoint"
_WATCH = """
import os, select, signal, sys
while select.select([0], [], [], float(sys.argv[1]))[0]:
    if not os.read(0, 4096):
        sys.exit()  # the end of what was watched
sys.stderr.write(sys.argv[3])
sys.stderr.flush()
os.kill(int(sys.argv[2]), signal.SIGKILL)
"""
# What TensorFlow raises where a peer is gone; which of them depends on what it was doing.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


@dataclass(frozen=True)
class Replicas:
    """The devices that train together.

    Attributes:
        strategy: TensorFlow's.
        peers: address of each worker; empty: all devices are this process's.
        worker: number of this process among them; 0 is the chief.
        patience: seconds without any progress after which a worker takes its peers for lost.
    """

    strategy: tf.distribute.Strategy
    peers: tuple[str, ...] = ()
    worker: int = 0
    patience: float = 0.0

    @property
    def number(self) -> int:
        """Of all replicas, those of other workers included."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.worker == 0

    @property
    def kind(self) -> str:
        """The name of the strategy in params."""
        return "multi-worker" if self.peers else "mirrored"

    def from_chief(self, arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The chief's arrays on every worker; the others give arrays of the same shapes."""
        if not self.peers:
            return list(arrays)

        def share(*parts: tf.Tensor) -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            mine = context.replica_id_in_sync_group == 0
            own = [part if mine else tf.zeros_like(part) for part in parts]
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, part) for part in own]

        # By bytes, one to a number: sums of integers are exact, and any type can be sent.
        sent = [
            np.frombuffer(a.tobytes(), np.uint8).astype(np.int32) for a in map(np.array, arrays)
        ]
        run = tf.function(lambda *parts: self.strategy.run(share, args=parts))
        received = run(*map(tf.constant, sent))
        firsts = [self.strategy.experimental_local_results(part)[0] for part in received]
        return [
            np.frombuffer(first.numpy().astype(np.uint8).tobytes(), a.dtype).reshape(a.shape)
            for first, a in zip(firsts, map(np.array, arrays), strict=True)
        ]

    def by_chief(self, flag: bool) -> bool:
        """The chief's value of a flag, on every worker."""
        return bool(self.from_chief([np.array([flag], np.uint8)])[0][0])

    def agree_on(
        self, identity: str, learning: keras.Model, network: keras.Model, kept: Kept
    ) -> Kept:
        """What the chief's checkpoint holds, on every worker; the others need not see its files.

        Args:
            identity: of the training, which has to be the same for all.
            learning: the learner, on the chief as restored; the others' becomes the same.
            network: whose best weights are meant.
            kept: best weights and history, on the chief; None: nothing was kept, or no chief.

        Raises:
            UserError: this worker is about to train something else than the chief.
        """
        with _watched(self.patience, self.lost), _telling(self.lost):
            own = np.frombuffer(hashlib.sha256(identity.encode()).digest(), np.uint8)
            if not np.array_equal(self.from_chief([own])[0], own):
                raise UserError(
                    f"worker {self.worker} would not train what the chief trains: its crops, "
                    "lists, params, code or packages differ; bring it to the chief's commit, "
                    "`dvc pull`, and install the same versions"
                )
            told = json.dumps(None if kept is None else kept[1]).encode()
            length = int(self.from_chief([np.array([len(told)], np.int64)])[0][0])
            text = np.frombuffer(told.ljust(length, b" ")[:length], np.uint8)
            history = json.loads(self.from_chief([text])[0].tobytes())
            if history is None:
                return None
            variables = state_variables(learning)
            state = self.from_chief([np.asarray(variable) for variable in variables])
            for variable, value in zip(variables, state, strict=True):
                variable.assign(value)
            return self.from_chief(network.get_weights() if kept is None else kept[0]), history

    @property
    def lost(self) -> str:
        """What to say where a worker does not answer any more; empty where there are none."""
        listed = ", ".join(self.peers)
        return f"a worker of {CONFIG} ({listed}) was lost; {AGAIN}" if self.peers else ""


def find_replicas(choice: str, patience: float) -> Replicas | None:
    """The devices that `machine.strategy` names; to be called before anything is computed.

    Args:
        choice: `none`, `mirrored` (all devices of this machine), `multi-worker` (those of all
            workers in TF_CONFIG), or `auto`: multi-worker if TF_CONFIG names several workers,
            mirrored if there are several GPUs, else none.
        patience: see `Replicas`; waiting for the others at the start included.

    Returns:
        None: one device trains.

    Raises:
        UserError: the choice needs several devices or workers, and there are none; or the
            others do not come.
    """
    peers, worker = _workers()
    if choice == "none" or (choice == "auto" and len(peers) < 2 and len(_devices("GPU")) < 2):
        return None
    if choice == "multi-worker" and len(peers) < 2:
        raise UserError(
            f"machine.strategy is multi-worker, but the environment variable {CONFIG} names no "
            "two workers; see docs/scale.md"
        )
    if choice == "multi-worker" or (choice == "auto" and len(peers) > 1):
        missing = f"not all workers of {CONFIG} ({', '.join(peers)}) have come"
        with _watched(patience, missing), _telling(missing):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return Replicas(strategy, peers, worker, patience)
    devices = _devices("GPU") or _devices("CPU")
    if len(devices) < 2:
        raise UserError(
            "machine.strategy is mirrored, but TensorFlow sees one device; use auto or none"
        )
    return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _devices(kind: str) -> list[Any]:
    return list(tf.config.list_logical_devices(kind)) if kind == "CPU" or _has(kind) else []


def _has(kind: str) -> bool:
    return bool(tf.config.get_visible_devices(kind))


def _workers() -> tuple[tuple[str, ...], int]:
    """The addresses in TF_CONFIG, chief first, and the place of this process among them."""
    text = os.environ.get(CONFIG, "").strip()
    if not text:
        return (), 0
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        peers = [str(peer) for role in ("chief", "worker") for peer in cluster.get(role, [])]
        place = int(task.get("index", 0)) + (
            len(cluster.get("chief", [])) if task.get("type", "worker") == "worker" else 0
        )
        if set(cluster) - {"chief", "worker"} or (peers and not 0 <= place < len(peers)):
            raise ValueError("roles must be chief and worker, and task one of them")
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"environment variable {CONFIG}: {error}; it is JSON as in docs/scale.md"
        ) from error
    return tuple(peers), place


def fit(
    replicas: Replicas,
    learner: Learner,
    train: Batches,
    val: Batches,
    started: int,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    steps_at_once: int,
) -> None:
    """Train as `keras.Model.fit` does, with all replicas.

    Args:
        replicas: what the learner was made under the scope of.
        learner: compiled.
        train: its batches are those of all replicas together.
        val: the same, for validation after each epoch.
        started: epochs done already.
        epochs: done at the end, unless a callback stops earlier.
        callbacks: told as by Keras; of batches, once for each execution.
        steps_at_once: steps between two returns to Python.

    Raises:
        UserError: a worker was lost. One that neither answers nor fails ends this process with
            the same error after `replicas.patience` seconds without progress.
    """
    optimizer: Any = learner.optimizer
    getattr(optimizer, "inner_optimizer", optimizer).summed = True
    told = keras.callbacks.CallbackList(list(callbacks), model=learner, epochs=epochs)
    learner.stop_training = False
    with (
        _watched(replicas.patience, replicas.lost) as watch,
        _telling(replicas.lost),
        _as_one(learner.network, learner.augment),
    ):
        training = iter(_distributed(replicas, train, started))
        validation = iter(_distributed(replicas, val, 0))
        # Compiled for each size of images that the learner takes.
        learn = {
            small: _steps(replicas, lambda *data: _learn(learner, *data)) for small in (False, True)
        }
        test = _steps(replicas, lambda *data: _test(learner, *data))
        told.on_train_begin()
        for epoch in range(started, epochs):
            learner.reset_metrics()
            told.on_epoch_begin(epoch)
            step = learn[learner.is_small]
            for first in range(0, len(train), steps_at_once):
                told.on_train_batch_begin(first)
                step(training, tf.constant(min(steps_at_once, len(train) - first)))
                told.on_train_batch_end(first)
                watch.progress()
            logs = _figures(learner)
            learner.reset_metrics()
            told.on_test_begin()
            for first in range(0, len(val), steps_at_once):
                test(validation, tf.constant(min(steps_at_once, len(val) - first)))
                watch.progress()
            figures = _figures(learner)
            told.on_test_end(figures)
            logs |= {f"val_{name}": value for name, value in figures.items()}
            told.on_epoch_end(epoch, logs)
            watch.progress()
            if learner.stop_training:
                break
        learner.optimizer.finalize_variable_values(learner.trainable_weights)
        told.on_train_end()


def _figures(learner: Learner) -> dict[str, float]:
    return {name: float(value) for name, value in learner.get_metrics_result().items()}


def _distributed(replicas: Replicas, batches: Batches, epoch: int) -> Any:
    """Shares of batches, without end: for each step one of each replica of this worker."""
    shape, dtype = batches.inputs.shape[1:], tf.as_dtype(batches.inputs.dtype)
    labels = {task: tf.TensorSpec((None,), tf.int64) for task in batches.labels}
    number = tf.TensorSpec((), tf.float32)
    signature = (tf.TensorSpec((None, *shape), dtype), labels, number, number)

    def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = replicas.number // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def epochs() -> Iterator[Any]:
            own = copy.copy(batches)  # which is dealt ahead of the one that callbacks see
            for number in itertools.count(epoch):
                own.set_epoch(number)
                for index in range(len(own)):
                    size = own.size(index)
                    weight = 1.0 if size >= replicas.number else 1 / replicas.number
                    for replica in range(first, first + here):
                        yield (*own.part(index, replica, replicas.number), size, weight)

        dataset = tf.data.Dataset.from_generator(epochs, output_signature=signature)
        # Known to have no end, so that no replica has to ask the others whether it has come.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return dataset.apply(endless).prefetch(2 * here)

    return replicas.strategy.distribute_datasets_from_function(shares)


def _steps(replicas: Replicas, step: Any) -> Any:
    def run(iterator: Any, number: tf.Tensor) -> None:
        for _ in tf.range(number):
            replicas.strategy.run(step, args=next(iterator))

    return tf.function(run)


def _learn(learner: Learner, inputs: Any, labels: Any, number: Any, weight: Any) -> None:
    """One replica's part of a step on `number` examples, of which each has a weight here."""
    optimizer, variables = learner.optimizer, learner.trainable_weights
    with tf.GradientTape() as tape:
        mean, counted = _mean_loss(learner, inputs, labels, weight, training=True)
        loss = optimizer.scale_loss(mean * counted / number)
    found = list(zip(tape.gradient(loss, variables), variables, strict=True))
    found = [(tf.convert_to_tensor(g), v) for g, v in found if g is not None]
    gradients = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, [gradient for gradient, _ in found]
    )
    optimizer.apply(gradients, [variable for _, variable in found])


def _test(learner: Learner, inputs: Any, labels: Any, _: Any, weight: Any) -> None:
    _mean_loss(learner, inputs, labels, weight, training=False)


def _mean_loss(
    learner: Learner, inputs: Any, labels: Any, weight: Any, training: bool
) -> tuple[Any, Any]:
    """The mean of a part's examples, and how many of the batch they count for."""
    outputs = learner(inputs, training=training)
    mean = learner.compute_loss(y=labels, y_pred=outputs, sample_weight=weight)
    counted = ops.cast(ops.shape(inputs)[0], "float32") * weight
    figure = next(figure for figure in learner.metrics if figure.name == "loss")
    figure.update_state(mean, sample_weight=counted)
    return mean, counted


def normalises(*parts: keras.Layer) -> bool:
    """Whether batch normalisation learns in any of these networks."""
    return any(layer.trainable for layer in _norms(parts))


@contextmanager
def _as_one(*parts: keras.Layer | None) -> Iterator[None]:
    """Let layers count over all replicas where they normalise, and draw apart where by chance."""
    present = [part for part in parts if part is not None]
    layers, norms = [layer for part in present for layer in _flat(part)], _norms(present)
    generators = {
        id(generator): generator
        for layer in layers
        for generator in vars(layer).values()
        if isinstance(generator, keras.random.SeedGenerator)
    }.values()
    for layer in norms:
        layer.synchronized = layer.trainable  # what is frozen has its moments already
    for generator in generators:
        generator.next = _apart(generator.next)
    try:
        yield
    finally:
        for layer in norms:
            layer.synchronized = False
        for generator in generators:
            del generator.next


def _norms(parts: Iterable[keras.Layer]) -> list[keras.layers.BatchNormalization]:
    layers = [layer for part in parts for layer in _flat(part)]
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def _flat(layer: keras.Layer) -> list[keras.Layer]:
    return list(layer._flatten_layers())


def _apart(following: Any) -> Any:
    def call(ordered: bool = True) -> Any:
        seed = following(ordered)
        context = tf.distribute.get_replica_context()
        number = 0 if context is None else context.replica_id_in_sync_group
        # The second half counts draws, by one each; the first is the seed.
        return seed + ops.stack([ops.cast(number, seed.dtype) * 1_000_003, ops.cast(0, seed.dtype)])

    return call


@contextmanager
def _telling(lost: str) -> Iterator[None]:
    """Turn TensorFlow's errors of lost peers into one that is meant to be read."""
    try:
        yield
    except _LOST as error:
        if not lost:
            raise
        raise UserError(f"{lost} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    text = getattr(error, "message", "") or str(error)
    return text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__


class _Watch:
    """Ends this process where there is no progress, from a process of its own.

    A thread would not do: while TensorFlow waits for its peers at the start, it holds Python's
    lock. The one error goes to stderr; the exit status is that of a killed process.
    """

    def __init__(self, patience: float, lost: str) -> None:
        self.process = None
        if patience:
            words = f"error: {lost} (silent for {patience:g} s)\n"
            command = [sys.executable, "-c", _WATCH, str(patience), str(os.getpid()), words]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def progress(self) -> None:
        """Something was done just now."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.write(b".")
            self.process.stdin.flush()

    def end(self) -> None:
        """Watch no more."""
        if self.process is not None:
            self.process.communicate()


@contextmanager
def _watched(patience: float, lost: str) -> Iterator[_Watch]:
    watch = _Watch(patience, lost)
    try:
        yield watch
    finally:
        watch.end()
