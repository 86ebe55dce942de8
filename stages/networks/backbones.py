"""Backbones: uint8 images in, a vector of pooled features out.

Each takes its own preprocessing (a property of the variant, kept inside the saved network,
so that whoever loads it feeds plain pixels) and ends in global average pooling.

Preprocessing is `unit` (pixels / 255, as published) or `native`: what the backbone's weights
were trained with, which is why it depends on `weights`, their name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from stages.core.variants import NetworkSpec
from stages.formats.keras_h5 import read_h5_layers

CNN_WIDTHS = (24, 48, 96, 192)
BATCH_NORM_MOMENTUM = 0.9  # Keras's 0.99 needs hundreds of steps, the demo has ten an epoch

# Papers: VGG https://arxiv.org/abs/1409.1556, ResNet https://arxiv.org/abs/1512.03385,
# DenseNet https://arxiv.org/abs/1608.06993, MobileNet https://arxiv.org/abs/1704.04861.
APPLICATIONS = {
    "vgg16": keras.applications.VGG16,
    "vgg19": keras.applications.VGG19,
    "resnet50": keras.applications.ResNet50,
    "densenet121": keras.applications.DenseNet121,
    "mobilenet": keras.applications.MobileNet,
}


@dataclass(frozen=True)
class Pixels:
    """What weights expect of pixels: their order, then `pixel * scale + offset` by channel."""

    order: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]


def _centred(means_bgr: tuple[float, ...]) -> Pixels:
    return Pixels("bgr", (1.0, 1.0, 1.0), tuple(-mean for mean in means_bgr))


def _standardised(means: tuple[float, ...], deviations: tuple[float, ...]) -> Pixels:
    """Of pixels between 0 and 1."""
    pairs = zip(means, deviations, strict=True)
    return Pixels("rgb", tuple(1 / (255 * d) for d in deviations), tuple(-m / d for m, d in pairs))


# The three modes of keras.applications.imagenet_utils.preprocess_input, and version 1 of
# keras_vggface.utils.preprocess_input, https://github.com/rcmalli/keras-vggface.
CAFFE = _centred((103.939, 116.779, 123.68))
TORCH = _standardised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TF = Pixels("rgb", (1 / 127.5,) * 3, (-1.0,) * 3)
VGGFACE = _centred((93.5940, 104.7624, 129.1863))

# By pretraining and backbone. Random weights are native to nothing: any backbone, TF.
NATIVE = {
    ("imagenet", "vgg16"): CAFFE,
    ("imagenet", "vgg19"): CAFFE,
    ("imagenet", "resnet50"): CAFFE,
    ("imagenet", "densenet121"): TORCH,
    ("vggface", "vgg16"): VGGFACE,
    ("vggface2", "mobilenet"): CAFFE,
}
# Weights that were published with their batch normalisation folded; see `learning.normalisation`.
FOLDED = ("vggface2",)


def build_backbone(spec: NetworkSpec, weights_file: Path | None = None) -> keras.Model:
    """Build a backbone on a new uint8 input of shape (size, size, 3), RGB, 0..255.

    Args:
        spec: of which `backbone`, `trainable` (`none`, `all`, or the block from which on it
            learns, named as its layers begin), `preprocessing`, `weights`, `size` (at least 32)
            and `input_side`, to which the network enlarges its images, are read.
        weights_file: .h5 file of the backbone without top in the layout of `weights.keras_h5`;
            None leaves it at random values.

    Returns:
        The network from images to features (batch, channels), its frozen part marked so.

    Raises:
        ValueError: an unknown block, preprocessing or weights, a weights file without `weights`,
            or one of another layout.
    """
    name, pretraining = spec.backbone, spec.weights
    native = TF if pretraining == "none" else NATIVE.get((pretraining, name))
    if native is None:
        known = ["none", *(weights for weights, backbone in NATIVE if backbone == name)]
        raise ValueError(f"weights {pretraining!r} of {name} are not one of {', '.join(known)}")
    if weights_file is not None and pretraining == "none":
        raise ValueError(f"{weights_file}: weights 'none' means random weights")
    images = keras.Input((spec.size, spec.size, 3), dtype="uint8", name="image")
    enlarged = _enlarge(images, spec.input_side) if spec.input_side else images
    pixels = _preprocess(enlarged, spec.preprocessing, native)
    top = _cnn(pixels) if name == "cnn" else _application(name, pixels, weights_file)
    model = keras.Model(images, layers.GlobalAveragePooling2D(name="pooled")(top))
    _freeze(model, spec.trainable)
    return model


def _enlarge(images: Any, side: int) -> Any:
    """Bicubic resampling (Keys 1981, a = -0.5) of square images: float32 (batch, side, side, 3).

    It is linear and separable, so two Dense layers that never learn do it, one for each axis:
    TensorFlow Lite has no bicubic resizing, and each runtime's own one differs.
    """
    size = int(images.shape[1])
    basis = keras.ops.image.resize(np.eye(size)[..., None], (side, size), interpolation="bicubic")
    kernel = np.asarray(basis, np.float32)[..., 0].T  # (size, side)
    x = images
    # The axis that is resampled has to be last: width first, then height.
    for name, before in (("columns", (1, 3, 2)), ("rows", (3, 2, 1))):
        x = layers.Permute(before, name=f"{name}_last")(x)
        dense = layers.Dense(side, use_bias=False, trainable=False, name=name, dtype="float32")
        x = dense(x)
        dense.set_weights([kernel])
    return layers.Permute((3, 1, 2), name="enlarged", dtype="float32")(x)


def _preprocess(images: Any, kind: str, native: Pixels) -> Any:
    if kind == "unit":
        return layers.Rescaling(1 / 255, name="unit")(images)
    if kind != "native":
        raise ValueError(f"preprocessing {kind!r} is not one of unit, native")
    if native.order == "bgr":
        images = flipped(images, -1, "bgr")
    return layers.Rescaling(list(native.scale), list(native.offset), name="native")(images)


def flipped(images: Any, axis: int, name: str) -> Any:
    """Reverse an axis. Keras has no layer for it, but saves its own operations too."""
    reverse = keras.ops.flip(images, axis=axis)
    # Keras would number it by what the process built before, and so change the saved bytes.
    reverse._keras_history.operation.name = name
    return reverse


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


def _application(name: str, x: Any, weights: Path | None) -> Any:
    """A backbone of keras.applications, without top."""
    model = APPLICATIONS[name](include_top=False, weights=None, input_tensor=x)
    paddings = [layer for layer in model.layers if isinstance(layer, layers.ZeroPadding2D)]
    if name == "densenet121":
        # As ResNet50 calls them; Keras would number them by what the process built before, and so
        # change the saved bytes.
        for layer, padding in zip(paddings, ("conv1_pad", "pool1_pad"), strict=True):
            layer.name = padding
    if weights is not None:
        _load(model, weights)
    return model.output


def _load(model: keras.Model, weights: Path) -> None:
    """Set every weight by its layer's name; Keras itself goes by the order of the layers."""
    learnt = [layer for layer in model.layers if layer.trainable_weights]
    shapes = {layer.name: tuple(tuple(w.shape) for w in layer.weights) for layer in learnt}
    try:
        arrays = read_h5_layers(weights, shapes)
    except ValueError as error:
        raise ValueError(f"{weights}: not the weights of {model.name}: {error}") from error
    for layer in learnt:
        layer.set_weights(arrays[layer.name])


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
        block = [
            i
            for i, name in enumerate(names)
            if name == trainable or name.startswith(f"{trainable}_")
        ]
        if not block:
            raise ValueError(f"trainable {trainable!r}: no such block here, and not none or all")
        first = block[0]
    for layer in model.layers[:first]:
        layer.trainable = False
