"""MixUp: training on mixtures of two images and of their labels."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


class MixUp(keras.Layer):
    """Zhang et al. 2018, https://arxiv.org/abs/1710.09412: each example is mixed with another.

    `alpha` > 0 is the parameter of the Beta distribution that the shares are drawn from, by `seed`;
    the own share is the larger one.
    """

    def __init__(self, alpha: float, seed: int) -> None:
        super().__init__(dtype="float32", name="mixup")
        self.alpha = alpha
        self.draws = keras.random.SeedGenerator(seed)
        self.built = True  # it has nothing to learn

    def call(self, inputs: Any, labels: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Mixed inputs (batch, ...) of the same dtype, and labels, float (batch,) or (batch, n).

        Batches are in random order, so that the last example is as good a partner of the first as
        any other.
        """
        number = ops.shape(inputs)[0]
        share = keras.random.beta((number,), self.alpha, self.alpha, seed=self.draws)
        share = ops.maximum(share, 1 - share)

        def mixed(values: Any) -> Any:
            own = ops.reshape(share, (-1, *[1] * (len(values.shape) - 1)))
            values = ops.cast(values, "float32")
            return own * values + (1 - own) * ops.flip(values, axis=0)

        outcome = mixed(inputs)
        if inputs.dtype == "uint8":
            outcome = ops.round(outcome)
        return ops.cast(outcome, inputs.dtype), {name: mixed(v) for name, v in labels.items()}
