"""Export models to `exports/<run>/`; each file is verified against Keras before it appears.

All files take uint8 RGB images (N, size, size, 3) named `image`, include the preprocessing, and
return float32 probabilities by task.
"""

import re
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.core.errors import UserError
from stages.core.files import atomic_write
from stages.dataset.examples import LabelledFaces
from stages.inference.models import METADATA, Exported, Model
from stages.inference.onnx_network import OnnxNetwork
from stages.inference.tflite_network import TfliteNetwork
from stages.networks.device import silenced_stderr
from stages.networks.prediction import BATCH_SIZE, Network, predict_rows

FILES = {"onnx": "{}.onnx", "float16": "{}.float16.tflite", "int8": "{}.int8.tflite"}
# The largest difference of any probability, for rounding in float32 and float16. With 8 bits a
# probability may change much if two classes are close, so there the agreement is checked.
LARGEST = {"onnx": 1e-3, "float16": 0.05}
LOWEST_AGREEMENT = {"int8": 0.8}
CALIBRATION_IMAGES = 300  # at most; more hardly change the ranges of 8 bits
OPSET = 17  # of ONNX; supported since onnxruntime 1.13
SPEED_SECONDS = 2.0  # duration of a measurement

Outputs = Mapping[str, npt.NDArray[np.float32]]


def export(
    model: Model, form: str, folder: Path, test: LabelledFaces, val: LabelledFaces
) -> dict[str, Any]:
    """Write a model in one of the formats of `FILES`; those of `val` calibrate 8 bits.

    Returns what docs/reference/files.md says of `<file>.json`. A `UserError` if a package of the
    extra `export` is missing, or the file differs from Keras by more than its format allows; it
    is not kept then.
    """
    try:
        import ai_edge_litert  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UserError(f"export needs {error.name}: pip install -e '.[export]'") from None
    target = folder / FILES[form].format(model.name)
    exported: OnnxNetwork | TfliteNetwork
    with atomic_write(target) as unfinished:
        if form == "onnx":
            spec, calibration = model.input_spec, model.calibration
            about = Exported(run=model.name, input_spec=spec, calibration=calibration)
            write_onnx(model.network, unfinished, {METADATA: about.model_dump_json()})
            exported = OnnxNetwork(unfinished)
        else:
            # Evenly spaced, because the rows are sorted by name, which begins with the age.
            number = min(CALIBRATION_IMAGES, len(val.rows))
            places = np.linspace(0, len(val.rows) - 1, number).round().astype(int)
            write_tflite(model.network, unfinished, form, val.crops[val.rows[places]])
            exported = TfliteNetwork(unfinished)
        ours = predict_rows(exported, test.crops, test.rows, BATCH_SIZE)
        original = predict_rows(model, test.crops, test.rows, BATCH_SIZE)
        compared = agreement(ours, original, test.labels)
        _refuse_difference(target, form, compared)
        crops = np.ascontiguousarray(test.crops[test.rows[:32]])
        return {
            "run": model.name,
            "file": target.name,
            "calibration": model.calibration and model.calibration.model_dump(),
            "megabytes": round(unfinished.stat().st_size / 1e6, 3),
            "images": len(test.names),
            "images_per_second": images_per_second(exported, crops),
            "keras_images_per_second": images_per_second(model.network, crops),
            **compared,
        }


def _refuse_difference(
    target: Path, form: str, compared: Mapping[str, Mapping[str, float]]
) -> None:
    """Refuse a file that differs too much from Keras; NaN differs too much."""
    # NumPy's maximum, unlike Python's, is NaN wherever NaN stands.
    furthest = np.max([figures["max_difference"] for figures in compared.values()])
    if form in LARGEST and not furthest <= LARGEST[form]:
        excess = f"a probability differs by {furthest} from Keras's, more than {LARGEST[form]}"
        raise UserError(f"{target}: {excess}; not kept")
    for task, figures in compared.items():
        if form in LOWEST_AGREEMENT and not figures["agreement"] >= LOWEST_AGREEMENT[form]:
            raise UserError(
                f"{target}: agrees with Keras on the {task} of {figures['agreement']:.1%} of the "
                f"test images, less than {LOWEST_AGREEMENT[form]:.0%}; not kept"
            )


def write_onnx(model: Any, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a Keras network as ONNX by tf2onnx, with `metadata`, texts by key.

    Equal networks give equal bytes.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    call = tf.function(partial(model, training=False))
    signature = tf.TensorSpec(model.input.shape, tf.uint8, "image")
    with silenced_stderr():
        proto, _ = tf2onnx.convert.from_function(call, [signature], opset=OPSET)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    proto.graph.doc_string = ""  # the number of a function in this process
    number_by_place(proto.graph)
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def number_by_place(graph: Any) -> None:
    """Number the names of an ONNX graph by their places in it, and order its arrays so.

    tf2onnx numbers them as it finds them, and gives an array that is used twice the name of either
    place, which differs from process to process.
    """
    unnamed = {array.name for array in graph.initializer}
    new = {value.name: value.name for value in (*graph.input, *graph.output)}

    def numbered(name: str) -> str:
        if name not in new:  # "" stands for an optional input that is left out
            stem = "array" if name in unnamed else re.sub(r"__[0-9]+", "", name)
            new[name] = f"{stem}__{len(new)}" if name else ""
        return new[name]

    for place, node in enumerate(graph.node):
        node.name = f"{node.op_type}__{place}"
        node.input[:] = [numbered(name) for name in node.input]
        node.output[:] = [numbered(name) for name in node.output]
    places = {name: place for place, name in enumerate(new)}
    arrays = sorted(graph.initializer, key=lambda array: places[array.name])
    for array in arrays:
        array.name = new[array.name]
    copies = [type(array).FromString(array.SerializeToString()) for array in arrays]
    del graph.initializer[:]
    graph.initializer.extend(copies)


def write_tflite(model: Any, path: Path, kind: str, images: npt.NDArray[np.uint8]) -> None:
    """Write a Keras network as TFLite: `float16` weights, or `int8` arithmetic.

    The images calibrate int8 (Jacob et al. 2018, https://arxiv.org/abs/1712.05877).
    """
    import keras
    import tensorflow as tf

    signature = tf.TensorSpec(model.input.shape, tf.uint8, "image")
    with TemporaryDirectory() as folder, silenced_stderr():
        # Through a SavedModel: converted from the function itself, it would lack its weights.
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", partial(model, training=False), [signature])
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        else:
            converter.representative_dataset = lambda: ([image[None]] for image in images)
        path.write_bytes(converter.convert())


def agreement(
    exported: Outputs, original: Outputs, labels: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, dict[str, float]]:
    """Compare the probabilities (N, classes) of an exported and the original network by task.

    `agreement` is the fraction of images with the same predicted class, `max_difference` that of
    any probability; `accuracy`, and `keras_accuracy` of the original.
    """
    result = {}
    for task, true in labels.items():
        ours, keras = exported[task].argmax(axis=1), original[task].argmax(axis=1)
        result[task] = {
            "agreement": round(float((ours == keras).mean()), 6),
            "max_difference": float(f"{np.abs(exported[task] - original[task]).max():.3g}"),
            "accuracy": round(float((ours == true).mean()), 6),
            "keras_accuracy": round(float((keras == true).mean()), 6),
        }
    return result


def images_per_second(network: Network, images: npt.NDArray[np.uint8]) -> float:
    """Images (N, size, size, 3) that a warm network predicts in a second, one at a time."""
    for image in images[:3]:
        network.predict_on_batch(image[None])
    done, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SPEED_SECONDS:
        network.predict_on_batch(images[done % len(images)][None])
        done += 1
    return round(done / seconds, 1)
