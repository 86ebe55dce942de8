"""A Keras network in other formats.

- ONNX, by tf2onnx (https://github.com/onnx/tensorflow-onnx): float32, as the network is.
- TFLite, by TensorFlow's converter: `float16` keeps weights so; `int8` computes in 8-bit integers
  whose ranges are learnt from images (Jacob et al. 2018, https://arxiv.org/abs/1712.05877).

All take uint8 RGB images (any number, size, size, 3) named `image`, preprocessing inside, and give
float32 probabilities by task.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import numpy.typing as npt
import onnx
import tensorflow as tf

from stages.networks.device import silenced_stderr

OPSET = 17  # of ONNX; onnxruntime knows it since 1.13
TFLITE_KINDS = ("float16", "int8")

Images = npt.NDArray[np.uint8]


def write_onnx(model: keras.Model, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a network as ONNX.

    Args:
        model: images to outputs by task.
        path: of the file.
        metadata: texts that the file shall hold, by key.
    """
    import tf2onnx

    call = tf.function(partial(model, training=False))
    with silenced_stderr():
        proto, _ = tf2onnx.convert.from_function(call, [_signature(model)], opset=OPSET)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def write_tflite(model: keras.Model, path: Path, kind: str, images: Images) -> None:
    """Write a network as TFLite.

    Args:
        model: images to outputs by task.
        path: of the file.
        kind: one of `TFLITE_KINDS`.
        images: uint8 (N, size, size, 3), from which int8 learns its ranges; float16 ignores them.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in TFLITE_KINDS:
        raise ValueError(f"kind {kind!r} is not one of {TFLITE_KINDS}")
    with TemporaryDirectory() as folder, silenced_stderr():
        # By way of a SavedModel: from the function itself it comes out without its weights.
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", partial(model, training=False), [_signature(model)])
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        else:
            converter.representative_dataset = lambda: ([image[None]] for image in images)
        path.write_bytes(converter.convert())


def _signature(model: keras.Model) -> tf.TensorSpec:
    return tf.TensorSpec(model.input.shape, tf.uint8, "image")
