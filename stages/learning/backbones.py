"""Backbones: uint8 images in, a vector of pooled features out.

Each takes its own preprocessing (a property of the variant, kept inside the saved network,
so that whoever loads it feeds plain pixels) and ends in global average pooling.
"""

from pathlib import Path
from typing import Any

import keras
from keras import layers

CNN_WIDTHS = (24, 48, 96, 192)
BATCH_NORM_MOMENTUM = 0.9  # Keras's 0.99 needs hundreds of steps, the demo has ten an epoch


def build_backbone(
    name: str, trainable: str, preprocessing: str, size: int, weights: Path | None
) -> keras.Model:
    """Build a backbone on a new uint8 input of shape (size, size, 3), RGB, 0..255.

    Args:
        name: `cnn` or `vgg16`.
        trainable: the part that learns: `none`, `block5` (of vgg16) or `all`.
        preprocessing: `unit` (pixels / 255).
        size: side of the images in pixels, at least 32.
        weights: .h5 file of the backbone without top; None leaves it at random values.

    Returns:
        The network from images to features (batch, channels), its frozen part marked so.

    Raises:
        ValueError: a name that is not among those, or a weights file of another layout.
    """
    images = keras.Input((size, size, 3), dtype="uint8", name="image")
    pixels = _preprocess(images, preprocessing)
    if name == "cnn":
        top = _cnn(pixels)
    elif name == "vgg16":
        top = _vgg16(pixels, weights)
    else:
        raise ValueError(f"backbone {name!r} is not one of cnn, vgg16")
    features = layers.GlobalAveragePooling2D(name="pooled")(top)
    model = keras.Model(images, features)
    _freeze(model, trainable)
    return model


def _preprocess(images: Any, kind: str) -> Any:
    if kind != "unit":
        raise ValueError(f"preprocessing {kind!r} is not one of unit")
    return layers.Rescaling(1 / 255, name="unit")(images)


def _cnn(x: Any) -> Any:
    """The own small CNN: four 3x3 convolutions, each with batch normalisation and ReLU.

    The first one strides, the others pool: 100 px become 50, 25, 12 and 6.
    """
    for number, width in enumerate(CNN_WIDTHS, start=1):
        stride = 2 if number == 1 else 1
        x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"conv{number}_bn")(x)
        x = layers.ReLU(name=f"conv{number}_relu")(x)
        if number > 1:
            x = layers.MaxPooling2D(name=f"conv{number}_pool")(x)
    return x


def _vgg16(x: Any, weights: Path | None) -> Any:
    """VGG16 without top: Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556."""
    file = None if weights is None else str(weights)
    return keras.applications.VGG16(include_top=False, weights=file, input_tensor=x).output


def _freeze(model: keras.Model, trainable: str) -> None:
    """Freeze what does not learn.

    Frozen batch normalisation stays in inference mode (Keras ties it to `trainable`).
    """
    names = [layer.name for layer in model.layers]
    if trainable == "all":
        first = 0
    elif trainable == "none":
        first = len(names)
    else:
        block = [i for i, name in enumerate(names) if name.startswith(f"{trainable}_")]
        if not block:
            raise ValueError(f"trainable {trainable!r}: no such block here, and not none or all")
        first = block[0]
    for layer in model.layers[:first]:
        layer.trainable = False
