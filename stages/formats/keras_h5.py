"""Read and write weights files of backbones: the arrays of each layer, by name and shape.

The names and order of the layers are those of `keras.applications`. A file must contain exactly
these layers, so that the file of another backbone, or one with a classifier, is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from stages.formats.untrusted import open_hdf5, read_onnx

Array = npt.NDArray[np.float32]
Layers = Mapping[str, tuple[Array, ...]]
Shapes = Mapping[str, tuple[tuple[int, ...], ...]]
Layer = tuple[str, tuple[tuple[int, ...], ...]]


def _convolution(name: str, size: int, channels: int, width: int) -> Layer:
    return name, ((size, size, channels, width), (width,))


def _without_bias(name: str, size: int, channels: int, width: int) -> Layer:
    return name, ((size, size, channels, width),)


def _batch_norm(name: str, width: int) -> Layer:
    return name, ((width,),) * 4  # gamma, beta, moving mean, moving variance


def _vgg(convolutions: Iterable[int]) -> Iterator[Layer]:
    """Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556, table 1."""
    channels = 3
    for block, (number, width) in enumerate(
        zip(convolutions, (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for i in range(1, number + 1):
            yield _convolution(f"block{block}_conv{i}", 3, channels, width)
            channels = width


def _resnet(blocks: Iterable[int]) -> Iterator[Layer]:
    """He et al. 2016, https://arxiv.org/abs/1512.03385, table 1."""
    yield _convolution("conv1_conv", 7, 3, 64)
    yield _batch_norm("conv1_bn", 64)
    channels = 64
    for stage, (number, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), start=2):
        for i in range(1, number + 1):
            block = f"conv{stage}_block{i}"
            yield _convolution(f"{block}_1_conv", 1, channels, width)
            yield _batch_norm(f"{block}_1_bn", width)
            yield _convolution(f"{block}_2_conv", 3, width, width)
            yield _batch_norm(f"{block}_2_bn", width)
            if i == 1:  # the shortcut is projected to the new width
                yield _convolution(f"{block}_0_conv", 1, channels, 4 * width)
            yield _convolution(f"{block}_3_conv", 1, width, 4 * width)
            if i == 1:
                yield _batch_norm(f"{block}_0_bn", 4 * width)
            yield _batch_norm(f"{block}_3_bn", 4 * width)
            channels = 4 * width


def _densenet(blocks: Iterable[int], growth: int = 32) -> Iterator[Layer]:
    """Huang et al. 2017, https://arxiv.org/abs/1608.06993, table 1."""
    yield _without_bias("conv1_conv", 7, 3, 64)
    yield _batch_norm("conv1_bn", 64)
    channels = 64
    for stage, number in enumerate(blocks, start=2):
        if stage > 2:  # a transition halves the channels between two dense blocks
            yield _batch_norm(f"pool{stage - 1}_bn", channels)
            yield _without_bias(f"pool{stage - 1}_conv", 1, channels, channels // 2)
            channels //= 2
        for i in range(1, number + 1):
            block = f"conv{stage}_block{i}"
            yield _batch_norm(f"{block}_0_bn", channels)
            yield _without_bias(f"{block}_1_conv", 1, channels, 4 * growth)
            yield _batch_norm(f"{block}_1_bn", 4 * growth)
            yield _without_bias(f"{block}_2_conv", 3, 4 * growth, growth)
            channels += growth
    yield _batch_norm("bn", channels)


SHAPES: Mapping[str, Shapes] = {
    "vgg16": dict(_vgg((2, 2, 3, 3, 3))),
    "vgg19": dict(_vgg((2, 2, 4, 4, 4))),
    "resnet50": dict(_resnet((3, 4, 6, 3))),
    "densenet121": dict(_densenet((6, 12, 24, 16))),
}


def read_h5_layers(path: Path, shapes: Shapes) -> Layers:
    """Arrays of each layer of a Keras 1 or 2 .h5 weights file, or of a model saved as one.

    Args:
        path: file with a group per layer, whose attribute `weight_names` lists its arrays.
            Slashes in layer names, as in Keras's DenseNet files, become underscores.
        shapes: exactly what the file must contain.

    Returns:
        float32 arrays by layer, in the order of `shapes`.

    Raises:
        ValueError: refused by `open_hdf5`, or the layers or shapes differ.
    """
    layers: dict[str, tuple[Array, ...]] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Group) and len(item.attrs.get("weight_names", ())):
            layer = name.removeprefix("model_weights/").replace("/", "_")
            layers[layer] = tuple(_arrays(item))

    with open_hdf5(path) as file:
        file.visititems(collect)
    return _checked(layers, shapes)


def _arrays(group: h5py.Group) -> Iterator[Array]:
    for name in group.attrs["weight_names"]:
        item = group.get(name)
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
            yield np.asarray(item, np.float32)


def _checked(layers: Layers, shapes: Shapes) -> Layers:
    if missing := [name for name in shapes if name not in layers]:
        raise ValueError(f"lacks the layers {_few(missing)}")
    if others := [name for name in layers if name not in shapes]:
        raise ValueError(f"has the layers {_few(others)}, which do not belong there")
    for name, expected in shapes.items():
        actual = tuple(array.shape for array in layers[name])
        if actual != expected:
            raise ValueError(f"layer {name} has arrays of shape {[*actual]}, not {[*expected]}")
    return {name: layers[name] for name in shapes}


def _few(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (
        f" and {rest} more" if (rest := len(names) - shown) > 0 else ""
    )


def read_onnx_layers(path: Path, shapes: Shapes) -> Layers:
    """Kernel and bias of each named convolution of an ONNX graph made from a Keras model.

    Raises:
        ValueError: refused by `read_onnx`, or the layers or shapes differ.
    """
    graph = read_onnx(path).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    layers: dict[str, tuple[Array, ...]] = {}
    for node in graph.node:
        layer = next((name for name in shapes if f"/{name}_" in node.name), None)
        if layer is None or node.op_type != "Conv":
            continue
        arrays = [numpy_helper.to_array(values[name]) for name in node.input if name in values]
        layers[layer] = tuple(
            np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if array.ndim == 4 else array
            for array in arrays
        )
    return _checked(layers, shapes)


def write_h5_layers(path: Path, layers: Layers) -> None:
    """Write layers in the layout that `keras.applications` loads from an .h5 file.

    The bytes depend on the values alone.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            names = [f"{name}_{suffix}" for suffix in _suffixes(arrays)]
            group.attrs["weight_names"] = [text.encode() for text in names]
            for text, array in zip(names, arrays, strict=True):
                group.create_dataset(text, data=array)


def _suffixes(arrays: tuple[Array, ...]) -> list[str]:
    if arrays[0].ndim == 4:
        return ["W_1:0", "b_1:0"][: len(arrays)]
    return ["gamma:0", "beta:0", "moving_mean:0", "moving_variance:0"]
