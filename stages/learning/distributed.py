"""The training loop of several devices: what `keras.Model.fit` does, with all replicas.

What is learnt is what one device learns from the same batches, up to rounding:

- The replicas divide a batch; unequal parts count by their examples. A last batch of fewer
  examples than replicas goes to all of them, and counts as one: oneDNN's convolutions of no images
  have wrong shapes.
- Gradients are summed over the replicas and then clipped.
- Batch normalisation takes the moments of the whole batch.
- Only dropout and augmentation draw other numbers, those of each replica apart.

Keras's own `fit` clips each replica's gradients before it sums them, weights unequal parts alike,
and cannot reduce its figures over several workers (Keras 3.15); hence the loop here.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from stages.learning.batches import Batches
from stages.learning.objective import Learner
from stages.learning.replicas import Replicas


def fit_distributed(
    replicas: Replicas,
    learner: Learner,
    train: Batches,
    val: Batches,
    epochs: range,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train with all replicas a compiled learner that was made under their scope.

    The batches of `train` and `val` are those of all replicas together. Callbacks are called as by
    Keras, for batches once for each execution of `steps_per_execution`. Raises UserError if a
    worker was lost; one that does not answer ends this process with the same error.
    """
    notify = keras.callbacks.CallbackList(list(callbacks), model=learner, epochs=epochs.stop)
    learner.stop_training = False
    with (
        replicas.watched() as progress,
        _as_one(learner.network, learner.augment, learner.mixup),
        _clips_mean(learner.optimizer, replicas.number),
    ):
        training = iter(_distributed(replicas, train, epochs.start))
        validation = iter(_distributed(replicas, val, 0))
        # Compiled for each size of images that the learner takes.
        learn, test = (
            {small: _steps(replicas, partial(step, learner)) for small in (False, True)}
            for step in (_learn, _mean_loss)
        )
        notify.on_train_begin()
        for epoch in epochs:
            learner.reset_metrics()
            notify.on_epoch_begin(epoch)
            for first, number in _executions(train, learner):
                notify.on_train_batch_begin(first)
                learn[learner.is_small](training, number)
                notify.on_train_batch_end(first)
                progress()
            logs = _figures(learner)
            learner.reset_metrics()
            notify.on_test_begin()
            for _, number in _executions(val, learner):
                test[learner.is_small](validation, number)
                progress()
            figures = _figures(learner)
            notify.on_test_end(figures)
            logs |= {f"val_{name}": value for name, value in figures.items()}
            notify.on_epoch_end(epoch, logs)
            progress()
            if learner.stop_training:
                break
        learner.optimizer.finalize_variable_values(learner.trainable_weights)
        notify.on_train_end()


@contextmanager
def _clips_mean(optimizer: Any, replicas: int) -> Iterator[None]:
    """Clip the mean over the replicas as much as the sum is to be clipped."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    clipnorm = optimizer.clipnorm
    optimizer.clipnorm = clipnorm and clipnorm / replicas
    try:
        yield
    finally:
        optimizer.clipnorm = clipnorm


def _executions(batches: Batches, learner: Learner) -> Iterator[tuple[int, tf.Tensor]]:
    at_once = learner.steps_per_execution
    for first in range(0, len(batches), at_once):
        yield first, tf.constant(min(at_once, len(batches) - first))


def _figures(learner: Learner) -> dict[str, float]:
    return {name: float(value) for name, value in learner.get_metrics_result().items()}


def _distributed(replicas: Replicas, batches: Batches, epoch: int) -> Any:
    """Shares of batches, without end: for each step one of each replica of this worker."""
    shape, dtype = batches.inputs.shape[1:], tf.as_dtype(batches.inputs.dtype)
    labels = {
        task: tf.TensorSpec((None, *values.shape[1:]), tf.as_dtype(values.dtype))
        for task, values in batches.labels.items()
    }
    number = tf.TensorSpec((), tf.float32)
    signature = (tf.TensorSpec((None, *shape), dtype), labels, number, number)

    def shares(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = replicas.number // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def epochs() -> Iterator[Any]:
            own = copy.copy(batches)  # which runs ahead of the one that callbacks see
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
    inputs, labels = learner.mixed(inputs, labels)
    with tf.GradientTape() as tape:
        mean, counted = _mean_loss(learner, inputs, labels, number, weight, training=True)
        loss = optimizer.scale_loss(mean * counted / number)
    pairs = zip(tape.gradient(loss, variables), variables, strict=True)
    learning = [(tf.convert_to_tensor(g), v) for g, v in pairs if g is not None]
    # The mean on every replica, of which Keras's optimizer takes the sum.
    gradients = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.MEAN, [gradient for gradient, _ in learning]
    )
    optimizer.apply(gradients, [variable for _, variable in learning])


def _mean_loss(
    learner: Learner, inputs: Any, labels: Any, _: Any, weight: Any, training: bool = False
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
    norm = keras.layers.BatchNormalization
    return any(layer.trainable and isinstance(layer, norm) for layer in _flat(parts))


@contextmanager
def _as_one(*parts: keras.Layer | None) -> Iterator[None]:
    """Let layers count over all replicas where they normalise, and draw apart where by chance."""
    layers = _flat(part for part in parts if part is not None)
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    values = {id(value): value for layer in layers for value in vars(layer).values()}.values()
    generators = [value for value in values if isinstance(value, keras.random.SeedGenerator)]
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


def _flat(parts: Iterable[keras.Layer]) -> list[keras.Layer]:
    return [layer for part in parts for layer in part._flatten_layers()]


def _apart(following: Any) -> Any:
    def call(ordered: bool = True) -> Any:
        seed = following(ordered)
        context = tf.distribute.get_replica_context()
        number = 0 if context is None else context.replica_id_in_sync_group
        # The second half counts draws, by one each; the first is the seed.
        return seed + ops.stack([ops.cast(number, seed.dtype) * 1_000_003, ops.cast(0, seed.dtype)])

    return call
