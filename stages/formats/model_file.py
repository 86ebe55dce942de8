"""Untrusted .keras files: checked before Keras reads them, so that none can run code.

Keras's safe mode refuses Lambda layers, but other names in a file have been holes (CVE-2025-1550,
-8747, -9905, -9906, -12058). A file that names any other part than those below is refused.
"""

import errno
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.formats.untrusted import LARGEST, open_hdf5

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, "metadata.json", _WEIGHTS}
_LONGEST_CONFIG = 1 << 24  # bytes; DenseNet121's has some 400,000
_PARTS = {
    "keras": {"DTypePolicy"},
    "keras.initializers": {"GlorotUniform", "Ones", "Zeros"},
    "keras.layers": {
        *("Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate"),
        *("Conv2D", "Dense", "Dropout", "GlobalAveragePooling2D", "InputLayer", "MaxPooling2D"),
        *("Multiply", "ReLU", "Rescaling", "ZeroPadding2D"),
    },
    "keras.src.models.functional": {"Functional"},
    "keras.src.ops.numpy": {"Flip"},
}
_TENSOR = "__keras_tensor__"  # what connects the parts; has no module


def check_model_file(path: Path) -> None:
    """Refuse a .keras file with other members or parts than a network of this project has.

    Raises:
        ValueError: it is refused, damaged or too large.
        OSError: it cannot be read.
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
