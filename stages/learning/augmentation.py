"""Augmentation: training images changed at random, anew at each pass.

Run inside the training step, so that it runs where the network runs. Each image gets its own
change. What comes out is uint8 again, as real images are. Colours are changed by Keras's layers;
its layers for flip, rotation, shift and zoom would resample an image once each, which blurs it and
takes three times as long as resampling once by the product of their matrices.
"""

from collections.abc import Callable
from math import radians
from typing import Any

import keras
from keras import layers, ops

from stages.core.variants import Augmentation

_ERASED = (0.02, 0.2)  # of the area of an image
_RANGE = (0.0, 1.0)  # of the pixels inside; Keras's saturation is wrong in 0..255


class Augment(keras.Layer):
    """Random changes of uint8 RGB images (batch, height, width, 3); none at inference.

    Args:
        settings: see params.yaml; 0 or false: not at all.
        seed: of all changes.
    """

    def __init__(self, settings: Augmentation, seed: int) -> None:
        super().__init__(dtype="float32", name="augmentation")
        self.steps = _steps(settings, seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Changed images, uint8 of the same shape."""
        if not training:
            return images
        x = ops.cast(images, "float32") / 255
        for step in self.steps:
            x = step(x)
        return ops.cast(ops.clip(ops.round(255 * x), 0, 255), "uint8")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return input_shape


class _Warp(keras.Layer):
    """Flip, rotation, shift and zoom of float images, as one bilinear resampling of each image.

    Beyond its border an image goes on as its border is: no black wedges.

    Args:
        settings: as of `Augment`.
        seed: of the draws.
    """

    def __init__(self, settings: Augmentation, seed: int) -> None:
        super().__init__(dtype="float32", name="warp")
        self.flip = bool(settings.flip)
        self.rotation, self.shift, self.zoom = (
            radians(settings.rotation),
            settings.shift,
            settings.zoom,
        )
        self.draws = keras.random.SeedGenerator(seed)
        self.built = True  # it has nothing to learn

    def call(self, images: Any) -> Any:
        """Changed images of the same shape."""
        number, height, width = ops.shape(images)[0], images.shape[1], images.shape[2]
        names = ("mirror", "angle", "down", "right", "scale")
        draws = keras.random.uniform((len(names), number), -1.0, 1.0, seed=self.draws)
        draw = dict(zip(names, ops.unstack(draws, len(names)), strict=True))
        mirror = ops.where(draw["mirror"] < 0, -1.0, 1.0) if self.flip else 1.0
        angle, scale = self.rotation * draw["angle"], 1 + self.zoom * draw["scale"]
        along, across = scale * ops.cos(angle), scale * ops.sin(angle)
        # From each place of the outcome to the place that it is taken from, around the centre.
        x, y = (width - 1) / 2, (height - 1) / 2
        to_x = (mirror * along, -mirror * across)
        to_y = (across, along)
        right, down = self.shift * width * draw["right"], self.shift * height * draw["down"]
        from_x = (*to_x, x - to_x[0] * x - to_x[1] * y + right)
        from_y = (*to_y, y - to_y[0] * x - to_y[1] * y + down)
        flat = [ops.zeros_like(angle)] * 2  # an affine map, no perspective
        matrix = ops.stack([*from_x, *from_y, *flat], axis=1)
        return ops.image.affine_transform(images, matrix, fill_mode="nearest")


def _steps(settings: Augmentation, seed: int) -> list[keras.Layer]:
    contrast, brightness = settings.contrast, settings.brightness
    values = {"value_range": _RANGE, "dtype": "float32"}
    # Keras takes one number for the contrast as upwards only; its saturation factor f multiplies
    # by f / (1 - f); its hue factor is a share of half the circle.
    saturation = [m / (1 + m) for m in (1 - settings.saturation, 1 + settings.saturation)]
    hue = 2 * settings.hue
    makers: dict[str, Callable[[int], keras.Layer]] = {
        "brightness": lambda s: layers.RandomBrightness(brightness, seed=s, **values),
        "contrast": lambda s: layers.RandomContrast([contrast] * 2, seed=s, **values),
        "saturation": lambda s: layers.RandomSaturation(saturation, seed=s, **values),
        "hue": lambda s: layers.RandomHue(hue, seed=s, **values),
        "greyscale": lambda s: layers.RandomGrayscale(settings.greyscale, seed=s, dtype="float32"),
        "erasing": lambda s: layers.RandomErasing(
            [settings.erasing] * 2, _ERASED, fill_value=0.5, seed=s, **values
        ),
    }
    steps = [
        make(seed + i)
        for i, (name, make) in enumerate(makers.items(), 1)
        if getattr(settings, name)
    ]
    if any(getattr(settings, name) for name in ("flip", "rotation", "shift", "zoom")):
        steps.insert(0, _Warp(settings, seed))
    return steps
