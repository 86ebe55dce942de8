"""The small network's ONNX graph made lighter: less to calculate, to the same last bit.

A runtime keeps the branches of the graph that it is given. Here what only finds landmarks goes, a
twentieth of the time, since none are used; and in a context module (SSH, Najibi et al. 2017,
https://arxiv.org/abs/1708.03979) convolutions side by side become one with the filters of both,
another twentieth. A graph in which this pattern is not found keeps its branches.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, helper, numpy_helper

BOXES, SCORES = "loc", "conf"  # the outputs: float32 (images, anchors, 4) and (images, anchors, 2)


def lighter(weights: Path) -> bytes:
    """The network in a file, with outputs `loc` and `conf` alone, as another ONNX file's bytes.

    Args:
        weights: RetinaFace MobileNet-0.25 as an ONNX file.
    """
    model = onnx.load(weights)
    graph = model.graph
    _share_copies(graph)
    _keep_what_leads_to(graph, (BOXES, SCORES))
    _join_contexts(graph)
    _keep_what_leads_to(graph, (BOXES, SCORES))
    return bytes(model.SerializeToString())


def _share_copies(graph: GraphProto) -> None:
    """Let all read the first of equal calculations: the export has some of them twice."""
    contents = {i.name: numpy_helper.to_array(i).tobytes() for i in graph.initializer}
    same: dict[str, str] = {}
    first: dict[tuple[object, ...], NodeProto] = {}
    for node in graph.node:
        _read_instead(node, same)
        if node.op_type == "Identity":
            same[node.output[0]] = node.input[0]
            continue
        inputs = [contents.get(name, name) for name in node.input]
        other = first.setdefault((node.op_type, *inputs, str(node.attribute)), node)
        same |= dict(zip(node.output, other.output, strict=True))


def _join_contexts(graph: GraphProto) -> None:
    """Join two convolutions of one input, of which one is rectified at once and one later on.

    The leaky rectifier of the first does not show in the second: ReLU comes after it there.
    """
    side_by_side = defaultdict(list)
    for node in graph.node:
        if node.op_type == "Conv":
            side_by_side[node.input[0], str(node.attribute)].append(node)
    for convolutions in side_by_side.values():
        leaky = [n for n in convolutions if _reader(graph, n, "LeakyRelu")]
        later = [n for n in convolutions if _reader(graph, _reader(graph, n, "Concat"), "Relu")]
        if len(leaky) == len(later) == 1:
            _join(graph, later[0], leaky[0])


def _join(graph: GraphProto, later: NodeProto, leaky: NodeProto) -> None:
    rectifier = _reader(graph, leaky, "LeakyRelu")
    assert rectifier is not None  # by choice
    name, values = later.output[0], {i.name: i for i in graph.initializer}
    inputs, sizes = [later.input[0]], []
    for place, kind in enumerate(("filters", "offsets"), start=1):
        parts = [numpy_helper.to_array(values[node.input[place]]) for node in (later, leaky)]
        inputs.append(f"{name} {kind}")
        graph.initializer.append(numpy_helper.from_array(np.concatenate(parts), inputs[-1]))
        sizes = [len(part) for part in parts]
    joined = helper.make_node("Conv", inputs, [f"{name} joined"])
    joined.attribute.extend(later.attribute)
    rectified = helper.make_node("LeakyRelu", joined.output, [f"{name} leaky"])
    rectified.attribute.extend(rectifier.attribute)
    halves = [f"{name} later", f"{name} at once"]
    parted = helper.make_node("Split", rectified.output, halves, axis=1, split=sizes)
    place = min(list(graph.node).index(node) for node in (later, leaky))
    for node in (parted, rectified, joined):
        graph.node.insert(place, node)
    for node in graph.node:
        _read_instead(node, {later.output[0]: halves[0], rectifier.output[0]: halves[1]})


def _reader(graph: GraphProto, node: NodeProto | None, kind: str) -> NodeProto | None:
    """The only node that reads another's output, if it is of a kind."""
    readers = [n for n in graph.node if node is not None and node.output[0] in n.input]
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _read_instead(node: NodeProto, names: Mapping[str, str]) -> None:
    node.input[:] = [names.get(name, name) for name in node.input]


def _keep_what_leads_to(graph: GraphProto, outputs: Sequence[str]) -> None:
    """Remove the outputs but some, and all that none of these is calculated from."""
    needed, nodes = set(outputs), []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            nodes.append(node)
            needed.update(node.input)
    kept = [
        (graph.node, nodes[::-1]),
        (graph.initializer, [i for i in graph.initializer if i.name in needed]),
        (graph.output, [o for o in graph.output if o.name in outputs]),
    ]
    for field, values in kept:
        del field[:]
        field.extend(values)
