"""Read untrusted HDF5 and ONNX files.

Both formats can refer to other files of this machine, whose bytes would then be read as weights,
and both can declare arrays much larger than the file. Such files are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import onnx
import onnx.numpy_helper
from google.protobuf.message import Message

LARGEST = 2 << 30  # bytes of all arrays of a file; VGG19, the largest network here, has 0.6 GB


@contextmanager
def open_hdf5(source: Path | BinaryIO) -> Iterator[h5py.File]:
    """Open a file that refers to no other file and has at most LARGEST bytes of weights.

    Raises:
        ValueError: not HDF5, damaged, a link, an external or virtual array, or too large.
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


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a graph whose weights, also of nested graphs, are in the file in the declared length.

    Raises:
        ValueError: not ONNX, more than LARGEST bytes, weights in another file or of another
            length, or an operation that ONNX does not define.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own exception types differ between its versions
        raise ValueError(f"not an ONNX file: {error}") from error
    for part in _messages(model):
        foreign = isinstance(part, onnx.NodeProto) and part.domain not in ("", "ai.onnx")
        if foreign or isinstance(part, onnx.FunctionProto):
            raise ValueError("has operations that ONNX does not define")
        if not isinstance(part, onnx.TensorProto):
            continue
        if part.data_location == onnx.TensorProto.EXTERNAL or part.external_data:
            raise ValueError(f"the values of {part.name!r} are in another file")
        try:
            onnx.numpy_helper.to_array(part)  # a view if the bytes are raw
        except Exception as error:  # its type depends on the kind of values
            raise ValueError(f"the values of {part.name!r} do not fit: {error}") from error
    return model


def _messages(message: Message) -> Iterator[Message]:
    """A message and all nested messages."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)
