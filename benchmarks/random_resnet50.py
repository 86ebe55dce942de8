"""The graph of retina-face's RetinaFace ResNet50 with random weights, as ONNX.

Layers, shapes and order are those of the package's own definition (retinaface/model/
retinaface_pth_model.py of retina-face 0.0.19, MIT), from which its published ONNX file is
exported: ResNet50 v2, a feature pyramid of three levels, a context module and three heads at
each. What it finds means nothing; what it costs is what the published file costs.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # inner channels, units
WIDTH = 256  # channels of the pyramid
HEADS = (("scores", 4), ("boxes", 8), ("landmarks", 20))  # channels of two anchors
EPSILON = 2e-5  # of batch normalisation
PIXEL_VARIANCE = 64.0**2  # keeps the activations near 1


def write_random_resnet50(path: Path, seed: int) -> Path:
    """Write the graph: input `image`, float32 (1, height, width, 3) RGB, nine outputs."""
    graph = _Graph(seed)
    model = helper.make_model(
        graph.build(), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


class _Graph:
    """Nodes and weights as they come; each method returns the name of its output."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def build(self) -> onnx.GraphProto:
        x = self.node("Transpose", "image", perm=[0, 3, 1, 2])
        x = self.norm(x, 3, PIXEL_VARIANCE)
        x = self.conv_norm_relu(x, 3, 64, 7, stride=2, bias=False)
        x = self.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        channels, taps = 64, []
        for number, (inner, units) in enumerate(STAGES):
            for unit in range(units):
                stride = 2 if unit == 0 and number else 1
                x, tap = self.unit(x, channels, inner, stride, widen=unit == 0)
                channels = 4 * inner
                if unit == 0:
                    taps.append(tap)
        x = self.node("Relu", self.norm(x, channels))
        coarse = self.conv_norm_relu(x, 2048, WIDTH, 1)
        middle = self.conv_norm_relu(taps[3], 512, WIDTH, 1)
        fine = self.conv_norm_relu(taps[2], 256, WIDTH, 1)
        middle = self.conv_norm_relu(self.add_enlarged(middle, coarse), WIDTH, WIDTH, 3)
        fine = self.conv_norm_relu(self.add_enlarged(fine, middle), WIDTH, WIDTH, 3)
        outputs = []
        for stride, level in ((32, coarse), (16, middle), (8, fine)):
            outputs += self.heads(self.context(level), stride)
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, None, None, 3])
        return helper.make_graph(self.nodes, "retinaface", [image], outputs, self.weights)

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def conv(
        self, x: str, inputs: int, outputs: int, side: int, stride: int = 1, bias: bool = True
    ) -> str:
        deviation = np.sqrt(2 / (inputs * side * side))  # He et al. 2015
        kernel = self.random.normal(0, deviation, (outputs, inputs, side, side))
        constants = [self.constant(kernel.astype(np.float32))]
        if bias:
            constants.append(self.constant(np.zeros(outputs, np.float32)))
        return self.node(
            "Conv",
            x,
            *constants,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[side // 2] * 4,
        )

    def norm(self, x: str, channels: int, variance: float = 1.0) -> str:
        zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        values = (ones, zeros, zeros, ones * np.float32(variance))  # scale, shift, mean, variance
        return self.node("BatchNormalization", x, *map(self.constant, values), epsilon=EPSILON)

    def conv_norm_relu(
        self, x: str, inputs: int, outputs: int, side: int, stride: int = 1, bias: bool = True
    ) -> str:
        return self.node(
            "Relu", self.norm(self.conv(x, inputs, outputs, side, stride, bias), outputs)
        )

    def unit(self, x: str, inputs: int, inner: int, stride: int, widen: bool) -> tuple[str, str]:
        """A pre-activation bottleneck: its output, and the activation that feeds the pyramid."""
        first = self.node("Relu", self.norm(x, inputs))
        second = self.conv_norm_relu(first, inputs, inner, 1, bias=False)
        third = self.conv_norm_relu(second, inner, inner, 3, stride, bias=False)
        out = self.conv(third, inner, 4 * inner, 1, bias=False)
        short = self.conv(first, inputs, 4 * inner, 1, stride, bias=False) if widen else x
        return self.node("Add", out, short), second

    def add_enlarged(self, fine: str, coarse: str) -> str:
        """The finer level plus the coarser one at twice its size, cut to the finer one's."""
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        large = self.node(
            "Resize",
            coarse,
            "",
            scales,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
        axes, zeros = (self.constant(np.array(v, np.int64)) for v in ([2, 3], [0, 0]))
        start, end = (self.constant(np.array([place], np.int64)) for place in (2, 4))
        size = self.node("Slice", self.node("Shape", fine), start, end)
        return self.node("Add", fine, self.node("Slice", large, zeros, size, axes))

    def context(self, x: str) -> str:
        half = WIDTH // 2
        wide = self.norm(self.conv(x, WIDTH, WIDTH, 3), WIDTH)
        first = self.conv_norm_relu(x, WIDTH, half, 3)
        second = self.norm(self.conv(first, half, half, 3), half)
        third = self.conv_norm_relu(first, half, half, 3)
        third = self.norm(self.conv(third, half, half, 3), half)
        return self.node("Relu", self.node("Concat", wide, second, third, axis=1))

    def heads(self, x: str, stride: int) -> list[onnx.ValueInfoProto]:
        outputs = []
        for kind, channels in HEADS:
            y = self.conv(x, 2 * WIDTH, channels, 1)
            if kind == "scores":
                y = self.shares(y)
            name = self.node("Transpose", y, name=f"{kind}{stride}", perm=[0, 2, 3, 1])
            shape = [1, None, None, channels]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return outputs

    def shares(self, x: str) -> str:
        """Softmax over background (channels 0, 1) and face (2, 3) of each anchor."""
        pairs = self.node("Reshape", x, self.constant(np.array([0, 2, 2, -1], np.int64)))
        share = self.node("Softmax", pairs, axis=1)
        return self.node("Reshape", share, self.node("Shape", x))
