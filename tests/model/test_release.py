"""The model of the package: what is refused, what is written, and that it answers by itself."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from stages.acquisition.portraits import draw_portrait
from stages.commands import release as release_command
from stages.core.errors import UserError
from stages.core.files import CHECKSUMS, digest, write_json
from stages.core.paths import RunPaths
from stages.dataset.examples import LabelledFaces
from stages.inference import release
from stages.inference.exports import write_onnx
from stages.inference.models import RELEASED, Model, find_model, open_model
from stages.inference.onnx_network import OnnxNetwork
from stages.inference.release import halve, refuse_unfit, write_released
from stages.networks.prediction import predict_rows

pytest.importorskip("tf2onnx", reason="NOT TESTED: a release needs tf2onnx, of the extra export")

TOP = Path(__file__).parents[2]
# What the light installation lacks; import of it would fail there.
HEAVY = "tensorflow keras pandas scipy sklearn dvc dvclive ruamel tomlkit gdown altair jinja2"


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    generator = np.random.default_rng(6)
    faces = [draw_portrait(5 + 4 * i, i % 2, i % 5, generator) for i in range(24)]
    return np.stack(faces)[:, 50:150, 50:150]


@pytest.fixture
def model(small_model: Path) -> Model:
    """As if it had learnt from real faces."""
    found = open_model(small_model)
    spec = found.input_spec.model_copy(update={"trained_on": "utkface-aligned"})
    return replace(found, input_spec=spec)


def examples(model: Model, crops: np.ndarray) -> LabelledFaces:
    """Images whose labels are what the network says of all but the first two."""
    rows = np.arange(len(crops))
    outputs = predict_rows(model.network, crops, rows, 64)
    labels = {task: values.argmax(axis=1) for task, values in outputs.items()}
    for values in labels.values():
        values[:2] = (values[:2] + 1) % 2
    names = [f"{i}.jpg" for i in rows]
    return LabelledFaces(crops, names, rows, labels, rows + 1)


def metrics(model: Model, accuracy: float = 22 / 24) -> dict[str, dict[str, float]]:
    return {task: {"accuracy": accuracy} for task in model.classes}


def test_a_released_file_answers_as_the_network_with_half_the_bytes(
    model: Model, crops: np.ndarray, tmp_path: Path
):
    found = write_released(model, tmp_path / "model.onnx", examples(model, crops), metrics(model))
    again = open_model(tmp_path / "model.onnx")
    assert (again.name, again.input_spec) == (model.name, model.input_spec)
    assert again.calibration == model.calibration
    write_onnx(model.network, tmp_path / "whole.onnx", {})
    whole = (tmp_path / "whole.onnx").stat().st_size
    assert (tmp_path / "model.onnx").stat().st_size < 0.6 * whole
    ours = again.network.predict_on_batch(crops)
    for task, values in model.network.predict_on_batch(crops).items():
        assert ours[task] == pytest.approx(np.asarray(values), abs=0.02)
        assert found[task]["keras_accuracy"] == pytest.approx(22 / 24, abs=1e-6)


def test_halved_arrays_are_the_large_ones_of_single_precision(tmp_path: Path, model: Model):
    write_onnx(model.network, tmp_path / "n.onnx", {"a": "b"})
    before = {i.name: i for i in onnx.load(tmp_path / "n.onnx").graph.initializer}
    halve(tmp_path / "n.onnx")
    after = onnx.load(tmp_path / "n.onnx")
    assert [(p.key, p.value) for p in after.metadata_props] == [("a", "b")]
    halves = {i.name for i in after.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16}
    large = {
        f"{name}_half"
        for name, array in before.items()
        if array.data_type == onnx.TensorProto.FLOAT and np.prod(array.dims) >= 1024
    }
    assert halves == large != set()


def test_a_file_that_does_not_hold_is_not_written(model, crops, tmp_path: Path, monkeypatch):
    test, path = examples(model, crops), tmp_path / "model.onnx"
    with pytest.raises(UserError, match=r"metrics\.json says 0\.5 of \w+, the network has 0\.91"):
        write_released(model, path, test, metrics(model, 0.5))
    with monkeypatch.context() as patch:
        patch.setattr(release, "LARGEST_MEGABYTES", 0.1)
        with pytest.raises(UserError, match=r"MB are more than 0\.1"):
            write_released(model, path, test, metrics(model))
    worse = {task: np.zeros_like(labels) for task, labels in test.labels.items()}
    outputs = {task: np.eye(model.classes[task])[values] for task, values in worse.items()}
    monkeypatch.setattr(OnnxNetwork, "predict_on_batch", lambda _, __: outputs)
    with pytest.raises(UserError, match=r"the accuracy of \w+ falls from 0\.91"):
        write_released(model, path, test, metrics(model))
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_refused_that_the_audit_or_the_calibration_does_not_clear(model: Model):
    clean, runs = {"leaks": 0}, [model.name]
    refuse_unfit(model, clean, runs)
    drawn = model.input_spec.model_copy(update={"trained_on": "demo"})
    assert model.calibration is not None
    mirrored = model.calibration.model_copy(update={"flip_tta": True})
    for other, audit, listed, fault in (
        (replace(model, input_spec=drawn), clean, runs, "drawn portraits"),
        (replace(model, calibration=None), clean, runs, "not calibrated"),
        (replace(model, calibration=mirrored), clean, runs, "flip_tta"),
        (model, {"leaks": 3}, runs, "counts 3 leaks"),
        (model, clean, ["mtl-cnn"], "not in runs"),
    ):
        with pytest.raises(UserError, match=fault):
            refuse_unfit(other, audit, listed)


def test_a_run_without_a_card_of_its_own_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["release", "mtl-cnn+seed-2"])
    with pytest.raises(UserError, match=r"only variants and averages .* the only member"):
        release_command.main()


def test_a_network_from_elsewhere_has_no_history(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = RunPaths("mtl-cnn")
    files.network.parent.mkdir(parents=True)
    files.network.write_bytes(b"network")
    network = {files.network.name: digest(files.network)}
    nothing = network | {"commit": None, "changed": None}
    assert release_command.history_of(files) == nothing
    write_json(files.history, network | {"commit": "c" * 40, "changed": []})
    assert release_command.history_of(files)["commit"] == "c" * 40
    files.network.write_bytes(b"another, of which that commit says nothing")
    found = release_command.history_of(files)
    assert found == nothing | {files.network.name: digest(files.network)}


def test_the_package_has_a_whole_model_of_real_faces():
    folder = RELEASED.parent
    lines = (folder / CHECKSUMS).read_text().splitlines()
    sums = {name: value for value, name in (line.split("  ") for line in lines)}
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != CHECKSUMS}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == sums
    assert set(files) == {"LICENCE.txt", "card.md", "model.onnx", "provenance.json"}
    assert len(files["model.onnx"]) < 15e6
    model = open_model(RELEASED)
    assert model.cautions == []
    assert model.input_spec.trained_on != "demo"
    facts = json.loads(files["provenance.json"])
    assert facts["run"] == model.name
    assert facts["history"]["commit"]
    for task in ("age", "gender", "race"):
        assert facts["released"][task]["accuracy"] >= facts["metrics"][task]["accuracy"] - 0.003
    assert "non-commercial" in files["LICENCE.txt"].decode()


def test_predict_answers_by_the_released_model_where_nothing_else_is_installed(
    mobilenet_weights: Path, tmp_path: Path
):
    generator = np.random.default_rng(8)
    Image.fromarray(draw_portrait(30, 1, 2, generator)).save(tmp_path / "photo.png")
    block = (
        f"import runpy, sys; sys.modules |= dict.fromkeys({HEAVY.split()!r}); "
        "sys.argv[0] = 'utkface-mtl'; runpy.run_module('stages.commands', run_name='__main__')"
    )
    answers = []
    named = ("--model", str(RELEASED))
    for options in ((), ("--calibrated",), ("--model", "released"), named, ("--flip-tta",)):
        done = subprocess.run(
            [
                *(sys.executable, "-c", block, "predict", "photo.png", *options),
                *("--detector", str(mobilenet_weights)),
            ],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(TOP)},
            text=True,
            capture_output=True,
            check=False,
        )
        warned = "caution: released: With --flip-tta its probabilities are not calibrated.\n"
        assert (done.returncode, done.stderr) == (0, warned * (options == ("--flip-tta",)))
        answers.append(json.loads(done.stdout))
    default, *others, mirrored = answers
    assert len(default["faces"]) == 1
    assert set(default["faces"][0]) == {"score", "box", "age", "gender", "race"}
    assert "cautions" not in default
    assert others == [default] * 3
    assert mirrored != default


@pytest.mark.parametrize("verb", ["export", "variants", "tune", "verify", "forget", "score"])
def test_a_verb_says_what_the_light_installation_lacks(verb: str):
    block = (
        f"import sys; sys.modules |= dict.fromkeys({HEAVY.split()!r}); "
        f"sys.argv = ['utkface-mtl', {verb!r}, '--help']; "
        "from stages.commands.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", block], cwd=TOP, text=True, capture_output=True)
    extra = "export,train" if verb == "export" else "train"
    if done.returncode:
        assert re.fullmatch(
            rf"error: {verb} needs [\w.]+: pip install '\.\[{extra}\]'\n", done.stderr
        )
    else:
        assert (verb, done.stderr) == ("export", "")


def test_a_model_is_called_by_its_label_path_or_run(small_model: Path, monkeypatch):
    monkeypatch.chdir(small_model.parents[1])
    assert find_model(None) == find_model("released") == RELEASED
    for name in ("small", "models/small", "models/small/model.keras"):
        assert find_model(name).resolve() == small_model
    assert find_model(str(RELEASED)) == RELEASED
    with pytest.raises(UserError, match=r"models/smal: no model; .* available: released, models/s"):
        open_model(find_model("smal"))
    assert OnnxNetwork(RELEASED, "cpu").size == 100
