"""Models in other formats: how near to Keras, and used where TensorFlow cannot be imported."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from PIL import Image

from stages.acquisition.portraits import draw_portrait
from stages.commands import export
from stages.core.errors import UserError
from stages.core.files import write_csv
from stages.core.sections import TASKS
from stages.faces.index import Row, write_faces
from stages.inference import exports
from stages.inference.face_extraction import face_extractor
from stages.inference.inputs import read_inputs
from stages.inference.models import METADATA, open_detector, open_model
from stages.inference.onnx_network import OnnxNetwork
from stages.inference.predictions import as_record, predict_stream
from stages.inference.saliency import heat_of
from stages.networks.network import load_network
from tests.settings import limits

for package in ("tf2onnx", "ai_edge_litert", "flatbuffers"):
    pytest.importorskip(package, reason=f"NOT TESTED: exports need {package}, of the extra export")

TOP = Path(__file__).parents[2]
IMAGES = 24
CAUTION = "It was trained on drawn portraits: its answers for real faces are wrong."
WITHOUT_TENSORFLOW = (
    "import runpy, sys; "
    "sys.modules |= dict.fromkeys(('tensorflow', 'keras', 'tf2onnx', {})); "
    "sys.argv[0] = 'utkface-mtl'; runpy.run_module('stages.commands', run_name='__main__')"
)


@pytest.fixture(scope="module")
def workspace(small_model: Path, mobilenet_weights: Path) -> Path:
    """The workspace of the small model, with images and what node export makes of them."""
    top, generator = small_model.parents[1], np.random.default_rng(6)
    rows, crops = [], []
    for i in range(IMAGES):
        age, gender, race = 5 + 4 * i, i % 2, i % 5
        rows.append(Row(f"{age}_{gender}_{race}_{i}.png", "a.tar", "cropped", age, gender, race))
        crops.append(draw_portrait(age, gender, race, generator)[50:150, 50:150])
    faces = top / "data/faces"
    write_faces(zip(rows, crops, strict=True), faces / "index.csv", faces / "crops.npy", 100)
    sides = {side: [int(i % 3 == n) for i in range(IMAGES)] for n, side in enumerate(SIDES)}
    lists = pd.DataFrame({"name": [row.name for row in rows], **sides})
    write_csv(top / "data/lists/small.csv", lists)
    (top / "data/pretrained").mkdir()
    (top / "data/pretrained/retinaface-mobilenet0.25.onnx").symlink_to(mobilenet_weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        patch.setattr(exports, "SPEED_SECONDS", 0.1)
        patch.setattr(sys, "argv", ["export", "small"])
        export.main()
    return top


SIDES = ("train", "val", "test")


@pytest.mark.parametrize(("form", "near"), [("onnx", 1e-5), ("float16", 0.02), ("int8", 0.3)])
def test_each_copy_is_compared_with_keras_on_the_test_images(form, near, workspace: Path):
    file = workspace / "exports/small" / exports.FILES[form].format("small")
    facts = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert facts["megabytes"] == round(file.stat().st_size / 1e6, 3)
    assert (facts["run"], facts["file"], facts["images"]) == ("small", file.name, IMAGES // 3)
    assert min(facts["images_per_second"], facts["keras_images_per_second"]) > 0

    crops = np.load(workspace / "data/faces/crops.npy")[2::3]
    keras = load_network(workspace / "models/small/model.keras").predict_on_batch(crops)
    if form == "onnx":
        found = OnnxNetwork(file).predict_on_batch(crops)
    else:
        from stages.inference.tflite_network import TfliteNetwork

        found = TfliteNetwork(file).predict_on_batch(crops)
    truth = {"gender": np.arange(2, IMAGES, 3) % 2, "race": np.arange(2, IMAGES, 3) % 5}
    for task in TASKS:
        furthest = np.abs(found[task] - keras[task]).max()
        assert facts[task]["max_difference"] == pytest.approx(furthest, rel=0.01)
        assert furthest < near
        same = (found[task].argmax(1) == keras[task].argmax(1)).mean()
        assert facts[task]["agreement"] == pytest.approx(same, abs=1e-6)
    for task, labels in truth.items():
        right = (found[task].argmax(1) == labels).mean()
        assert facts[task]["accuracy"] == pytest.approx(right, abs=1e-6)


def test_the_copies_take_bytes_of_any_number_of_images(workspace: Path):
    graph = onnx.load(workspace / "exports/small/small.onnx").graph
    (image,) = graph.input
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == [
        *("images", 100, 100, 3)
    ]
    assert {output.name for output in graph.output} == set(TASKS)


def test_another_process_writes_the_same_onnx_file(workspace: Path, tmp_path: Path):
    for name in ("params.yaml", "data", "models"):
        (tmp_path / name).symlink_to(workspace / name)
    words = [*("-m", "stages.commands", "export", "small"), "--formats", "onnx"]
    # tf2onnx numbers names in the order of sets.
    own = os.environ | {"PYTHONPATH": str(TOP), "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, *words], cwd=tmp_path, env=own, check=True, capture_output=True)
    file = Path("exports/small/small.onnx")
    assert (tmp_path / file).read_bytes() == (workspace / file).read_bytes()


def test_eight_bits_are_smaller_than_sixteen_and_these_than_the_network(workspace: Path):
    folder = workspace / "exports/small"
    sizes = [
        (folder / exports.FILES[form].format("small")).stat().st_size for form in exports.FILES
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.35 * sizes[0]


def test_models_are_left_as_dvc_knows_them(workspace: Path):
    assert {path.name for path in (workspace / "models/small").iterdir()} == {
        *("preprocessor_config.json", "model.keras")
    }
    assert (workspace / "exports/small/preprocessor_config.json").read_text() == (
        workspace / "models/small/preprocessor_config.json"
    ).read_text()


def test_the_onnx_file_alone_predicts_without_tensorflow(
    workspace: Path, mobilenet_weights: Path, tmp_path: Path
):
    generator = np.random.default_rng(8)
    for i in range(3):
        Image.fromarray(draw_portrait(20 + 20 * i, i % 2, i, generator)).save(tmp_path / f"{i}.png")

    words = ["predict", str(tmp_path), "--model", "exports/small/small.onnx", "--calibrated"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW.format("'ai_edge_litert'"), *words],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        text=True,
        capture_output=True,
        check=False,
    )
    # Not a terminal, so no progress bar.
    assert done.stderr == f"caution: exports/small/small.onnx: {CAUTION}\n"
    found = [json.loads(line) for line in done.stdout.splitlines()]

    model = open_model(workspace / "models/small")
    extract = face_extractor(model.input_spec, open_detector(model, mobilenet_weights))
    images = map(extract, read_inputs([str(tmp_path)], limits(10**6, 1 << 34, 10**6), io.BytesIO()))
    predictions = list(predict_stream(images, model, 64, calibrated=True))
    assert len(found) == len(predictions) == 3
    for record, each in zip(found, predictions, strict=True):
        (face,), (same,) = record["faces"], as_record(each, model)["faces"]
        assert (face["box"], face["score"]) == (same["box"], same["score"])
        for task in TASKS:
            assert face[task]["class"] == same[task]["class"]
            chances, others = (list(f[task]["probabilities"].values()) for f in (face, same))
            np.testing.assert_allclose(chances, others, atol=1e-5)


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_a_tflite_file_agrees_as_its_json_states_without_tensorflow(
    form, workspace: Path, tmp_path: Path
):
    crops = np.load(workspace / "data/faces/crops.npy")[2::3]
    for i, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / f"{i}.png")
    file = workspace / "exports/small" / exports.FILES[form].format("small")
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_TENSORFLOW.format("'tf_keras'"), "predict"),
            *(str(tmp_path), "--no-detect", "--model", str(file)),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stderr == f"caution: {file}: {CAUTION}\n"
    facts = json.loads(file.with_name(f"{file.name}.json").read_text())
    keras = load_network(workspace / "models/small/model.keras").predict_on_batch(crops)
    found = [json.loads(line)["faces"][0] for line in done.stdout.splitlines()]
    for task in TASKS:
        chances = np.array([list(face[task]["probabilities"].values()) for face in found])
        furthest = np.abs(chances - keras[task]).max()
        assert furthest == pytest.approx(facts[task]["max_difference"], rel=0.02, abs=1e-5)


def test_a_tflite_file_knows_its_temperatures_and_what_it_is_fed_with(workspace: Path):
    model = open_model(workspace / "exports/small/small.int8.tflite")
    folder = open_model(workspace / "models/small")
    assert (model.name, model.input_spec) == ("small", folder.input_spec)
    assert model.calibration == folder.calibration is not None
    assert not model.tells_years


def test_a_tflite_file_without_what_lies_beside_it_is_refused(workspace: Path, tmp_path: Path):
    origin, copy = workspace / "exports/small/small.int8.tflite", tmp_path / "small.int8.tflite"
    copy.write_bytes(origin.read_bytes())
    about = tmp_path / "small.int8.tflite.json"
    with pytest.raises(UserError, match=r"small\.int8\.tflite\.json: missing"):
        open_model(copy)
    about.write_text('{"run": "small"}')
    with pytest.raises(UserError, match=r"json: calibration: Field required"):
        open_model(copy)
    about.write_text((origin.with_name(about.name)).read_text())
    with pytest.raises(UserError, match=r"preprocessor_config\.json: missing"):
        open_model(copy)
    (tmp_path / "preprocessor_config.json").write_text(
        (origin.parent / "preprocessor_config.json").read_text()
    )
    copy.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"small\.int8\.tflite: not a TFLite file"):
        open_model(copy)


def test_a_tflite_file_with_an_operation_of_tensorflow_is_refused(workspace: Path, tmp_path: Path):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    origin = workspace / "exports/small/small.float16.tflite"
    for beside in (f"{origin.name}.json", "preprocessor_config.json"):
        shutil.copy(origin.with_name(beside), tmp_path)
    content = schema.ModelT.InitFromPackedBuf(origin.read_bytes())
    code = content.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"FlexWriteFile"
    builder = flatbuffers.Builder()
    builder.Finish(content.Pack(builder), b"TFL3")
    (tmp_path / origin.name).write_bytes(builder.Output())
    with pytest.raises(UserError, match=r"tflite: not a TFLite file that can be run: .*Flex"):
        open_model(tmp_path / origin.name)


def test_a_tflite_file_of_several_graphs_is_refused(workspace: Path, tmp_path: Path):
    """A loop, which may never end, is an operation that calls another graph of the file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    origin = workspace / "exports/small/small.float16.tflite"
    for beside in (f"{origin.name}.json", "preprocessor_config.json"):
        shutil.copy(origin.with_name(beside), tmp_path)
    content = schema.ModelT.InitFromPackedBuf(origin.read_bytes())
    content.subgraphs.append(content.subgraphs[0])
    builder = flatbuffers.Builder()
    builder.Finish(content.Pack(builder), b"TFL3")
    (tmp_path / origin.name).write_bytes(builder.Output())
    with pytest.raises(UserError, match=r"tflite: not a TFLite file that can be run: has 2 graphs"):
        open_model(tmp_path / origin.name)


def test_a_copy_whose_last_task_is_not_a_number_is_not_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    real = OnnxNetwork.predict_on_batch

    def broken(network: OnnxNetwork, x: np.ndarray) -> dict[str, np.ndarray]:
        found = real(network, x)
        return found | {list(found)[-1]: np.full_like(list(found.values())[-1], np.nan)}

    monkeypatch.chdir(workspace)
    monkeypatch.setattr(OnnxNetwork, "predict_on_batch", broken)
    monkeypatch.setattr(export, "EXPORTS", Path("other"))
    monkeypatch.setattr(sys, "argv", ["export", "small", "--formats", "onnx"])
    with pytest.raises(UserError, match="a probability differs by nan from Keras's"):
        export.main()
    assert not any(Path("other").rglob("*.*"))


def test_the_saliency_of_a_tflite_file_is_computed_by_occlusion(workspace: Path):
    model = open_model(workspace / "exports/small/small.float16.tflite")
    crop = np.load(workspace / "data/faces/crops.npy")[2]
    heat = heat_of(model.network, crop, "gender", 0)
    own = heat_of(OnnxNetwork(workspace / "exports/small/small.onnx"), crop, "gender", 0)
    np.testing.assert_allclose(heat, own, atol=0.05)


def test_a_model_folder_without_tensorflow_is_a_clear_error(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(UserError, match="models/small: needs TensorFlow"):
        open_model(workspace / "models/small")


def test_an_onnx_file_that_does_not_say_how_it_is_fed_is_refused(workspace: Path, tmp_path: Path):
    model = onnx.load(workspace / "exports/small/small.onnx")
    (about,) = model.metadata_props
    assert about.key == METADATA
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "mute.onnx")
    with pytest.raises(UserError, match=r"mute\.onnx: contains no input spec"):
        open_model(tmp_path / "mute.onnx")
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"no\.onnx: not an ONNX file"):
        open_model(tmp_path / "no.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.pop("run"), "run: Field required"),
        (lambda about: about.update(run=["small"]), "run: Input should be a valid string"),
        (lambda about: about["calibration"].update(temperatures="abc"), "calibration.temperatures"),
        (lambda about: about["calibration"]["temperatures"].update(gender=0), "greater than 0"),
        (lambda about: about["calibration"]["temperatures"].update(nope=1), "'age', 'gender' or"),
        (lambda about: about.pop("input_spec"), "contains no input spec"),
        (lambda about: about["input_spec"].pop("tasks"), "tasks: Field required"),
        (lambda about: about["input_spec"]["classes"]["gender"].append("x"), "gender must list 2"),
        (lambda about: about["input_spec"].update(tasks=["gender", "age"]), None),
        (lambda about: about["input_spec"]["detect"].update(size=64), "takes 100 px"),
        (lambda about: about["input_spec"]["classes"].update(gender=["=1+1", "b"]), "gender.0"),
    ],
    ids=[
        *("no run", "no name", "no temperatures", "a temperature of 0", "of no task"),
        *("no input_spec", "no tasks", "a class more", "fewer tasks"),
        *("another size", "a formula"),
    ],
)
def test_an_onnx_file_with_invalid_metadata_is_refused(
    workspace: Path, tmp_path: Path, change: Callable[[dict], object], message: str | None
):
    graph = onnx.load(workspace / "exports/small/small.onnx")
    entry = next(e for e in graph.metadata_props if e.key == METADATA)
    about = json.loads(entry.value)
    change(about)
    entry.value = json.dumps(about)
    onnx.save(graph, tmp_path / "small.onnx")
    if message is None:
        assert open_model(tmp_path / "small.onnx").input_spec.tasks == ["gender", "age"]
        return
    with pytest.raises(UserError, match=message):
        open_model(tmp_path / "small.onnx")


def test_an_onnx_file_of_other_types_or_ranks_is_refused(tmp_path: Path):
    def written(path: Path, kind: int, rank: int) -> Path:
        """A graph that takes images of a type and gives its flat image, or one number."""
        image = onnx.helper.make_tensor_value_info("image", kind, ["n", 8, 8, 3])
        nodes = [
            onnx.helper.make_node("Cast", ["image"], ["x"], to=onnx.TensorProto.FLOAT),
            *(
                [onnx.helper.make_node("Flatten", ["x"], ["age"])]
                if rank
                else [onnx.helper.make_node("Reshape", ["x", "no"], ["age"])]
            ),
        ]
        shape = ["n", 192] if rank else []
        age = onnx.helper.make_tensor_value_info("age", onnx.TensorProto.FLOAT, shape)
        none = onnx.helper.make_tensor("no", onnx.TensorProto.INT64, [0], [])
        graph = onnx.helper.make_graph(nodes, "g", [image], [age], [none])
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)
        return path

    assert OnnxNetwork(written(tmp_path / "a.onnx", onnx.TensorProto.UINT8, 2)).classes == {
        "age": 192
    }
    with pytest.raises(UserError, match=r"tensor\(float\) of shape \[\] as age"):
        OnnxNetwork(written(tmp_path / "b.onnx", onnx.TensorProto.UINT8, 0))
    with pytest.raises(UserError, match=r"takes tensor\(float\), not images of type"):
        OnnxNetwork(written(tmp_path / "c.onnx", onnx.TensorProto.FLOAT, 2))


def test_an_onnx_file_of_other_outputs_or_inputs_is_refused(workspace: Path, tmp_path: Path):
    for kind, message in (("output", "5 classes of age, but it gives nothing"), ("input", "takes")):
        graph = onnx.load(workspace / "exports/small/small.onnx")
        values = getattr(graph.graph, kind)
        value = next(v for v in values if v.name in ("age", "image"))
        for node in graph.graph.node:
            for names in (node.input, node.output):
                names[:] = ["other" if name == value.name else name for name in names]
        value.name = "other"
        onnx.save(graph, tmp_path / "other.onnx")
        with pytest.raises(UserError, match=message):
            open_model(tmp_path / "other.onnx")


def test_8_bits_that_tell_other_classes_are_not_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(workspace)
    monkeypatch.setitem(exports.LOWEST_AGREEMENT, "int8", 1.01)
    monkeypatch.setattr(export, "EXPORTS", Path("other"))
    monkeypatch.setattr(sys, "argv", ["export", "small", "--formats", "int8"])
    with pytest.raises(UserError, match=r"agrees with Keras on the age of .* not kept"):
        export.main()
    assert not any(Path("other").rglob("*.*"))


def test_a_copy_that_is_too_far_from_keras_is_not_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(workspace)
    monkeypatch.setitem(exports.LARGEST, "onnx", 0.0)
    monkeypatch.setattr(export, "EXPORTS", Path("other"))
    monkeypatch.setattr(sys, "argv", ["export", "small", "--formats", "onnx"])
    with pytest.raises(UserError, match=r"a probability differs by .* not kept"):
        export.main()
    assert not any(Path("other").rglob("*.*"))
