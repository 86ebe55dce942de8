"""Augmentation: training images changed at random, anew at each pass.

Keras's layers, run inside the training step, so that they run where the network runs. Each
image gets its own change. What comes out is uint8 again, as real images are.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers, ops

_RANGE = (0.0, 1.0)  # of the pixels inside; Keras's saturation is wrong in 0..255


class Augmentation(keras.Layer):
    """Random changes of uint8 RGB images (batch, height, width, 3); none at inference.

    Args:
        settings: `flip` (bool: mirrored with chance 1/2), `rotation` (to +- degrees), `shift`
            and `zoom` (to +- a share of the side), `brightness` (to +- a share of the range),
            `contrast` and `saturation` (factors to 1 +- that), `hue` (to +- a share of the
            circle). 0 or false: not at all.
        seed: of all changes.
    """

    def __init__(self, settings: Mapping[str, Any], seed: int) -> None:
        super().__init__(dtype="float32", name="augmentation")
        self.steps = _steps(settings, seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Changed images, uint8 of the same shape."""
        if not training:
            return images
        x = ops.cast(images, "float32") / 255
        for step in self.steps:
            x = step(x, training=True)
        return ops.cast(ops.clip(ops.round(255 * x), 0, 255), "uint8")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return input_shape


def _steps(settings: Mapping[str, Any], seed: int) -> list[keras.Layer]:
    rotation, shift, zoom = settings["rotation"] / 360, settings["shift"], settings["zoom"]
    contrast, brightness = settings["contrast"], settings["brightness"]
    places = {"fill_mode": "nearest", "dtype": "float32"}  # no black wedges at the border
    values = {"value_range": _RANGE, "dtype": "float32"}
    # Keras takes one number for the contrast as upwards only; its saturation factor f multiplies
    # by f / (1 - f); its hue factor is a share of half the circle.
    saturation = [m / (1 + m) for m in (1 - settings["saturation"], 1 + settings["saturation"])]
    hue = 2 * settings["hue"]
    makers: dict[str, Callable[[int], keras.Layer]] = {
        "flip": lambda s: layers.RandomFlip("horizontal", seed=s, dtype="float32"),
        "rotation": lambda s: layers.RandomRotation(rotation, seed=s, **places),
        "shift": lambda s: layers.RandomTranslation(shift, shift, seed=s, **places),
        "zoom": lambda s: layers.RandomZoom((-zoom, zoom), seed=s, **places),
        "brightness": lambda s: layers.RandomBrightness(brightness, seed=s, **values),
        "contrast": lambda s: layers.RandomContrast([contrast] * 2, seed=s, **values),
        "saturation": lambda s: layers.RandomSaturation(saturation, seed=s, **values),
        "hue": lambda s: layers.RandomHue(hue, seed=s, **values),
    }
    return [make(seed + i) for i, (name, make) in enumerate(makers.items()) if settings[name]]
