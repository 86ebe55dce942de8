"""ONNX files that loop for ever, want any memory, or whose outputs are no probabilities."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from specs import network_of

from stages.acquisition.portraits import draw_portrait
from stages.core.errors import UserError
from stages.core.params import load_params
from stages.formats.untrusted import OPERATIONS, read_onnx
from stages.inference.models import METADATA, RELEASED, Exported, open_model
from stages.networks.input_spec import InputSpec
from stages.networks.network import average_network

TOP = Path(__file__).parents[2]
SIZE, CLASSES = 100, {"age": 5, "gender": 2, "race": 5}
IMAGES = np.full((3, SIZE, SIZE, 3), 9, np.uint8)
ADDRESSES, MEMORY = 12 << 30, 6 << 30  # bytes; a network may allocate 4


def write(
    path: Path, *nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT, **values: object
) -> Path:
    """A model whose output `gender` (n, 2) `nodes` compute of `p`, probabilities, and `values`."""
    weights = {"w": np.zeros((SIZE * SIZE * 3, 2), np.float32), "flat": np.array([0, -1])} | values
    start = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    gender = helper.make_tensor_value_info("gender", kind, ["n", 2])
    arrays = [numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items()]
    graph = helper.make_graph([*start, *nodes], "g", [image], [gender], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = InputSpec.of(load_params(TOP / "params.yaml"), ["gender"])
    about = Exported(run="hostile", calibration=None, input_spec=spec)
    helper.set_model_props(model, {METADATA: about.model_dump_json()})
    path.write_bytes(model.SerializeToString())
    return path


def node(kind: str, *inputs: str, result: str = "gender", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [result], **attributes)


def endless(kind: str) -> onnx.NodeProto:
    """An operation that repeats a graph, or one that has it in a branch."""
    value = helper.make_tensor_value_info
    goes_on, state = value("go", TensorProto.BOOL, []), value("s", TensorProto.FLOAT, None)
    outputs = [value("go_on", TensorProto.BOOL, []), value("t", TensorProto.FLOAT, None)]
    steps = [node("Identity", "go", result="go_on"), node("Identity", "s", result="t")]
    inputs = [value("i", TensorProto.INT64, []), goes_on, state]
    loop = node("Loop", "trips", "", "p", body=helper.make_graph(steps, "b", inputs, outputs))
    if kind == "Loop":
        return loop
    branch = helper.make_graph([loop], "b", [], [value("gender", TensorProto.FLOAT, None)])
    return node("If", "yes", then_branch=branch, else_branch=branch)


def test_a_model_of_these_tests_predicts_until_something_is_wrong_with_it(tmp_path: Path):
    model = open_model(write(tmp_path / "m.onnx", node("Identity", "p")))
    np.testing.assert_array_equal(model.predict_on_batch(IMAGES)["gender"], np.full((3, 2), 0.5))


@pytest.mark.parametrize("kind", ["Loop", "If", "RandomNormalLike"])
def test_an_operation_that_no_export_has_is_refused(kind: str, tmp_path: Path):
    last = node(kind, "p") if kind.startswith("Random") else endless(kind)
    path = write(tmp_path / "m.onnx", last, trips=np.int64(1 << 62), yes=np.bool_(True))
    with pytest.raises(UserError, match=rf"m\.onnx: .* has the operation '{kind}', which no"):
        open_model(path)


@pytest.mark.parametrize("kind", ["Loop", "If"])
def test_weights_that_are_only_read_have_no_loop_either(kind: str, tmp_path: Path):
    path = write(tmp_path / "m.onnx", endless(kind), trips=np.int64(9), yes=np.bool_(True))
    with pytest.raises(ValueError, match=f"has the operation '{kind}'"):
        read_onnx(path)


NAN = np.full((SIZE * SIZE * 3, 2), np.nan, np.float32)


@pytest.mark.parametrize(
    ("nodes", "values", "message"),
    [
        ([node("Identity", "p")], {"w": NAN}, "its outputs of gender are no probabilities"),
        ([node("Add", "p", "c")], {"c": np.float32([-1, 1])}, "are no probabilities"),
        ([node("Mul", "p", "c")], {"c": np.float32(2)}, "are no probabilities"),
        ([node("Squeeze", "p")], {}, r"gives \(2,\) as gender"),
        ([node("Reshape", "p", "f")], {"f": np.array([2, -1])}, r"gives \(2, 1\) as gender"),
        ([node("Reshape", "p", "f")], {"f": np.array([9, 2])}, "cannot be run"),
        ([node("Slice", "p", "a", "a", "a")], {"a": np.array([1])}, "gives tensor"),
        (
            [node("Cast", "p", to=TensorProto.STRING)],
            {"kind": TensorProto.STRING},
            r"gives tensor\(string\)",
        ),
    ],
    ids=[
        *("NaN", "below 0", "not 1 in sum", "a rank less", "another shape", "no shape"),
        *("no class", "text"),
    ],
)
def test_outputs_that_are_no_probabilities_are_one_error(nodes, values, message, tmp_path: Path):
    path = write(tmp_path / "m.onnx", *nodes, **values)
    with pytest.raises(UserError, match=message) as error:
        open_model(path).predict_on_batch(IMAGES[:1])
    assert str(error.value).startswith(str(path))


class Done(NamedTuple):
    """How a process ended: status, standard output and error, and the most memory in bytes."""

    status: int
    output: str
    error: str
    memory: int


@pytest.fixture
def predict(tmp_path: Path) -> Callable[..., Done]:
    """Predict an image by a process of its own, which cannot have all memory."""
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")

    def run(model: Path, *words: str, **environment: str) -> Done:
        command = [sys.executable, "-m", "stages.commands", "predict", "--no-detect", *words]
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            process = subprocess.Popen(
                [*command, "--model", str(model)],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(TOP)} | environment,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES)),
                stdout=out,
                stderr=err,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        texts = ((tmp_path / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return Done(process.returncode, *texts, usage.ru_maxrss * 1024)

    return run


def test_no_json_is_written_of_nan(predict, tmp_path: Path):
    done = predict(write(tmp_path / "m.onnx", node("Identity", "p"), w=NAN), "a.png")
    assert (done.status, done.output) == (1, "")
    assert done.error.splitlines()[-1].startswith(
        f"error: {tmp_path / 'm.onnx'}: its outputs of gender are no probabilities"
    )
    assert "Traceback" not in done.error


@pytest.mark.parametrize("kind", ["one array", "doubled", "many constants"])
def test_a_small_file_that_wants_all_memory_is_one_error(kind: str, predict, tmp_path: Path):
    shapes = {"one array": [10**12, 2], "doubled": [1, 2], "many constants": [1 << 25, 2]}
    values = {"shape": np.array(shapes[kind]), "c": np.ones((1, 2), np.float32)}
    nodes = [node("Expand", "c", "shape", result="s0")]
    if kind == "doubled":  # 2^40 rows
        nodes += [node("Concat", *[f"s{i}"] * 2, result=f"s{i + 1}", axis=0) for i in range(40)]
    if kind == "many constants":  # each of 256 MiB
        values |= {f"c{i}": np.full((1, 2), i, np.float32) for i in range(1, 100)}
        nodes += [node("Expand", f"c{i}", "shape", result=f"s{i}") for i in range(1, 100)]
        nodes += [node("Concat", *[f"s{i}" for i in range(100)], result="all", axis=0)]
    nodes.append(node("Mul", "p", nodes[-1].output[0]))
    path = write(tmp_path / "m.onnx", *nodes, **values)
    assert path.stat().st_size < 10**6
    done = predict(path, "a.png")
    assert (done.status, done.output) == (1, "")
    assert done.error.splitlines()[-1].startswith(f"error: {path}: ")
    assert "Traceback" not in done.error
    assert done.memory < MEMORY


def slow(path: Path) -> Path:
    """A model of allowed operations that would compute for minutes."""
    shape, one = np.array([1500, 1500]), np.zeros((1, 1), np.float32)
    nodes = [node("Expand", "one", "shape", result="s0")]
    nodes += [node("MatMul", f"s{i}", f"s{i}", result=f"s{i + 1}") for i in range(1000)]
    nodes += [node("Slice", "s1000", "zero", "end", "axes", result="few"), node("Add", "p", "few")]
    more = {"zero": np.zeros(2, int), "end": np.array([1, 2]), "axes": np.array([0, 1])}
    return write(path, *nodes, shape=shape, one=one, **more)


def test_ctrl_c_stops_a_slow_network_soon(tmp_path: Path):
    model = open_model(slow(tmp_path / "m.onnx"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        model.predict_on_batch(IMAGES)
    signal.signal(signal.SIGINT, before)
    model.network._workers.shutdown(wait=True)  # as at the exit
    assert time.monotonic() - begin < 20


def test_a_slow_network_keeps_no_thread_of_serve(
    mobilenet_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    good = write(tmp_path / "good.onnx", node("Identity", "p"))
    client = served([slow(tmp_path / "m.onnx"), good], 4, mobilenet_weights, tmp_path, monkeypatch)
    for _ in range(3):
        answer = client.post("/api/predict", content=portrait())
        assert (answer.status_code, answer.json()["error"]) == (503, "took more than 4 s")
    query = {"model": good.as_posix()}
    for _ in range(2):
        answer = client.post("/api/predict", content=portrait(), params=query)
    assert answer.json()["status"] == "predicted"


def portrait() -> bytes:
    picture = io.BytesIO()
    pixels = draw_portrait(35, 1, 2, np.random.default_rng(3), size=320)
    Image.fromarray(pixels).save(picture, "PNG")
    return picture.getvalue()


def served(
    paths: list[Path], seconds: float, weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A client of a service of one thread."""
    pytest.importorskip("starlette", reason="NOT TESTED: serve needs starlette")
    from starlette.testclient import TestClient

    from stages.inference.web import Limits, PredictionService, create_app

    monkeypatch.chdir(folder)
    (folder / "retinaface-mobilenet0.25.onnx").symlink_to(weights)
    service = PredictionService(paths, "cpu", Limits(10**6, 10**6, seconds, 8, 1))
    return TestClient(create_app(service, ["*"]))


def test_serve_says_in_json_that_outputs_are_no_probabilities(
    mobilenet_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "m.onnx", node("Identity", "p"), w=NAN)
    client = served([path], 30, mobilenet_weights, tmp_path, monkeypatch)
    answer = client.post("/api/predict", content=portrait())
    assert answer.status_code == 500
    assert "m.onnx: its outputs of gender are no probabilities" in answer.json()["error"]


def test_temperatures_belong_to_outputs(tmp_path: Path):
    path = write(tmp_path / "m.onnx", node("Identity", "p"))
    graph = onnx.load(path)
    (entry,) = graph.metadata_props
    about = json.loads(entry.value)
    for temperatures, message in (({"race": 2}, "temperatures of"), ({"gender": 1e-320}, "0.001")):
        about["calibration"] = {"flip_tta": False, "temperatures": temperatures}
        entry.value = json.dumps(about)
        onnx.save(graph, path)
        with pytest.raises(UserError, match=message):
            open_model(path)


def test_names_are_printed_whatever_the_locale(predict, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "\u00e9.png")
    model = write(tmp_path / "m.onnx", node("Identity", "p"))
    done = predict(model, "z.zip", "--format", "csv", LC_ALL="POSIX", PYTHONUTF8="0")
    assert done.status == 0, done.error
    assert "z.zip/\u00e9.png,predicted" in done.output


# --- what must not be refused ------------------------------------------------------------


def test_the_files_that_are_used_have_no_other_operations(mobilenet_weights: Path):
    read_onnx(RELEASED, OPERATIONS)
    read_onnx(mobilenet_weights)


@pytest.mark.parametrize(
    "kind", ["ge", "ge_gm", "ge_am", "years", "average", "mobilenet", "resnet50", "densenet121"]
)
def test_exports_have_no_other_operations_and_answer_as_keras(kind: str, tmp_path: Path):
    pytest.importorskip("tf2onnx", reason="NOT TESTED: exports need tf2onnx")
    from stages.inference.exports import write_onnx
    from stages.inference.onnx_network import OnnxNetwork
    from stages.inference.release import halve

    size, more = 64, {}
    if kind == "years":
        more = {"age_head": "years", "age_upper_bounds": [14, 25, 40, 60, 116], "input_side": 96}
    backbone = kind if kind in ("mobilenet", "resnet50", "densenet121") else "cnn"
    heads = kind if kind.startswith("ge") else "plain"
    network = network_of(backbone, "all", heads, "native", CLASSES, size, **more)
    if kind == "average":
        other = network_of("cnn", "all", "plain", "unit", CLASSES, size)
        network = average_network([network, other], flip=True)
    write_onnx(network, tmp_path / "n.onnx", {})
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), np.uint8)
    wanted = network.predict_on_batch(images)
    for close in (1e-4, 0.05):
        found = OnnxNetwork(tmp_path / "n.onnx").predict_on_batch(images)
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, atol=close)
        halve(tmp_path / "n.onnx")
