"""The loss: one for each task, and their weighted sum.

- Cross-entropy on the classes, optionally smoothed (Szegedy et al. 2016,
  https://arxiv.org/abs/1512.00567) and weighted by class.
- Where the network tells the age in years, the divergence of its distribution from a normal
  one around the true age is added: label distribution learning, Gao et al. 2017,
  https://arxiv.org/abs/1611.01731.
- Tasks are weighted by fixed numbers.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from stages.networks.heads import AGE_YEARS
from stages.networks.network import at_size

FIRST_YEAR = 1

_EPSILON = 1e-7  # keeps a logarithm finite, as in Keras's own losses


class Objective(keras.Layer):
    """The loss of a batch from labels and outputs by task.

    Args:
        classes: number of classes by task.
        task_weights: by task, >= 0.
        label_smoothing: share of the label spread over all classes, by task, in [0, 1).
        class_weights: by task, float (classes,), mean 1 over the examples; None: all 1.
        age_sigma: standard deviation of the label distribution over the years, > 0.
    """

    def __init__(
        self,
        classes: Mapping[str, int],
        task_weights: Mapping[str, float],
        label_smoothing: Mapping[str, float],
        class_weights: Mapping[str, npt.NDArray[np.float64]] | None,
        age_sigma: float,
    ) -> None:
        super().__init__(dtype="float32", name="objective")
        self.classes = dict(classes)
        self.weights_of_tasks = {task: float(task_weights[task]) for task in classes}
        self.smoothing = {task: float(label_smoothing[task]) for task in classes}
        self.by_class = class_weights
        self.age_sigma = age_sigma

    def call(
        self, labels: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The weighted sum over the tasks, and each task's own mean loss in nats."""
        losses = {task: self._of_task(task, labels, outputs) for task in self.classes}
        total = 0.0
        for task, loss in losses.items():
            total += self.weights_of_tasks[task] * loss
        return total, losses

    def _of_task(self, task: str, labels: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
        number, smoothing = self.classes[task], self.smoothing[task]
        wanted = ops.one_hot(labels[task], number, dtype="float32")
        loss = _cross_entropy(wanted * (1 - smoothing) + smoothing / number, outputs[task])
        if self.by_class is not None:
            loss = loss * ops.take(
                ops.convert_to_tensor(self.by_class[task], "float32"), labels[task]
            )
        if task == "age" and AGE_YEARS in outputs:
            years = outputs[AGE_YEARS]
            around = self._years(labels[AGE_YEARS], int(years.shape[-1]))
            # The divergence: its smallest value is 0, whatever the spread of the labels.
            loss = loss + _cross_entropy(around, years) - _cross_entropy(around, around)
        return ops.mean(loss)

    def _years(self, ages: Any, number: int) -> Any:
        years = ops.arange(FIRST_YEAR, FIRST_YEAR + number, dtype="float32")
        distance = years[None, :] - ops.cast(ages, "float32")[:, None]
        return ops.softmax(-ops.square(distance / self.age_sigma) / 2)


class Learner(keras.Model):
    """A network in training: augmentation before it, the objective after it.

    Neither is part of the saved network.

    Args:
        network: images or features to outputs by task.
        objective: of its outputs.
        augment: from a batch of images to one of the same kind, at training only.
        xla: compile the network's steps by XLA, https://openxla.org/xla; not the augmentation,
            which has operations that XLA lacks.
        store: images or features (N, ...) that are put on the device once; inputs are then rows
            of it (batch). None: inputs are the images or features themselves.
        progressive_size: side of the images after `take_small(True)`, in pixels; 0: it
            always takes them as they are.
    """

    def __init__(
        self,
        network: keras.Model,
        objective: Objective,
        augment: keras.Layer | None,
        xla: bool = False,
        store: npt.NDArray[Any] | None = None,
        progressive_size: int = 0,
    ) -> None:
        super().__init__(name="learner")
        self.network, self.objective, self.augment = network, objective, augment
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

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """The network's outputs by task."""
        if self.store is not None:
            inputs = tf.gather(self.store, inputs)
        if training and self.augment is not None:
            inputs = self.augment(inputs, training=True)
        if training and self.is_small:
            return self.forward_small(_resized(inputs, self.progressive_size), training=True)
        return self.forward(inputs, training=training)

    def take_small(self, small: bool) -> None:
        """Train on small images, or on images of full size, from the next step on."""
        if small != self.is_small:
            self.is_small = small
            self.make_train_function(force=True)  # it was compiled for the others

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
            number, weights = ops.shape(y[task])[0], None
            if sample_weight is not None:
                weights = sample_weight * ops.ones_like(y[task], dtype="float32")
                number = ops.sum(weights)
            self.figures[f"{task}_loss"].update_state(loss, sample_weight=number)
            self.figures[f"{task}_accuracy"].update_state(y[task], y_pred[task], weights)
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


def expected_years(probabilities: Any) -> Any:
    """The mean of distributions over the years (batch, years): the expected age (batch,)."""
    number = int(probabilities.shape[-1])
    years = ops.arange(FIRST_YEAR, FIRST_YEAR + number, dtype="float32")
    return ops.sum(ops.cast(probabilities, "float32") * years, axis=-1)


def balanced_class_weights(
    labels: Mapping[str, npt.NDArray[np.int64]], classes: Mapping[str, int]
) -> dict[str, npt.NDArray[np.float64]]:
    """Weights inverse to the classes' frequencies, mean 1 over the examples.

    As in scikit-learn's `class_weight="balanced"`; a class without an example has weight 0.
    """
    weights = {}
    for task, number in classes.items():
        counts = np.bincount(labels[task], minlength=number)
        share = counts.sum() / np.count_nonzero(counts)
        weights[task] = np.divide(share, counts, out=np.zeros(number), where=counts > 0)
    return weights


def sampling_probabilities(
    labels: Mapping[str, npt.NDArray[np.int64]], classes: Mapping[str, int]
) -> npt.NDArray[np.float64]:
    """The chance of each example (N, sum 1): the mean of its balanced weights over the tasks."""
    weights = balanced_class_weights(labels, classes)
    mean = np.mean([weights[task][labels[task]] for task in classes], axis=0)
    return mean / mean.sum()


def _cross_entropy(wanted: Any, probabilities: Any) -> Any:
    """Of each example (batch,), in nats, in float32."""
    clipped = ops.clip(ops.cast(probabilities, "float32"), _EPSILON, 1.0)
    return -ops.sum(wanted * ops.log(clipped), axis=-1)
