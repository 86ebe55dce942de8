"""Conversion of a Keras network to other formats.

- ONNX, by tf2onnx (https://github.com/onnx/tensorflow-onnx): float32, as in Keras.
- TFLite, by TensorFlow's converter: `float16` weights, or `int8` arithmetic with ranges calibrated
  on images (Jacob et al. 2018, https://arxiv.org/abs/1712.05877).

All take uint8 RGB images (N, size, size, 3) named `image`, include the preprocessing, and return
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

OPSET = 17  # of ONNX; supported since onnxruntime 1.13

Images = npt.NDArray[np.uint8]


def write_onnx(model: keras.Model, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a network as ONNX; `metadata`, texts by key, are stored in the file."""
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
    """Write a network as TFLite: `float16`, or `int8` with ranges calibrated on the images."""
    with TemporaryDirectory() as folder, silenced_stderr():
        # Through a SavedModel: converted from the function itself, it would lack its weights.
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
