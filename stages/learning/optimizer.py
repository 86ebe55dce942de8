"""The optimiser: Adam with a course of the learning rate, and rates that differ by depth."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

# Shifts, scales and learnt task weights have no reason to be small. A pattern of names.
_NOT_DECAYED = r"^(?!.*kernel)"


def build_optimizer(
    network: keras.Model,
    rate: Callable[[float], float],
    steps_per_epoch: int,
    epochs: int,
    clipnorm: float,
    weight_decay: float,
    layer_decay: float,
    average: float,
) -> keras.optimizers.Optimizer:
    """Make the optimiser of a network.

    Args:
        network: what learns.
        rate: the learning rate by epochs done, a fraction within an epoch.
        steps_per_epoch: batches an epoch.
        epochs: the most that will be run.
        clipnorm: largest norm of each weight's gradient; 0: no clipping.
        weight_decay: decoupled, of kernels only: AdamW, Loshchilov and Hutter 2019,
            https://arxiv.org/abs/1711.05101; 0: Adam.
        layer_decay: factor of the rate from each block of the backbone to the one below it;
            heads have the full rate (Clark et al. 2020, https://arxiv.org/abs/2003.10555).
        average: momentum of the moving average of the weights; 0: none.
    """
    steps = np.arange(steps_per_epoch * epochs)
    optimizer = _DepthwiseAdam(
        depth_factors(network, layer_decay) if layer_decay < 1 else {},
        learning_rate=_Schedule(np.array([rate(step / steps_per_epoch) for step in steps])),
        clipnorm=clipnorm or None,
        weight_decay=weight_decay or None,
        use_ema=average > 0,
        ema_momentum=average or None,
        name="adam",  # by the class's name, which TensorFlow refuses as a scope
    )
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=[_NOT_DECAYED])
    return optimizer


def depth_factors(network: keras.Model, decay: float) -> dict[str, float]:
    """The factor of each weight's rate, by its path: decay to the power of its block's depth.

    Blocks are told by the layers' names up to the first `_` (`block5_conv1`, `conv5_block1`);
    the one before the pooled features is of depth 1, what follows them of depth 0.
    """
    names = [layer.name for layer in network.layers]
    top = names.index("pooled") if "pooled" in names else 0
    weighted = [layer for layer in network.layers[:top] if layer.trainable_weights]
    blocks = list(dict.fromkeys(layer.name.split("_")[0] for layer in reversed(weighted)))
    return {
        variable.path: decay ** (1 + blocks.index(layer.name.split("_")[0]))
        for layer in weighted
        for variable in layer.trainable_weights
    }


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
