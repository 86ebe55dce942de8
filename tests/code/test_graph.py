"""The lighter graph gives what the published one gives, to the last bit."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stages.detection.graph import lighter

OUTPUTS = ["loc", "conf"]


def session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("size", [(200, 200), (32, 32), (71, 40), (333, 517)])
@pytest.mark.parametrize("images", [1, 2])
def test_boxes_and_scores_are_the_published_ones_to_the_last_bit(
    mobilenet_weights: Path, size: tuple[int, int], images: int
):
    published, ours = mobilenet_weights.read_bytes(), lighter(mobilenet_weights)
    tensor = np.random.default_rng(1).uniform(-120, 135, (images, 3, *size)).astype(np.float32)
    one, other = (session(graph).run(OUTPUTS, {"input": tensor}) for graph in (published, ours))
    for published_output, our_output in zip(one, other, strict=True):
        np.testing.assert_array_equal(published_output, our_output)


def test_landmarks_copies_and_branches_are_gone(mobilenet_weights: Path):
    before, after = onnx.load(mobilenet_weights), onnx.load_from_string(lighter(mobilenet_weights))
    onnx.checker.check_model(after, full_check=True)
    assert [output.name for output in after.graph.output] == OUTPUTS
    # Three levels: landmarks, the copy of a context's first convolution, two joins in each context.
    assert kinds(before)["Conv"] - kinds(after)["Conv"] == 3 * (1 + 1 + 2)
    assert kinds(after)["Split"] == 3 * 2
    assert len(lighter(mobilenet_weights)) < mobilenet_weights.stat().st_size


def test_the_same_file_gives_the_same_bytes(mobilenet_weights: Path):
    assert lighter(mobilenet_weights) == lighter(mobilenet_weights)


def test_a_graph_of_another_kind_keeps_its_branches(tmp_path: Path):
    generator = np.random.default_rng(3)
    values = {
        "w": generator.normal(size=(4, 3, 1, 1)),
        "v": generator.normal(size=(2, 3, 3, 3)),
        "unused": generator.normal(size=(1,)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["input", "v"], ["b"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["loc"]),
        helper.make_node("Relu", ["b"], ["conf"]),
        helper.make_node("Neg", ["b"], ["landmarks"]),
    ]
    place = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in OUTPUTS]
    outputs.append(helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, None))
    stored = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    graph = helper.make_graph(nodes, "other", place, outputs, stored)
    opset = [helper.make_opsetid("", 11)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=6)
    onnx.save(model, tmp_path / "other.onnx")
    ours = lighter(tmp_path / "other.onnx")
    assert kinds(onnx.load_from_string(ours)) == {"Conv": 2, "Relu": 2}
    tensor = generator.normal(size=(1, 3, 8, 8)).astype(np.float32)
    one, other = (
        session(g).run(OUTPUTS, {"input": tensor}) for g in (model.SerializeToString(), ours)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
