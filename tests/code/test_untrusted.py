"""HDF5 and ONNX files that lead elsewhere, or announce more than they hold."""

import ast
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from ruamel.yaml import YAML

from stages.core.errors import UserError
from stages.core.params import load_params
from stages.formats import untrusted
from stages.formats.keras_h5 import SHAPES, read_h5_layers, read_onnx_layers
from stages.formats.untrusted import LARGEST, check_hdf5, read_onnx

STAGES = Path(untrusted.__file__).parents[1]
SHAPE = {"layer": ((2, 3), (3,))}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Numbers in a file of this machine that is none of the weights file's business."""
    path = tmp_path / "secret.bin"
    path.write_bytes(np.arange(6, dtype=np.float32).tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["numbers"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    return path


def weights_file(path: Path) -> h5py.File:
    """An open file of one layer, without its kernel."""
    file = h5py.File(path, "w")
    group = file.create_group("layer")
    group.attrs["weight_names"] = [b"kernel", b"bias"]
    group["bias"] = np.zeros(3, np.float32)
    return file


def external_dataset(file: h5py.File, secret: Path) -> None:
    file["layer"].create_dataset("kernel", (2, 3), "f4", external=[(str(secret), 0, 24)])


def external_link(file: h5py.File, secret: Path) -> None:
    file["layer"]["kernel"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/numbers")


def soft_link(file: h5py.File, _: Path) -> None:
    file["layer"]["kernel"] = h5py.SoftLink("/layer/bias")


def virtual_dataset(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "numbers", (2, 3))
    file["layer"].create_virtual_dataset("kernel", layout)


def enormous(file: h5py.File, _: Path) -> None:
    file["layer"].create_dataset("kernel", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def unwritten(file: h5py.File, _: Path) -> None:
    file["layer"].create_dataset("kernel", (2, 3), "f4")


def compressed(file: h5py.File, _: Path) -> None:
    zeros = np.zeros(10**6, np.float32)
    file["layer"].create_dataset("kernel", data=zeros, compression="gzip")


def repeated(file: h5py.File, _: Path) -> None:
    file["layer"].attrs["weight_names"] = [b"bias"] * 100


def nested(file: h5py.File, _: Path) -> None:
    file.create_group("x/" * 2000)


def cyclic(file: h5py.File, _: Path) -> None:
    for name in ("a", "b"):
        file["layer"][name] = file["layer"]


def crowded(file: h5py.File, _: Path) -> None:
    group = file["layer"]
    for number in range(400):
        inner = group.create_group(str(number))
        for other in range(300):
            inner[str(other)] = group["bias"]


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (external_dataset, "the values of layer/kernel are in another file"),
        (external_link, "layer/kernel is a link"),
        (soft_link, "layer/kernel is a link"),
        (virtual_dataset, "the values of layer/kernel are in another file"),
        (enormous, f"more than {LARGEST} bytes"),
        (unwritten, "layer/kernel declares more bytes than the file holds"),
        (compressed, "layer/kernel declares more bytes than the file holds; save it uncompressed"),
        (repeated, "layer layer names an array twice"),
        (nested, "more than 32 groups in each other"),
        (cyclic, "more than 32 groups in each other"),
        (crowded, "more than 100000 groups and arrays"),
    ],
)
def test_an_hdf5_file_that_leads_elsewhere_or_is_too_large_is_refused(
    kernel, message: str, tmp_path: Path, secret: Path
):
    with weights_file(tmp_path / "weights.h5") as file:
        kernel(file, secret)
    with pytest.raises(ValueError, match=message):
        read_h5_layers(tmp_path / "weights.h5", SHAPE)


def test_an_ordinary_hdf5_file_is_read(tmp_path: Path):
    with weights_file(tmp_path / "weights.h5") as file:
        file["layer"]["kernel"] = np.ones((2, 3), np.float32)
        check_hdf5(file)
    kernel, bias = read_h5_layers(tmp_path / "weights.h5", SHAPE)["layer"]
    assert (kernel.sum(), bias.sum()) == (6, 0)


def test_no_array_is_read_before_all_shapes_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with weights_file(tmp_path / "weights.h5") as file:
        file["layer"]["kernel"] = np.ones((9, 9), np.float32)
    monkeypatch.setattr(h5py.Dataset, "__array__", lambda *_: pytest.fail("was read"))
    with pytest.raises(ValueError, match=r"layer layer has arrays of shape \[\(9, 9\), \(3,\)\]"):
        read_h5_layers(tmp_path / "weights.h5", SHAPE)


def test_a_damaged_hdf5_file_is_refused_whatever_h5py_makes_of_it(tmp_path: Path):
    with weights_file(tmp_path / "weights.h5") as file:
        file["layer"]["kernel"] = np.ones((2, 3), np.float32)
    whole = (tmp_path / "weights.h5").read_bytes()
    random, message = np.random.default_rng(5), []
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(len(data), size=3):
            data[place] ^= int(random.integers(1, 256))
        (tmp_path / "weights.h5").write_bytes(data)
        try:
            read_h5_layers(tmp_path / "weights.h5", SHAPE)
        except ValueError as error:
            message.append(str(error))
    assert sum(text.startswith("damaged: ") for text in message) > 20


def test_an_hdf5_file_whose_names_are_no_list_is_refused(tmp_path: Path):
    with weights_file(tmp_path / "weights.h5") as file:
        file["layer"].attrs["weight_names"] = 7
    with pytest.raises(ValueError, match="damaged: "):
        read_h5_layers(tmp_path / "weights.h5", SHAPE)


def graph(*tensors: onnx.TensorProto, domain: str = "") -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], domain=domain)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [*tensors]))


def external_tensor(secret: Path) -> onnx.TensorProto:
    tensor = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[6])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=secret.name)
    return tensor


def test_an_onnx_graph_whose_values_are_elsewhere_is_refused(tmp_path: Path, secret: Path):
    stolen = external_tensor(secret)
    hidden = helper.make_node("Constant", [], ["c"], value=stolen)
    inside = graph()
    inside.graph.node.append(hidden)
    for model in (graph(stolen), inside):
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="the values of 'stolen' are in another file"):
            read_onnx(path)


def sparse(values: onnx.TensorProto) -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.arange(6, dtype=np.int64), "indices")
    return helper.make_sparse_tensor(values, indices, [6])


def test_sparse_values_that_are_elsewhere_are_refused(tmp_path: Path, secret: Path):
    initial, constant = graph(), graph()
    initial.graph.sparse_initializer.append(sparse(external_tensor(secret)))
    constant.graph.node.append(
        helper.make_node("Constant", [], ["c"], sparse_value=sparse(external_tensor(secret)))
    )
    for model in (initial, constant):
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="the values of 'stolen' are in another file"):
            read_onnx(path)


def test_an_operation_that_contains_a_graph_is_refused(tmp_path: Path):
    inner, path = graph().graph, tmp_path / "model.onnx"
    loop = helper.make_node("Loop", ["x"], ["z"], body=inner)
    branch = helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)
    many = helper.make_node("Relu", ["x"], ["z"], bodies=[inner])
    for node in (loop, branch, many):
        model = graph()
        model.graph.node.append(node)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=f"has the operation '{node.op_type}', which no"):
            read_onnx(path)


def test_an_onnx_graph_that_is_to_be_run_has_no_other_operations(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph().SerializeToString())
    read_onnx(path, {"Relu"})
    with pytest.raises(ValueError, match="has the operation 'Relu', which no network here needs"):
        read_onnx(path, {"Conv"})


def test_a_tensor_that_declares_more_than_it_contains_is_refused_anywhere(tmp_path: Path):
    lying = TensorProto(name="huge", data_type=TensorProto.FLOAT, raw_data=bytes(4))
    lying.dims.extend([1_000_000, 1_000_000])
    (tmp_path / "model.onnx").write_bytes(graph(lying).SerializeToString())
    with pytest.raises(ValueError, match="the values of 'huge' do not fit"):
        read_onnx(tmp_path / "model.onnx")


def test_an_onnx_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph().SerializeToString())
    read_onnx(path)
    monkeypatch.setattr(untrusted, "LARGEST", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_onnx(path)


def test_an_onnx_graph_of_unknown_operations_is_refused(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(domain="com.example").SerializeToString())
    with pytest.raises(ValueError, match="operations that ONNX does not define"):
        read_onnx(path)


@pytest.mark.parametrize("raw", [b"", bytes(10), bytes(1000)])
def test_onnx_values_of_another_length_than_announced_are_refused(raw: bytes, tmp_path: Path):
    name, ((kernel, bias), *_) = "block1_conv1", SHAPES["vgg16"].values()
    lying = TensorProto(name="k", data_type=TensorProto.FLOAT, raw_data=raw)
    lying.dims.extend([kernel[3], kernel[2], *kernel[:2]])
    model = graph(lying, numpy_helper.from_array(np.zeros(bias, np.float32), "b"))
    model.graph.node.append(helper.make_node("Conv", ["x", "k", "b"], ["z"], name=f"/{name}_/"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"reshape|size|buffer"):
        read_onnx_layers(tmp_path / "model.onnx", {name: (kernel, bias)})


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x07" * 99])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"not an ONNX file|lacks|has arrays"):
        read_onnx_layers(tmp_path / "model.onnx", SHAPE)


def test_the_params_file_makes_no_objects(tmp_path: Path):
    path = tmp_path / "params.yaml"
    path.write_text(f"seed: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]\n")
    with pytest.raises(UserError):
        load_params(path)
    assert not (tmp_path / "made").exists()
    assert YAML(typ="safe", pure=True).load("1: !!str 2") == {1: "2"}


def test_no_module_unpickles_or_loads_objects():
    refused = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "torch"}
    for path in STAGES.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & refused, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("allow_pickle") == "False", f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_model"):
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("safe_mode") == "True", f"{path}:{node.lineno}"
