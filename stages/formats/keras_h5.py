"""Read and write weights files of backbones: the arrays of each layer, by name and shape.

The names and order of the layers are those of `keras.applications`. A file of another backbone, or
one with a classifier, is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from stages.formats.untrusted import open_hdf5, read_onnx

Array = npt.NDArray[np.float32]
Layers = Mapping[str, tuple[Array, ...]]
Shapes = Mapping[str, tuple[tuple[int, ...], ...]]

BATCH_NORM_EPSILON = 0.001  # of keras.layers.BatchNormalization, which MobileNet leaves as it is


def _convolution(size: int, channels: int, width: int) -> tuple[tuple[int, ...], ...]:
    return (size, size, channels, width), (width,)


def _batch_norm(width: int) -> tuple[tuple[int, ...], ...]:
    return ((width,),) * 4  # gamma, beta, moving mean, moving variance


def _vgg(convolutions: Sequence[int]) -> Shapes:
    """Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556, table 1."""
    shapes, channels = {}, 3
    for block, width in enumerate((64, 128, 256, 512, 512)):
        for i in range(convolutions[block]):
            shapes[f"block{block + 1}_conv{i + 1}"] = _convolution(3, channels, width)
            channels = width
    return shapes


def _resnet(blocks: Sequence[int]) -> Shapes:
    """He et al. 2016, https://arxiv.org/abs/1512.03385, table 1."""
    shapes = {"conv1_conv": _convolution(7, 3, 64), "conv1_bn": _batch_norm(64)}
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for i in range(blocks[stage]):
            block = f"conv{stage + 2}_block{i + 1}"
            for part, size, inputs in ((1, 1, channels), (2, 3, width)):
                shapes[f"{block}_{part}_conv"] = _convolution(size, inputs, width)
                shapes[f"{block}_{part}_bn"] = _batch_norm(width)
            # The first shortcut is projected to the new width.
            wide = {3: width} if i else {0: channels, 3: width}
            shapes |= {f"{block}_{n}_conv": _convolution(1, c, 4 * width) for n, c in wide.items()}
            shapes |= {f"{block}_{n}_bn": _batch_norm(4 * width) for n in wide}
            channels = 4 * width
    return shapes


def _densenet(blocks: Sequence[int], growth: int = 32) -> Shapes:
    """Huang et al. 2017, https://arxiv.org/abs/1608.06993, table 1; convolutions have no bias."""
    shapes = {"conv1_conv": _convolution(7, 3, 64)[:1], "conv1_bn": _batch_norm(64)}
    channels = 64
    for stage, number in enumerate(blocks, start=2):
        if stage > 2:  # a transition halves the channels between two dense blocks
            shapes[f"pool{stage - 1}_bn"] = _batch_norm(channels)
            shapes[f"pool{stage - 1}_conv"] = _convolution(1, channels, channels // 2)[:1]
            channels //= 2
        for i in range(1, number + 1):
            block = f"conv{stage}_block{i}"
            shapes[f"{block}_0_bn"] = _batch_norm(channels)
            shapes[f"{block}_1_conv"] = _convolution(1, channels, 4 * growth)[:1]
            shapes[f"{block}_1_bn"] = _batch_norm(4 * growth)
            shapes[f"{block}_2_conv"] = _convolution(3, 4 * growth, growth)[:1]
            channels += growth
    return shapes | {"bn": _batch_norm(channels)}


def _mobilenet(widths: Sequence[int]) -> Shapes:
    """Howard et al. 2017, https://arxiv.org/abs/1704.04861, table 1; convolutions have no bias."""
    shapes = {"conv1": _convolution(3, 3, 32)[:1], "conv1_bn": _batch_norm(32)}
    channels = 32
    for block, width in enumerate(widths, start=1):
        shapes[f"conv_dw_{block}"] = ((3, 3, channels, 1),)
        shapes[f"conv_dw_{block}_bn"] = _batch_norm(channels)
        shapes[f"conv_pw_{block}"] = _convolution(1, channels, width)[:1]
        shapes[f"conv_pw_{block}_bn"] = _batch_norm(width)
        channels = width
    return shapes


SHAPES: Mapping[str, Shapes] = {
    "vgg16": _vgg((2, 2, 3, 3, 3)),
    "vgg19": _vgg((2, 2, 4, 4, 4)),
    "resnet50": _resnet((3, 4, 6, 3)),
    "densenet121": _densenet((6, 12, 24, 16)),
    "mobilenet": _mobilenet((64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)),
}


def read_h5_layers(path: Path, shapes: Shapes) -> Layers:
    """Arrays of each layer of a Keras 1 or 2 .h5 weights file, or of a model saved as one.

    Slashes in layer names become underscores. Returns float32 arrays by layer, in the order of
    `shapes`. Raises ValueError if `open_hdf5` refuses the file, the layers or shapes differ, or an
    array is named twice.
    """
    layers: dict[str, tuple[h5py.Dataset, ...]] = {}  # of which nothing is read yet

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Group) and len(item.attrs.get("weight_names", ())):
            names = list(item.attrs["weight_names"])
            if len({*names}) < len(names):
                raise ValueError(f"layer {name} names an array twice")
            layers[name.removeprefix("model_weights/").replace("/", "_")] = tuple(
                array
                for array in map(item.get, names)
                if isinstance(array, h5py.Dataset) and array.dtype.kind == "f"
            )

    with open_hdf5(path) as file:
        file.visititems(collect)
        # Not one array is read before all are known to have the shapes of the network.
        return {
            name: tuple(np.asarray(array, np.float32) for array in arrays)
            for name, arrays in _checked(layers, shapes).items()
        }


def _checked(
    layers: Mapping[str, tuple[Any, ...]], shapes: Shapes
) -> Mapping[str, tuple[Any, ...]]:
    if missing := [name for name in shapes if name not in layers]:
        raise ValueError(f"lacks the layers {_few(missing)}")
    if others := [name for name in layers if name not in shapes]:
        raise ValueError(f"has the layers {_few(others)}, which do not belong there")
    for name, expected in shapes.items():
        actual = tuple(array.shape for array in layers[name])
        if actual != expected:
            raise ValueError(f"layer {name} has arrays of shape {[*actual]}, not {[*expected]}")
    return {name: layers[name] for name in shapes}


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5)


def read_onnx_layers(path: Path, shapes: Shapes) -> Layers:
    """Kernel and bias of each named convolution of an ONNX graph made from a Keras model.

    Raises ValueError if `read_onnx` refuses the file, or the layers or shapes differ.
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
    """Write layers as `keras.applications` loads them; the bytes depend on the values alone."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            group = file.create_group(name)
            kinds = ["W_1", "b_1"]
            if arrays[0].ndim == 1:
                kinds = ["gamma", "beta", "moving_mean", "moving_variance"]
            names = [f"{name}_{kind}:0" for kind in kinds[: len(arrays)]]
            group.attrs["weight_names"] = [text.encode() for text in names]
            for text, array in zip(names, arrays, strict=True):
                group.create_dataset(text, data=array)
