"""Networks: their size, what learns in them, what their heads give, how they are saved."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from stages.learning.network import build_network, divide, load_network, save_network
from stages.reporting.comparison import PUBLISHED

CLASSES = {"age": 5, "gender": 2, "race": 5}
SIZE = 32
FROZEN, BLOCK5 = ("vgg16", "none"), ("vgg16", "block5")
OWN = ("cnn", "all")

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
    return build_network(backbone, trainable, heads, **structure)


def photos(number: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (number, size, size, 3), np.uint8)


def targets(model: keras.Model, number: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(6)
    return {t: generator.integers(0, CLASSES[t], number) for t in model.output}


def part_of(model: keras.Model, layer: str) -> keras.Model:
    return keras.Model(model.input, model.get_layer(layer).output)


def count(weights: list) -> int:
    return sum(int(np.prod(w.shape)) for w in weights)


# --- size --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "part", "heads"),
    [
        ("mtl-vgg16-imagenet-frozen", FROZEN, "plain"),
        ("mtl-vgg16-imagenet-block5", BLOCK5, "plain"),
        ("mtl-vgg16-imagenet-block5-ge", BLOCK5, "ge"),
        ("mtl-vgg16-imagenet-block5-ge-gm", BLOCK5, "ge_gm"),
        ("mtl-vgg16-imagenet-block5-ge-am", BLOCK5, "ge_am"),
        ("mtl-vgg16-imagenet-full", ("vgg16", "all"), "plain"),
    ],
)
def test_a_network_is_as_large_as_the_published_one(variant: str, part, heads: str):
    published = pd.read_csv(PUBLISHED, index_col="variant").loc[variant]
    model = network(part, heads)
    assert count(model.weights) == published["total_params"]
    assert count(model.trainable_weights) == published["trainable_params"]


@pytest.mark.parametrize("task", ["age", "gender"])
def test_a_network_of_one_task_is_as_large_as_the_published_one(task: str):
    published = pd.read_csv(PUBLISHED, index_col="variant")
    model = network(BLOCK5, classes={task: CLASSES[task]})
    row = published.loc[f"stl-vgg16-imagenet-block5-{task}"]
    assert count(model.weights) == row["total_params"]
    assert count(model.trainable_weights) == row["trainable_params"]


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


def test_pixels_reach_the_backbone_between_0_and_1():
    images = np.full((1, SIZE, SIZE, 3), [0, 51, 255], np.uint8)
    pixels = np.asarray(part_of(network(BLOCK5), "unit")(images))
    assert pixels[0, 0, 0] == pytest.approx([0, 0.2, 1])


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
        ({"backbone": "vgg17"}, "'vgg17' is not one of cnn, vgg16"),
        ({"preprocessing": "caffe"}, "'caffe' is not one of unit"),
        ({"trainable": "block9"}, "'block9': no such block"),
    ],
)
def test_an_unknown_part_is_refused(changes: dict[str, object], told: str):
    structure = {"backbone": "cnn", "trainable": "all", "heads": "plain", "size": SIZE}
    structure |= {"preprocessing": "unit", "classes": CLASSES}
    with pytest.raises(ValueError, match=told):
        build_network(**structure | changes)


# --- what learns -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "heads", "learning"),
    [(FROZEN, "plain", ()), (BLOCK5, "ge_am", ("block5",)), (OWN, "ge_gm", ("conv",))],
    ids=str,
)
def test_the_frozen_part_never_learns_and_the_rest_does_at_once(part, heads: str, learning):
    model = network(part, heads)
    losses = dict.fromkeys(model.output, "sparse_categorical_crossentropy")
    model.compile("adam", losses, run_eagerly=True)  # one step is not worth compiling
    before = {w.path: w.numpy() for w in model.weights}
    model.train_on_batch(photos(8), targets(model, 8))
    changed = {w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])}
    # The CNN's batch norm follows its statistics without learning them.
    assert changed == {path for path in before if path.startswith((*learning, *CLASSES))}


def test_only_block5_and_the_heads_learn():
    names = {w.path.split("/")[0] for w in network(BLOCK5).trainable_weights}
    heads = {f"{task}{part}" for task in CLASSES for part in ("", "_hidden")}
    assert names == heads | {f"block5_conv{n}" for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("part", "heads", "border"),
    [(FROZEN, "plain", (512,)), (FROZEN, "ge_gm", (512,)), (BLOCK5, "ge_am", (2, 2, 512))],
)
def test_frozen_part_and_rest_make_the_whole(part, heads: str, border: tuple[int, ...]):
    model = network(part, heads)
    frozen, rest = divide(model)
    assert frozen.output.shape[1:] == border
    assert frozen.trainable_weights == []
    assert {w.path for w in rest.trainable_weights} == {w.path for w in model.trainable_weights}
    assert count(frozen.weights) + count(rest.weights) == count(model.weights)
    whole, joined = model(photos(3)), rest(frozen(photos(3)))
    for task in CLASSES:
        assert np.asarray(joined[task]) == pytest.approx(np.asarray(whole[task]), abs=1e-6)


def test_what_the_rest_learns_the_whole_has_learnt():
    model = network(FROZEN)
    _, rest = divide(model)
    rest.get_layer("age").set_weights([np.zeros((128, 5)), np.array([0, 0, 50, 0, 0])])
    assert np.asarray(model(photos(2))["age"])[:, 2] == pytest.approx(1)


@pytest.mark.parametrize("part", [OWN, ("vgg16", "all")], ids="-".join)
def test_a_network_that_learns_from_its_first_layer_on_has_no_frozen_part(part):
    assert divide(network(part)) is None


# --- on disk -----------------------------------------------------------------------------


def test_a_saved_network_comes_back_with_the_same_predictions(tmp_path: Path):
    model = network(BLOCK5, "ge_gm")
    save_network(model, tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    again = load_network(tmp_path / "model.keras")
    before, after = model(photos(3)), again(photos(3))
    assert list(after) == list(before)
    for task in before:
        assert np.array_equal(after[task], before[task])


def test_the_same_network_has_the_same_bytes_whenever_it_is_saved(tmp_path: Path):
    first, second = tmp_path / "first.keras", tmp_path / "second.keras"
    save_network(network(OWN, "ge_gm"), first)
    time.sleep(2.1)  # zip files count time in steps of two seconds
    save_network(network(OWN, "ge_gm"), second)
    assert first.read_bytes() == second.read_bytes()
    save_network(network(OWN, "ge_am"), second)
    assert first.read_bytes() != second.read_bytes()


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = network(OWN)

    def cut(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", cut)
    with pytest.raises(OSError, match="disk full"):
        save_network(model, tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_network_needs_keras_alone(tmp_path: Path):
    file, images = tmp_path / "model.keras", tmp_path / "images.npy"
    model = network(OWN, "ge_am")
    save_network(model, file)
    np.save(images, photos(2))
    command = [sys.executable, "-I", "-c", LOAD_ALONE, str(file), str(images)]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    alone = json.loads(done.stdout.splitlines()[-1])
    for task, values in model(photos(2)).items():
        assert np.array(alone[task]) == pytest.approx(np.asarray(values), abs=1e-6)


@pytest.mark.parametrize("heads", ["plain", "ge", "ge_gm", "ge_am"])
def test_a_saved_network_holds_layers_of_keras_alone_and_no_code(heads: str, tmp_path: Path):
    save_network(network(OWN, heads), tmp_path / "model.keras")
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
