"""The loss: one for each task, and their weighted sum.

- Cross-entropy on the classes, optionally smoothed (Szegedy et al. 2016,
  https://arxiv.org/abs/1512.00567) and weighted by class.
- Where the network gives a distribution over the years of age, its divergence from a normal one
  around the true age is added, and optionally the error of its mean: label distribution learning
  and expectation regression, Gao et al. 2018, https://arxiv.org/abs/1807.09458.
- Tasks are weighted by fixed numbers.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from stages.learning.batches import Labels
from stages.networks.heads import AGE_YEARS
from stages.networks.network import at_size

FIRST_YEAR = 1
AGE_DISTRIBUTION = "age_distribution"  # soft labels have it beside the ages

_EPSILON = 1e-7  # keeps a logarithm finite, as in Keras's own losses


class Objective(keras.Layer):
    """The loss of a batch from labels and outputs by task.

    Args:
        classes: number of classes by task.
        loss_weights: by task, >= 0.
        label_smoothing: share of the label spread over all classes, by task, in [0, 1).
        class_weights: by task, float (classes,), mean 1 over the examples; None: all 1.
        age_sigma: standard deviation of the label distribution over the years, > 0.
        age_error_weight: of the absolute error of the expected age, per year, >= 0.
    """

    def __init__(
        self,
        classes: Mapping[str, int],
        loss_weights: Mapping[str, float],
        label_smoothing: Mapping[str, float],
        class_weights: Mapping[str, npt.NDArray[np.float64]] | None,
        age_sigma: float,
        age_error_weight: float = 0.0,
    ) -> None:
        super().__init__(dtype="float32", name="objective")
        self.classes = dict(classes)
        self.loss_weights = {task: float(loss_weights[task]) for task in classes}
        self.smoothing = {task: float(label_smoothing[task]) for task in classes}
        self.by_class = class_weights
        self.age_sigma, self.age_error_weight = age_sigma, age_error_weight

    def call(
        self, labels: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The weighted sum over the tasks, and each task's own mean loss in nats.

        Labels are class indices (batch,) or distributions (batch, classes), ages (batch,), and
        optionally their distributions (batch, years).
        """
        labels = self.distributions(labels, outputs)
        losses = {task: self._of_task(task, labels, outputs) for task in self.classes}
        total = 0.0
        for task, loss in losses.items():
            total += self.loss_weights[task] * loss
        return total, losses

    def distributions(
        self, labels: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Labels as distributions; of ages too, over as many years as the outputs have."""
        soft = {name: ops.convert_to_tensor(values) for name, values in labels.items()}
        for task, number in self.classes.items():
            if len(soft[task].shape) == 1:
                soft[task] = ops.one_hot(soft[task], number, dtype="float32")
        if AGE_YEARS in outputs and AGE_DISTRIBUTION not in soft:
            years = int(outputs[AGE_YEARS].shape[-1])
            soft[AGE_DISTRIBUTION] = label_distribution(soft[AGE_YEARS], years, self.age_sigma)
        return soft

    def _of_task(self, task: str, labels: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
        number, smoothing = self.classes[task], self.smoothing[task]
        wanted = labels[task]
        loss = _cross_entropy(wanted * (1 - smoothing) + smoothing / number, outputs[task])
        if self.by_class is not None:
            by_class = ops.convert_to_tensor(self.by_class[task], "float32")
            loss = loss * ops.sum(wanted * by_class, axis=-1)
        if task == "age" and AGE_YEARS in outputs:
            years = outputs[AGE_YEARS]
            around = labels[AGE_DISTRIBUTION]
            # The divergence: its smallest value is 0, whatever the spread of the labels.
            loss = loss + _cross_entropy(around, years) - _cross_entropy(around, around)
            if self.age_error_weight:
                ages = ops.cast(labels[AGE_YEARS], "float32")
                loss = loss + self.age_error_weight * ops.abs(expected_years(years) - ages)
        return ops.mean(loss)


class Learner(keras.Model):
    """A network in training: augmentation before it, the objective after it.

    Neither is part of the saved network.

    Args:
        network: images or features to outputs by task.
        objective: of its outputs.
        augment: from a batch of images to one of the same kind, at training only.
        mixup: from a batch and its labels to mixtures of them, before `augment`; None: none.
        xla: compile the network's steps by XLA, https://openxla.org/xla; not the augmentation,
            which has operations that XLA lacks.
        store: images or features (N, ...) that are put on the device once; inputs are then rows
            of it (batch). None: inputs are the images or features themselves.
        progressive_size: side in pixels to which images are resized after `take_small(True)`;
            0: they never are.
    """

    def __init__(
        self,
        network: keras.Model,
        objective: Objective,
        augment: keras.Layer | None,
        mixup: keras.Layer | None = None,
        xla: bool = False,
        store: npt.NDArray[Any] | None = None,
        progressive_size: int = 0,
    ) -> None:
        super().__init__(name="learner")
        self.network, self.objective = network, objective
        self.augment, self.mixup = augment, mixup
        # A variable: TensorFlow gathers rows of bytes on a GPU from variables only.
        self.store = None if store is None else tf.Variable(store, trainable=False)
        self.progressive_size, self.is_small = progressive_size, False
        small = network if not progressive_size else at_size(network, progressive_size)
        self.forward, self.forward_small = (
            tf.function(part, jit_compile=True) if xla else part for part in (network, small)
        )
        self.figures = {
            f"{task}_loss": keras.metrics.Mean(f"{task}_loss") for task in objective.classes
        }
        self.figures |= {
            f"{task}_accuracy": keras.metrics.SparseCategoricalAccuracy(f"{task}_accuracy")
            for task in objective.classes
        }
        if AGE_YEARS in network.output:
            self.figures["age_mae"] = keras.metrics.MeanAbsoluteError("age_mae")
        self.built = True  # its parts are

    def train_step(self, data: Any) -> Any:
        """As Keras's, on mixtures if they are wanted."""
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        return super().train_step((*self.mixed(inputs, labels), weights))

    def mixed(self, inputs: Any, labels: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
        """The mixtures of a batch; the batch itself without MixUp."""
        if self.mixup is None:
            return inputs, labels
        labels = self.objective.distributions(labels, self.network.output)
        mixtures: tuple[Any, Mapping[str, Any]] = self.mixup(self._taken(inputs), labels)
        return mixtures

    def _taken(self, inputs: Any) -> Any:
        """Images or features, where rows of the store are given."""
        is_row = self.store is not None and len(inputs.shape) == 1
        return tf.gather(self.store, inputs) if is_row else inputs

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """The network's outputs by task."""
        inputs = self._taken(inputs)
        if training and self.augment is not None:
            inputs = self.augment(inputs, training=True)
        if self.is_small:
            return self.forward_small(_resized(inputs, self.progressive_size), training=training)
        return self.forward(inputs, training=training)

    def take_small(self, small: bool) -> None:
        """Learn from and be validated on small images, or images of full size, from now on."""
        if small != self.is_small:
            self.is_small = small
            self.make_train_function(force=True)  # it was compiled for the others
            self.make_test_function(force=True)

    def compute_loss(
        self,
        x: Any = None,  # noqa: ARG002 - the signature is Keras's
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,  # noqa: ARG002
    ) -> Any:
        """The objective's value; also updates the metrics of the tasks.

        `sample_weight` () is the weight of an example in the metrics, where a replica has a part
        of a batch; the value is the mean of that part.
        """
        total, losses = self.objective(y, y_pred)
        for task, loss in losses.items():
            true = y[task] if len(y[task].shape) == 1 else ops.argmax(y[task], axis=-1)
            number, weights = ops.shape(true)[0], None
            if sample_weight is not None:
                weights = sample_weight * ops.ones_like(true, dtype="float32")
                number = ops.sum(weights)
            self.figures[f"{task}_loss"].update_state(loss, sample_weight=number)
            self.figures[f"{task}_accuracy"].update_state(true, y_pred[task], weights)
        if AGE_YEARS in y_pred:
            years, expected = y[AGE_YEARS], expected_years(y_pred[AGE_YEARS])
            if sample_weight is not None:  # a row each: else Keras counts a part as one value
                years, expected = years[:, None], expected[:, None]
            self.figures["age_mae"].update_state(years, expected, weights)
        return total


def _resized(images: Any, size: int) -> Any:
    """Images (batch, height, width, 3) of another size, uint8 like real ones."""
    pixels = ops.image.resize(ops.cast(images, "float32"), (size, size), antialias=True)
    return ops.cast(ops.clip(ops.round(pixels), 0, 255), "uint8")


def label_distribution(ages: Any, years: int, sigma: float) -> Any:
    """A normal distribution around each age (batch,): float32 (batch, years), rows summing to 1."""
    grid = ops.arange(FIRST_YEAR, FIRST_YEAR + years, dtype="float32")
    distance = grid[None, :] - ops.cast(ages, "float32")[:, None]
    return ops.softmax(-ops.square(distance / sigma) / 2)


def expected_years(probabilities: Any) -> Any:
    """The mean of distributions over the years (batch, years): the expected age (batch,)."""
    number = int(probabilities.shape[-1])
    years = ops.arange(FIRST_YEAR, FIRST_YEAR + number, dtype="float32")
    return ops.sum(ops.cast(probabilities, "float32") * years, axis=-1)


def balanced_class_weights(
    labels: Labels, classes: Mapping[str, int]
) -> dict[str, npt.NDArray[np.float64]]:
    """Weights inverse to the classes' frequencies, mean 1 over the examples.

    `labels` are class indices (N) or distributions (N, classes) by task. As in scikit-learn's
    `class_weight="balanced"`; a class without an example has weight 0.
    """
    weights = {}
    for task, number in classes.items():
        values = labels[task]
        counts = values.sum(0) if values.ndim == 2 else np.bincount(values, minlength=number)
        share = counts.sum() / np.count_nonzero(counts)
        weights[task] = np.divide(share, counts, out=np.zeros(number), where=counts > 0)
    return weights


def sampling_probabilities(labels: Labels, classes: Mapping[str, int]) -> npt.NDArray[np.float64]:
    """The chance of each example (N, sum 1): the mean of its balanced weights over the tasks."""
    weights = balanced_class_weights(labels, classes)
    of_tasks = [
        labels[task] @ weights[task] if labels[task].ndim == 2 else weights[task][labels[task]]
        for task in classes
    ]
    mean = np.mean(of_tasks, axis=0)
    return mean / mean.sum()


def _cross_entropy(wanted: Any, probabilities: Any) -> Any:
    """Of each example (batch,), in nats, in float32."""
    clipped = ops.clip(ops.cast(probabilities, "float32"), _EPSILON, 1.0)
    return -ops.sum(wanted * ops.log(clipped), axis=-1)
