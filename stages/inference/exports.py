"""Exported models: `exports/<run>/`, each file checked against Keras before it appears."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import UserError
from stages.core.files import atomic_write
from stages.dataset.examples import LabelledFaces
from stages.inference.agreement import agreement, images_per_second
from stages.inference.models import METADATA, Model, OnnxNetwork, TfliteNetwork, describe
from stages.networks.prediction import BATCH_SIZE, Network, predict_rows

FILES = {"onnx": "{}.onnx", "float16": "{}.float16.tflite", "int8": "{}.int8.tflite"}
# The largest difference of any probability: float32's rounding and float16's. 8 bits may move
# one far, where two classes are close: of them the share of equal classes tells.
LARGEST = {"onnx": 1e-3, "float16": 0.05}
LOWEST_AGREEMENT = {"int8": 0.8}
CALIBRATION_IMAGES = 300  # at most; the ranges of 8 bits hardly change with more
SPEED_IMAGES = 32


def export(
    model: Model, form: str, folder: Path, test: LabelledFaces, val: LabelledFaces
) -> dict[str, Any]:
    """Write one format of a model.

    Args:
        model: opened from its folder.
        form: one of `FILES`.
        folder: where the file goes.
        test: the images that it is checked on.
        val: those that 8 bits are calibrated on.

    Returns:
        What is known of the file: `run`, `file`, `calibration` (null: not evaluated),
        `megabytes` (10^6 bytes), `images` (of the test),
        `images_per_second` and `keras_images_per_second` (one at a time, all cores), and by task
        what `agreement` tells.

    Raises:
        UserError: a package of the extra `export` is missing, or the file is further from Keras
            than its format may be; it is then not kept.
    """
    target = folder / FILES[form].format(model.name)
    write, read = _format(model, form, val)
    with atomic_write(target) as unfinished:
        write(unfinished)
        copy = read(unfinished)
        found, wanted = (
            predict_rows(network, test.crops, test.rows, BATCH_SIZE)
            for network in (copy, model.network)
        )
        compared = agreement(found, wanted, test.labels)
        _check(target, form, compared)
        crops = np.ascontiguousarray(test.crops[test.rows[:SPEED_IMAGES]])
        return {
            "run": model.name,
            "file": target.name,
            "calibration": model.calibration and model.calibration.model_dump(),
            "megabytes": round(unfinished.stat().st_size / 1e6, 3),
            "images": len(test.names),
            "images_per_second": images_per_second(copy, crops),
            "keras_images_per_second": images_per_second(model.network, crops),
            **compared,
        }


def _check(target: Path, form: str, compared: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse a file that is too far from Keras; not a number is too far."""
    furthest = max(figures["max_difference"] for figures in compared.values())
    if form in LARGEST and not furthest <= LARGEST[form]:
        raise UserError(
            f"{target}: a probability differs by {furthest} from Keras's, more than "
            f"{LARGEST[form]}; not kept"
        )
    for task, figures in compared.items():
        if form in LOWEST_AGREEMENT and not figures["agreement"] >= LOWEST_AGREEMENT[form]:
            raise UserError(
                f"{target}: tells the {task} as Keras does for {figures['agreement']:.1%} of the "
                f"test images, less than {LOWEST_AGREEMENT[form]:.0%}; not kept"
            )


def _format(
    model: Model, form: str, val: LabelledFaces
) -> tuple[Callable[[Path], None], Callable[[Path], Network]]:
    """What writes a format, and what reads it."""
    try:
        import ai_edge_litert  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UserError(f"export needs {error.name}: pip install -e '.[export]'") from None
    from stages.inference.conversion import write_onnx, write_tflite

    if form == "onnx":
        about = describe(model.name, model.input_spec, model.calibration)
        return partial(write_onnx, model.network, metadata={METADATA: about}), OnnxNetwork
    # From everywhere, as the rows are in the order of the names, which begin with the age.
    number = min(CALIBRATION_IMAGES, len(val.rows))
    images = val.crops[val.rows[np.linspace(0, len(val.rows) - 1, number).round().astype(int)]]
    return partial(write_tflite, model.network, kind=form, images=images), TfliteNetwork
