"""Files of random weights in the layouts of those that others released."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from stages.formats.keras_h5 import SHAPES, Layers
from stages.weights.registry import vggface_name


@cache
def drawn(backbone: str) -> Layers:
    """Random arrays in the shapes of a backbone, which outputs survive (He et al. 2015)."""
    generator = np.random.default_rng(7)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return generator.random(shape, np.float32) / 100
        deviation = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        return generator.standard_normal(shape, np.float32) * deviation

    return {name: tuple(map(draw, shapes)) for name, shapes in SHAPES[backbone].items()}


def conv_names(name: str) -> tuple[str, ...]:
    """How Keras 1 named a convolution's arrays; its files are converted from such."""
    return f"{name}_W_1:0", f"{name}_b_1:0"


def tf_names(name: str) -> tuple[str, ...]:
    return f"{name}/kernel:0", f"{name}/bias:0"


def norm_names(name: str) -> tuple[str, ...]:
    return tuple(f"{name}/{part}:0" for part in ("gamma", "beta", "moving_mean", "moving_variance"))


def with_slash(name: str) -> str:
    return {"conv1_conv": "conv1/conv", "conv1_bn": "conv1/bn"}.get(name, name)


# How the layers of each released file are named: those of VGGFace and DenseNet121 unlike
# the layers of keras.applications.
RELEASED: dict[tuple[str, str], tuple[Callable[[str], str], Callable[[str], tuple[str, ...]]]] = {
    ("vgg16", "imagenet"): (str, conv_names),
    ("vgg19", "imagenet"): (str, conv_names),
    ("resnet50", "imagenet"): (str, conv_names),
    ("densenet121", "imagenet"): (with_slash, tf_names),
    ("vgg16", "vggface"): (vggface_name, tf_names),
}


def write_released(path: Path, backbone: str, weights: str) -> None:
    """Write random arrays in the layout of the released file, layers without weights included."""
    rename, names_of = RELEASED[backbone, weights]
    with h5py.File(path, "w") as file:
        names = ["input_1", *map(rename, drawn(backbone)), "last_relu"]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in ("input_1", "last_relu"):
            file.create_group(name).attrs["weight_names"] = np.array([])
        for layer, arrays in drawn(backbone).items():
            group = file.create_group(rename(layer))
            texts = norm_names(rename(layer)) if arrays[0].ndim == 1 else names_of(rename(layer))
            texts = texts[: len(arrays)]
            group.attrs["weight_names"] = [text.encode() for text in texts]
            for text, array in zip(texts, arrays, strict=True):
                group.create_dataset(text, data=array)
