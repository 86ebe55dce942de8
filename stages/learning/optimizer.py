"""The optimizer: Adam or AdamW with a schedule of the learning rate."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from stages.core.variants import Training

# Shifts and scales have no reason to be small. A pattern of names.
_NOT_DECAYED = r"^(?!.*kernel)"


def build_optimizer(training: Training, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Make the optimizer of a training.

    Adam; with `weight_decay` AdamW, Loshchilov and Hutter 2019,
    https://arxiv.org/abs/1711.05101, on kernels only.

    Args:
        training: the settings.
        steps_per_epoch: batches an epoch.
    """
    steps = np.arange(steps_per_epoch * training.epochs)
    rates = [learning_rate(training, step / steps_per_epoch) for step in steps]
    optimizer = Adam(
        learning_rate=_Schedule(np.array(rates)),
        clipnorm=training.clipnorm or None,
        weight_decay=training.weight_decay or None,
        use_ema=training.weight_average > 0,
        ema_momentum=training.weight_average,
        name="adam",
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


class Adam(keras.optimizers.Adam):
    """Adam with a moving average of the weights that is right from its first step on.

    Keras's average starts at the weights of the first step, which then count for as much as all
    that follow. Divided by 1 - momentum^t, as Adam's moments are (Kingma and Ba 2015,
    https://arxiv.org/abs/1412.6980, section 3), it weighs the steps alone.
    """

    @property
    def ema_momentum(self) -> Any:
        """The momentum of this step, with which Keras's update gives the corrected average."""
        done = ops.cast(self.iterations, "float32")
        before, now = (1 - ops.power(self._momentum, steps) for steps in (done, done + 1))
        return self._momentum * before / now

    @ema_momentum.setter
    def ema_momentum(self, momentum: float) -> None:
        self._momentum = momentum

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's update of one variable, as one operation where one device has it."""
        if tf.distribute.has_strategy():
            super().update_step(gradient, variable, learning_rate)
            return
        steps = ops.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.value.handle,
            v=second.value.handle,
            beta1_power=ops.power(ops.cast(self.beta_1, variable.dtype), steps),
            beta2_power=ops.power(ops.cast(self.beta_2, variable.dtype), steps),
            lr=ops.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=ops.cast(gradient, variable.dtype),
        )


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step, worked out beforehand."""

    def __init__(self, rates: Any) -> None:
        self.rates = rates.astype(np.float32)

    def __call__(self, step: Any) -> Any:
        last = len(self.rates) - 1
        return ops.take(self.rates, ops.minimum(ops.cast(step, "int32"), last))
