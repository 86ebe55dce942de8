"""Networks: their size, what learns in them, what their heads give, how they are saved."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import applications, layers
from specs import network_of

from stages.formats.keras_h5 import write_h5_layers
from stages.networks.network import (
    average_network,
    cut_layer,
    load_network,
    save_network,
    split_frozen,
)

CLASSES = {"age": 5, "gender": 2, "race": 5}
SIZE = 32
FROZEN, BLOCK5 = ("vgg16", "none"), ("vgg16", "block5")
OWN = ("cnn", "all")
BOUNDS = [14, 25, 40, 60, 116]
YEARS = {"age_head": "years", "age_upper_bounds": BOUNDS}

TOP = Path(__file__).parents[2]
LOAD_ALONE = """
import json, sys
sys.modules["stages"] = None  # an import of it now fails
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
images = np.load(sys.argv[2])
print(json.dumps({task: np.asarray(p).tolist() for task, p in model(images).items()}))
"""


def network(part: tuple[str, str], heads: str = "plain", **changes: object) -> keras.Model:
    keras.utils.set_random_seed(1)
    backbone, trainable = part
    structure = {"preprocessing": "unit", "classes": CLASSES, "size": SIZE} | changes
    return network_of(backbone, trainable, heads, **structure)


def photos(number: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (number, size, size, 3), np.uint8)


def part_of(model: keras.Model, layer: str) -> keras.Model:
    return keras.Model(model.input, model.get_layer(layer).output)


# --- preprocessing -----------------------------------------------------------------------


def vggface_pixels(images: np.ndarray) -> np.ndarray:
    return images[..., ::-1] - np.array([93.5940, 104.7624, 129.1863])


def tf_pixels(images: np.ndarray) -> np.ndarray:
    return applications.imagenet_utils.preprocess_input(images, mode="tf")


NATIVE = {
    ("vgg16", "imagenet"): applications.vgg16.preprocess_input,
    ("vgg19", "imagenet"): applications.vgg19.preprocess_input,
    ("resnet50", "imagenet"): applications.resnet50.preprocess_input,
    ("densenet121", "imagenet"): applications.densenet.preprocess_input,
    ("vgg16", "vggface"): vggface_pixels,
    ("vgg16", "none"): tf_pixels,
    ("cnn", "none"): tf_pixels,
}


@pytest.mark.parametrize("of", NATIVE, ids="-".join)
def test_native_pixels_are_those_that_the_weights_learnt_from(of, tmp_path: Path):
    backbone, pretraining = of
    model = network((backbone, "all"), preprocessing="native", weights=pretraining)
    save_network(part_of(model, "native"), tmp_path / "pixels.keras")
    # A part of a network, which load_network refuses.
    part = keras.saving.load_model(tmp_path / "pixels.keras", compile=False, safe_mode=True)
    found = part(photos(2))
    wanted = NATIVE[of](photos(2).astype(np.float32))
    assert np.asarray(found) == pytest.approx(wanted, abs=1e-4)


def test_unit_pixels_reach_the_backbone_between_0_and_1():
    images = np.full((1, SIZE, SIZE, 3), [0, 51, 255], np.uint8)
    pixels = np.asarray(part_of(network(BLOCK5, weights="imagenet"), "unit")(images))
    assert pixels[0, 0, 0] == pytest.approx([0, 0.2, 1])


# --- outputs -----------------------------------------------------------------------------


@pytest.mark.parametrize("heads", ["plain", "ge", "ge_gm", "ge_am"])
def test_each_task_gets_probabilities_of_its_classes(heads: str):
    outputs = network(OWN, heads)(photos(3))
    assert {task: tuple(p.shape) for task, p in outputs.items()} == {
        "age": (3, 5),
        "gender": (3, 2),
        "race": (3, 5),
    }
    for probabilities in outputs.values():
        assert np.all(np.asarray(probabilities) >= 0)
        assert np.asarray(probabilities).sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [33, 48, 100])
def test_other_sizes_fit(size: int):
    outputs = network(OWN, size=size)(photos(2, size))
    assert outputs["race"].shape == (2, 5)


def test_every_task_has_its_own_gate_between_0_and_1():
    model = network(OWN, "ge_gm")
    gates = [np.asarray(part_of(model, f"{task}_gate")(photos(4))) for task in ("age", "race")]
    for gate in gates:
        assert gate.shape == (4, 1)
        assert np.all((gate > 0) & (gate < 1))
    assert not np.allclose(*gates)


def test_every_task_has_its_own_attention_that_sums_to_1():
    model = network(OWN, "ge_am")
    both = [np.asarray(part_of(model, f"{t}_attention")(photos(4))) for t in ("age", "race")]
    for attention in both:
        assert attention.shape == (4, 128)
        assert np.all(attention > 0)
        assert attention.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(*both)


@pytest.mark.parametrize(("heads", "factor"), [("ge_gm", "gate"), ("ge_am", "attention")])
def test_gate_and_attention_act_on_their_own_task_alone(heads: str, factor: str):
    model = network(OWN, heads)
    before = {task: np.asarray(p) for task, p in model(photos(4)).items()}
    kernel, bias = model.get_layer(f"age_{factor}").get_weights()
    # The gate closes; the attention goes to one unit.
    bias[0] = -50 if factor == "gate" else 50
    model.get_layer(f"age_{factor}").set_weights([kernel, bias])
    after = {task: np.asarray(p) for task, p in model(photos(4)).items()}
    assert np.abs(after["age"] - before["age"]).max() > 1e-4
    assert np.array_equal(after["gender"], before["gender"])
    assert np.array_equal(after["race"], before["race"])


@pytest.mark.parametrize("heads", ["ge", "ge_gm", "ge_am"])
def test_the_gender_features_reach_age_and_race(heads: str):
    model = network(OWN, heads)
    before = {task: np.asarray(p) for task, p in model(photos(4)).items()}
    kernel, bias = model.get_layer("gender_hidden").get_weights()
    model.get_layer("gender_hidden").set_weights([kernel, bias + 5])
    for task, after in model(photos(4)).items():
        assert np.abs(np.asarray(after) - before[task]).max() > 1e-4, task


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"heads": "gem"}, "'gem' are not one of"),
        ({"heads": "ge", "classes": {"age": 5, "race": 5}}, "need the tasks age, gender and race"),
        (
            {"backbone": "vgg17"},
            "should be 'cnn', 'vgg16', 'vgg19', 'resnet50', 'densenet121' or 'mobilenet'",
        ),
        ({"preprocessing": "caffe"}, "'caffe' is not one of unit, native"),
        ({"trainable": "block9"}, "'block9': no such block"),
        ({"trainable": "conv"}, "'conv': no such block"),
        ({"weights": "imagenet"}, "weights 'imagenet' of cnn are not one of none$"),
        (
            {"backbone": "vgg16", "weights": "vggface2"},
            "'vggface2' of vgg16 are not one of none, imagenet, vggface$",
        ),
        ({"weights_file": Path("some.h5")}, "some.h5: weights 'none' means random weights"),
        ({"age_head": "decades"}, "'decades' is not one of"),
        ({"age_head": "years"}, "needs the task age and an upper bound for each group"),
        (YEARS | {"classes": {"race": 5}}, "needs the task age and an upper bound"),
    ],
)
def test_an_unknown_part_is_refused(changes: dict[str, object], told: str):
    structure = {"backbone": "cnn", "trainable": "all", "heads": "plain", "size": SIZE}
    structure |= {"preprocessing": "unit", "classes": CLASSES}
    with pytest.raises(ValueError, match=told):
        network_of(**structure | changes)  # type: ignore[arg-type]


def test_a_weights_file_of_another_layout_is_refused_by_its_name_and_layers(tmp_path: Path):
    file = tmp_path / "some.h5"
    write_h5_layers(file, {"block1_conv1": (np.zeros((3, 3, 3, 64)), np.zeros(64))})
    told = r"some\.h5: not the weights of vgg16: lacks the layers block1_conv2, .* and 7 more"
    with pytest.raises(ValueError, match=told):
        network(BLOCK5, weights="imagenet", weights_file=file)


# --- other heads than the published ------------------------------------------------------


def test_the_published_heads_are_the_default():
    names = [w.path for w in network(OWN, "ge").weights if w.path.startswith(tuple(CLASSES))]
    parts = [f"{task}{part}" for part in ("_hidden", "") for task in CLASSES]
    assert sorted(names) == sorted(f"{p}/{w}" for p in parts for w in ("kernel", "bias"))
    assert network(OWN, "ge").get_layer("age_hidden").units == 128


@pytest.mark.parametrize("heads", ["plain", "ge", "ge_gm", "ge_am"])
def test_heads_have_the_given_width(heads: str):
    model = network(OWN, heads, head_width=40)
    single = {*CLASSES, "age_gate", "race_gate"}
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    assert {layer.units for layer in dense if layer.name not in single} == {40}


def test_hidden_features_are_dropped_in_training_alone():
    model = network(OWN, "ge", dropout=0.5)
    hidden, dropped = part_of(model, "race_hidden"), part_of(model, "race_dropout")
    assert np.array_equal(dropped(photos(4)), hidden(photos(4)))
    learning = np.asarray(dropped(photos(4), training=True))
    alive = np.asarray(hidden(photos(4), training=True)) > 0
    assert 0.3 < (learning[alive] == 0).mean() < 0.7
    assert {task: model.get_layer(f"{task}_dropout").rate for task in CLASSES} == dict.fromkeys(
        CLASSES, 0.5
    )


@pytest.mark.parametrize("heads", ["plain", "ge_am"])
def test_age_groups_are_sums_of_their_years(heads: str):
    outputs = network(OWN, heads, **YEARS)(photos(4))
    assert list(outputs) == ["age", "gender", "race", "age_years"]
    years, groups = np.asarray(outputs["age_years"]), np.asarray(outputs["age"])
    assert years.dtype == groups.dtype == np.float32
    assert years.shape == (4, 116)
    assert years.sum(axis=1) == pytest.approx(1, abs=1e-5)
    # Column 0 is year 1, so the first group, up to year 14, is columns 0 to 13.
    assert groups == pytest.approx(np.add.reduceat(years, [0, 14, 25, 40, 60], axis=1), abs=1e-6)


def test_learning_age_groups_moves_the_years_and_not_the_grouping():
    model = network(FROZEN, classes={"age": 5}, **YEARS)
    before = {w.path: w.numpy() for w in model.weights}
    model.compile("adam", {"age": "sparse_categorical_crossentropy"}, run_eagerly=True)
    model.train_on_batch(photos(4), {"age": np.array([0, 1, 2, 3])})
    changed = {w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])}
    layers_changed = {path.split("/")[0] for path in changed}
    assert layers_changed == {"age_hidden", "age_years"}


# --- what learns -------------------------------------------------------------------------


def test_only_block5_and_the_heads_learn():
    names = {w.path.split("/")[0] for w in network(BLOCK5).trainable_weights}
    heads = {f"{task}{part}" for task in CLASSES for part in ("", "_hidden")}
    assert names == heads | {f"block5_conv{n}" for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("part", "heads", "cut"),
    [
        (("vgg16", "none"), "ge_gm", "pooled"),
        (("vgg16", "block4"), "plain", "block3_pool"),
        (("vgg16", "block1"), "plain", None),
        (("cnn", "conv3"), "plain", "conv2_pool"),
        (("densenet121", "conv5"), "ge_am", "pool4_pool"),
    ],
)
def test_a_block_and_all_after_it_learn(part, heads: str, cut: str | None):
    model = network(part, heads)
    assert cut_layer(model) == cut
    names = [layer.name for layer in model.layers]
    learning = {layer.name for layer in model.layers if layer.trainable_weights}
    later = names[names.index(cut) + 1 :] if cut else names
    assert learning == {name for name in later if model.get_layer(name).weights}


def test_a_cut_never_lies_inside_a_branch():
    images = keras.Input((4,))
    stem = layers.Dense(4, name="stem")(images)
    left = layers.Dense(4, name="left", trainable=False)(stem)
    left = layers.Dense(4, name="right")(left)
    model = keras.Model(images, layers.Add(name="sum")([stem, left]))
    model.get_layer("stem").trainable = False
    assert cut_layer(model) == "stem"
    frozen, rest = split_frozen(model)
    assert np.array_equal(rest(frozen(np.ones((2, 4)))), model(np.ones((2, 4))))


def test_what_the_rest_learns_the_whole_has_learnt():
    model = network(FROZEN)
    _, rest = split_frozen(model)
    rest.get_layer("age").set_weights([np.zeros((128, 5)), np.array([0, 0, 50, 0, 0])])
    assert np.asarray(model(photos(2))["age"])[:, 2] == pytest.approx(1)


@pytest.mark.parametrize("part", [OWN, ("vgg16", "all")], ids="-".join)
def test_a_network_that_learns_from_its_first_layer_on_has_no_frozen_part(part):
    assert split_frozen(network(part)) is None


# --- on disk -----------------------------------------------------------------------------


def test_the_same_network_has_the_same_bytes_whenever_it_is_saved(tmp_path: Path):
    first, second = tmp_path / "first.keras", tmp_path / "second.keras"
    save_network(network(OWN, "ge_gm"), first)
    time.sleep(2.1)  # zip files count time in steps of two seconds
    save_network(network(OWN, "ge_gm"), second)
    assert first.read_bytes() == second.read_bytes()
    save_network(network(OWN, "ge_am"), second)
    assert first.read_bytes() != second.read_bytes()


SAVE = """
import sys
from pathlib import Path
from stages.networks import device
device.prepare("cpu", seed=1)
from stages.networks.network import build_network, in_float32, save_network

from stages.core.variants import NetworkSpec

spec = NetworkSpec(backbone="cnn", trainable="all", classes={"gender": 2}, size=32, dropout=0.3)
ballast = [object() for _ in range(int(sys.argv[2]))]  # other places in memory
save_network(in_float32(build_network(spec), spec), Path(sys.argv[1]))
"""


@pytest.mark.long
def test_the_same_network_has_the_same_bytes_in_every_process(tmp_path: Path):
    files = [tmp_path / "one.keras", tmp_path / "two.keras"]
    for number, file in enumerate(files):
        command = [sys.executable, "-c", SAVE, str(file), str(number * 100_000)]
        subprocess.run(command, cwd=TOP, check=True, capture_output=True)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("backbone", ["vgg16", "densenet121"])
def test_no_name_in_a_network_depends_on_what_was_built_before(backbone: str):
    first, second = (
        network((backbone, "none"), preprocessing="native", weights="imagenet", dropout=0.3)
        for _ in range(2)
    )
    assert [o.name for o in first.operations] == [o.name for o in second.operations]


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = network(OWN)

    def cut(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", cut)
    with pytest.raises(OSError, match="disk full"):
        save_network(model, tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


NATIVE_YEARS = {"preprocessing": "native", "weights": "imagenet", "dropout": 0.3} | YEARS


@pytest.mark.long
@pytest.mark.parametrize(("part", "changes"), [(OWN, {}), (FROZEN, NATIVE_YEARS)])
def test_a_saved_network_needs_keras_alone(part, changes: dict[str, object], tmp_path: Path):
    file, images = tmp_path / "model.keras", tmp_path / "images.npy"
    model = network(part, "ge_am", **changes)
    save_network(model, file)
    np.save(images, photos(2))
    command = [sys.executable, "-I", "-c", LOAD_ALONE, str(file), str(images)]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    alone = json.loads(done.stdout.splitlines()[-1])
    for task, values in model(photos(2)).items():
        assert np.array(alone[task]) == pytest.approx(np.asarray(values), abs=1e-6)


@pytest.mark.parametrize("heads", ["plain", "ge", "ge_gm", "ge_am"])
def test_a_saved_network_holds_parts_of_keras_alone_and_no_code(heads: str, tmp_path: Path):
    model = network(FROZEN, heads, **NATIVE_YEARS)
    save_network(model, tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    modules, classes = set(), set()

    def visit(node: object) -> None:
        if isinstance(node, dict):
            if "class_name" in node:
                classes.add(node["class_name"])
                modules.add(str(node.get("module")).split(".")[0])
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                visit(child)

    visit(config)
    assert "Dense" in classes
    assert not {name for name in classes if "lambda" in name.lower()}
    assert modules <= {"keras", "builtins", "None"}


# --- averages ----------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_an_average_gives_the_mean_of_its_members_and_views(flip: bool, tmp_path: Path):
    members = [network(OWN, "plain", **YEARS), network(("vgg16", "none"), "ge", **YEARS)]
    images = photos(3)
    views = [images, images[:, :, ::-1]] if flip else [images]
    wanted = {
        name: np.mean([np.asarray(m(view)[name]) for m in members for view in views], axis=0)
        for name in members[0].output
    }
    save_network(average_network(members, flip), tmp_path / "average.keras")
    for name, values in load_network(tmp_path / "average.keras")(images).items():
        np.testing.assert_allclose(values, wanted[name], rtol=1e-5, err_msg=name)


def test_an_average_of_networks_with_other_outputs_is_refused():
    with pytest.raises(ValueError, match="need the same input and outputs"):
        average_network([network(OWN), network(OWN, **YEARS)], flip=False)


def test_an_average_has_the_same_bytes_whenever_it_is_built(tmp_path: Path):
    files = [tmp_path / "one.keras", tmp_path / "two.keras"]
    for file in files:
        save_network(average_network([network(OWN), network(OWN, "ge")], flip=True), file)
    assert files[0].read_bytes() == files[1].read_bytes()
