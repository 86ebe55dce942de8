"""Read untrusted HDF5, ONNX and .keras files.

HDF5 and ONNX can refer to other files of this machine, whose bytes would then be read as weights,
and can declare arrays much larger than the file. Such files are refused, and ONNX files that loop.

A .keras file could run code: Keras's safe mode refuses Lambda layers, but other names have been
holes (CVE-2025-1550, -8747, -9905, -9906, -12058). A file that names any other part than those
below is refused before Keras reads it.
"""

import errno
import io
import json
import math
import mmap
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import onnx
import onnx.numpy_helper
from google.protobuf.message import Message

LARGEST = 2 << 30  # bytes of all arrays of a file; VGG19, the largest network here, has 0.6 GB
DEEPEST = 32  # groups in groups of an HDF5 file; an average of networks has 8
MOST_ITEMS = 100_000  # groups and arrays of an HDF5 file; an average of three MobileNets has 900

# Of an ONNX file that is to be run: what exports of all networks here consist of. None of them
# loops: a loop can run for ever, and nothing stops onnxruntime then.
OPERATIONS = {
    *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv"),
    *("Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool", "Identity", "MatMul", "MaxPool"),
    *("Mul", "Pad", "Relu", "Reshape", "ReverseSequence", "Shape", "Sigmoid", "Slice", "Softmax"),
    *("Squeeze", "Sub", "Transpose", "Unsqueeze"),
}

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, "metadata.json", _WEIGHTS}
_LONGEST_CONFIG = 1 << 24  # bytes; DenseNet121's has some 400,000
_PARTS = {
    "keras": {"DTypePolicy"},
    "keras.initializers": {"GlorotUniform", "Ones", "Zeros"},
    "keras.layers": {
        *("Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate"),
        *("Conv2D", "Dense", "DepthwiseConv2D", "Dropout", "GlobalAveragePooling2D"),
        *("InputLayer", "MaxPooling2D", "Multiply", "Permute", "ReLU", "Rescaling"),
        "ZeroPadding2D",
    },
    "keras.src.models.functional": {"Functional"},
    "keras.src.ops.numpy": {"Flip"},
}
_TENSOR = "__keras_tensor__"  # what connects the parts; has no module


@contextmanager
def open_hdf5(source: Path | BinaryIO) -> Iterator[h5py.File]:
    """Open a file that refers to no other file and has at most LARGEST bytes of weights.

    Each array takes its bytes in the file, so that a small file is not read as a large one.
    Raises ValueError for any other and for a damaged one.
    """
    try:
        file = h5py.File(source, "r")
    except MemoryError:  # says nothing about the file, here and below
        raise
    except Exception as error:
        raise ValueError(f"not an HDF5 file: {error}") from error
    try:
        with file:
            check_hdf5(file)
            yield file
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        # h5py raises many types on damaged files (RuntimeError, KeyError, SystemError, ...).
        raise ValueError(f"damaged: {error}") from error


def check_hdf5(file: h5py.File) -> None:
    """Raise ValueError for a file that refers to other files or is too large, as `open_hdf5`."""
    size, items, groups = 0, 0, [("", file, 0)]
    while groups:
        path, group, depth = groups.pop()
        if depth > DEEPEST:
            raise ValueError(f"{path[:80]}: more than {DEEPEST} groups in each other")
        for name in group:
            items += 1
            if items > MOST_ITEMS:
                raise ValueError(f"more than {MOST_ITEMS} groups and arrays")
            where = f"{path}/{name}".lstrip("/")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{where} is a link, which weights files do not need")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append((where, item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise ValueError(f"the values of {where} are in another file")
                size += item.nbytes
                if size > LARGEST:
                    raise ValueError(f"more than {LARGEST} bytes of weights")
                if item.nbytes > min(item.id.get_storage_size(), file.id.get_filesize()):
                    fault = "declares more bytes than the file holds; save it uncompressed"
                    raise ValueError(f"{where} {fault}")


def read_onnx(path: Path, operations: Collection[str] | None = None) -> onnx.ModelProto:
    """Read a graph whose weights are in the file in the declared length.

    Raises ValueError for any other, for one of more than LARGEST bytes, for operations that ONNX
    does not define or that contain a graph (loops, branches), and for others than `operations`.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    try:
        model = onnx.load(path, load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's exception types differ between its versions
        # protobuf calls lack of memory damage too. It held the file twice: an OSError if that does
        # not fit. Not one byte of it is touched.
        with mmap.mmap(-1, 2 * max(1, path.stat().st_size)):
            pass
        raise ValueError(f"not an ONNX file: {error}") from error
    for part in _messages(model):
        if isinstance(part, onnx.FunctionProto):
            raise ValueError("has operations that ONNX does not define")
        if isinstance(part, onnx.NodeProto):
            _check_operation(part, operations)
        if not isinstance(part, onnx.TensorProto):
            continue
        if part.data_location == onnx.TensorProto.EXTERNAL or part.external_data:
            raise ValueError(f"the values of {part.name!r} are in another file")
        try:
            onnx.numpy_helper.to_array(part)  # a view if the bytes are raw
        except MemoryError:
            raise
        except Exception as error:  # its type depends on the kind of values
            raise ValueError(f"the values of {part.name!r} do not fit: {error}") from error
    return model


def _check_operation(node: onnx.NodeProto, operations: Collection[str] | None) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise ValueError("has operations that ONNX does not define")
    nested = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    if nested or (operations is not None and node.op_type not in operations):
        raise ValueError(f"has the operation {node.op_type!r}, which no network here needs")


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)


def check_model_file(path: Path) -> None:
    """Raise ValueError for a .keras file with other parts than a network of this project has.

    Raises OSError if it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            if set(sizes) != _MEMBERS or len(archive.infolist()) != len(_MEMBERS):
                raise ValueError(f"holds {sorted(sizes)[:5]}, not {sorted(_MEMBERS)}")
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("is compressed, as Keras does not write it")
            if sum(sizes.values()) > LARGEST or sizes[_CONFIG] > _LONGEST_CONFIG:
                raise ValueError("is larger than any network of this project")
            config = json.loads(archive.read(_CONFIG))
            with open_hdf5(io.BytesIO(archive.read(_WEIGHTS))) as weights:
                held = _numbers_held(weights)
        _check_parts(config)
        if (declared := _numbers_declared(config)) != held:
            raise ValueError(f"declares {declared} weights, but holds {held}")
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        # zipfile raises many types on damaged files (RuntimeError, NotImplementedError ...). Errors
        # of the disk have a number; EINVAL is a seek to before the start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"not a .keras file: {error}") from error


def _check_parts(config: Any) -> None:
    """Raise ValueError for a part that no network of this project has."""
    for module, name, registered in _parts(config):
        known = name == _TENSOR and module is None
        if not known and (name not in _PARTS.get(module, ()) or registered not in (None, name)):
            raise ValueError(f"names {module}.{name}, which no network of this project has")


def _numbers_held(weights: h5py.File) -> int:
    """How many numbers the arrays of a file hold."""
    sizes: list[int] = []
    weights.visititems(lambda _, x: sizes.append(x.size) if isinstance(x, h5py.Dataset) else None)
    return sum(sizes)


def _numbers_declared(network: Any) -> int:
    """How many weights Keras makes room for when it reads this configuration of a network.

    It builds each layer for the shape in `build_config`, before it reads any weights.
    """
    total = 0
    for layer in network["config"]["layers"]:
        kind, config = layer["class_name"], layer["config"]
        if kind == "Functional":
            total += _numbers_declared(layer)
        elif kind in ("Conv2D", "DepthwiseConv2D", "Dense", "BatchNormalization"):
            if config.get("data_format", "channels_last") != "channels_last":
                raise ValueError(f"{layer['name']}: its channels are not last")
            inputs = layer["build_config"]["input_shape"][-1]
            if kind == "BatchNormalization":
                total += _product(4, inputs)
            elif kind == "DepthwiseConv2D":
                outputs = _product(inputs, config["depth_multiplier"])
                total += (
                    _product(outputs, *config["kernel_size"]) + bool(config["use_bias"]) * outputs
                )
            else:
                outputs = config["units"] if kind == "Dense" else config["filters"]
                sides = config["kernel_size"] if kind == "Conv2D" else ()
                total += _product(inputs, outputs, *sides) + bool(config["use_bias"]) * outputs
    return total


def _product(*numbers: Any) -> int:
    """Of whole numbers; a text times a number would fill the memory."""
    if not all(type(number) is int and 0 < number <= LARGEST for number in numbers):
        raise ValueError(f"{numbers} are not sizes of a layer")
    return math.prod(numbers)


def _parts(node: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Module, class name and registered name of all parts of a configuration."""
    if isinstance(node, dict):
        if "class_name" in node or "module" in node:
            yield node.get("module"), node.get("class_name"), node.get("registered_name")
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _parts(child)
