"""The optimiser: Adam with a course of the learning rate, and rates that differ by depth."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stages.core.variants import Training

# Shifts, scales and learnt task weights have no reason to be small. A pattern of names.
_NOT_DECAYED = r"^(?!.*kernel)"


def build_optimizer(
    network: keras.Model, training: Training, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Make the optimizer of a network.

    Adam; with `weight_decay` AdamW, Loshchilov and Hutter 2019,
    https://arxiv.org/abs/1711.05101, on kernels only.

    Args:
        network: what learns.
        training: the settings.
        steps_per_epoch: batches an epoch.
    """
    del network
    steps = np.arange(steps_per_epoch * training.epochs)
    rates = [learning_rate(training, step / steps_per_epoch) for step in steps]
    optimizer = _DepthwiseAdam(
        {},
        learning_rate=_Schedule(np.array(rates)),
        clipnorm=training.clipnorm or None,
        weight_decay=training.weight_decay or None,
        use_ema=training.weight_average > 0,
        ema_momentum=training.weight_average or None,
        name="adam",  # by the class's name, which TensorFlow refuses as a scope
    )
    if training.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=[_NOT_DECAYED])
    return optimizer


def learning_rate(training: Training, epoch: float) -> float:
    """The learning rate when `epoch` epochs are done, a fraction within an epoch."""
    highest = training.learning_rate
    if epoch < training.warmup_epochs:
        return highest * epoch / training.warmup_epochs
    if training.schedule == "cosine":
        length = max(training.epochs - training.warmup_epochs, 1e-9)
        done = min((epoch - training.warmup_epochs) / length, 1.0)
        return highest * (1 + math.cos(math.pi * done)) / 2
    falls = max(0, math.floor(epoch) - training.constant_epochs + 1)
    return highest * math.exp(-training.decay * falls)


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step, worked out beforehand."""

    def __init__(self, rates: Any) -> None:
        self.rates = rates.astype(np.float32)

    def __call__(self, step: Any) -> Any:
        last = len(self.rates) - 1
        return ops.take(self.rates, ops.minimum(ops.cast(step, "int32"), last))


class _DepthwiseAdam(keras.optimizers.Adam):
    """Adam whose step of some weights is smaller: scaling their gradients would do nothing.

    Otherwise Keras's Adam, up to rounding.
    """

    weight_decay: float | None

    def __init__(self, factors: dict[str, float], **settings: Any) -> None:
        super().__init__(**settings)
        self._factors = factors
        self.summed = False  # True: gradients come summed over all replicas, as they are clipped

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        pairs = list(grads_and_vars)
        return pairs if self.summed else super()._all_reduce_sum_gradients(pairs)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one weight, by TensorFlow's kernel for all of Adam: Keras's has nine, each of
        which goes through the weights and their moments again.
        """
        index = self._get_variable_index(variable)
        weight = self._trainable_variables[index]
        dtype = variable.dtype
        rate = tf.cast(learning_rate * self._factors.get(weight.path, 1.0), dtype)
        if self.weight_decay and self._use_weight_decay(weight):
            variable.assign_sub(variable * tf.cast(self.weight_decay, dtype) * rate)
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.cast(self.beta_1, dtype) ** step,
            beta2_power=tf.cast(self.beta_2, dtype) ** step,
            lr=rate,
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )

    def _apply_weight_decay(self, variables: Any) -> None:
        # In `update_step`: Keras's takes one rate for all weights, the highest.
        del variables
