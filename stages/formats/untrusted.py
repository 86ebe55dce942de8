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

    Raises ValueError for any other and for a damaged one.
    """
    try:
        file = h5py.File(source, "r")
    except Exception as error:
        raise ValueError(f"not an HDF5 file: {error}") from error
    try:
        with file:
            check_hdf5(file)
            yield file
    except ValueError:
        raise
    except Exception as error:
        # h5py raises many types on damaged files (RuntimeError, KeyError, SystemError, ...).
        raise ValueError(f"damaged: {error}") from error


def check_hdf5(file: h5py.File) -> None:
    """Raise ValueError for a file that refers to other files or is too large."""
    size = 0

    def check_link(name: str, link: object) -> str | None:
        ordinary = isinstance(link, h5py.HardLink)
        return None if ordinary else f"{name} is a link, which weights files do not need"

    def check_item(name: str, item: object) -> str | None:
        nonlocal size
        if not isinstance(item, h5py.Dataset):
            return None
        size += item.nbytes
        if item.external or item.is_virtual:
            return f"the values of {name} are in another file"
        return None if size <= LARGEST else f"more than {LARGEST} bytes of weights"

    # The first fault ends a visit; h5py would replace an exception.
    if fault := file.visititems_links(check_link) or file.visititems(check_item):
        raise ValueError(fault)


def read_onnx(path: Path, operations: Collection[str] | None = None) -> onnx.ModelProto:
    """Read a graph whose weights are in the file in the declared length.

    Raises ValueError for any other, for one of more than LARGEST bytes, for operations that ONNX
    does not define or that contain a graph (loops, branches), and for others than `operations`.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own exception types differ between its versions
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
            with open_hdf5(io.BytesIO(archive.read(_WEIGHTS))):
                pass
    except ValueError:
        raise
    except Exception as error:
        # zipfile raises many types on damaged files (RuntimeError, NotImplementedError ...). Errors
        # of the disk have a number; EINVAL is a seek to before the start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"not a .keras file: {error}") from error
    for module, name, registered in _parts(config):
        known = name == _TENSOR and module is None
        if not known and (name not in _PARTS.get(module, ()) or registered not in (None, name)):
            raise ValueError(f"names {module}.{name}, which no network of this project has")


def _parts(node: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Module, class name and registered name of all parts of a configuration."""
    if isinstance(node, dict):
        if "class_name" in node or "module" in node:
            yield node.get("module"), node.get("class_name"), node.get("registered_name")
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _parts(child)
