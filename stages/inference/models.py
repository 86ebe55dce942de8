"""Open a trained model: a folder under models/, or an exported ONNX or TFLite file.

A folder needs TensorFlow. An ONNX file contains its input spec and calibration and needs only
onnxruntime. A TFLite file has them beside it, in preprocessor_config.json and <file>.json, and
needs ai-edge-litert.
"""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import platformdirs
from pydantic import ConfigDict, Field

from stages.core import paths
from stages.core.errors import UserError, printable
from stages.core.files import digest, read_json
from stages.core.sections import Section
from stages.detection.detector import Detector, load_detector
from stages.inference.onnx_network import OnnxNetwork, ask_for_memory
from stages.inference.tflite_network import TfliteNetwork
from stages.networks.input_spec import InputSpec, read_input_spec
from stages.networks.prediction import AGE_YEARS, Network
from stages.weights.registry import DETECTORS, check_detector, obtain

METADATA = "utkface-mtl"  # key in the metadata of an ONNX file
RELEASED = Path(__file__).with_name("released") / "model.onnx"  # that of the package


class Calibration(Section):
    """The content of calibration.json: temperatures by task; none were fitted if it is empty."""

    flip_tta: bool | None  # fitted to the mean of the outputs for a crop and its mirror image
    # Stage evaluate fits 0.05 to 20; far below that numbers overflow.
    temperatures: dict[Literal["age", "gender", "race"], Annotated[float, Field(gt=0.001)]]


class Exported(Section):
    """Metadata of an exported file; a TFLite file has its input spec beside it."""

    model_config = ConfigDict(extra="ignore")

    run: Annotated[str, Field(min_length=1)]
    calibration: Calibration | None
    input_spec: InputSpec | None = None


@dataclass(frozen=True)
class Model:
    """A model: the name of its run, its input spec, its calibration (None: unknown).

    `network` takes uint8 RGB (N, size, size, 3) and returns the probabilities of `classes` by task;
    with `AGE_YEARS` among them also those of single years. A `UserError` if the network's input or
    outputs differ from its input spec. A model is itself a network, one whose outputs are checked.
    """

    name: str
    path: Path
    input_spec: InputSpec
    calibration: Calibration | None
    network: Network
    size: int
    classes: Mapping[str, int]

    def __post_init__(self) -> None:
        for task in self.input_spec.tasks:
            number = len(self.input_spec.classes.of(task))
            if self.classes.get(task) != number:
                raise UserError(
                    f"{self.path}: its input spec has {number} classes of {task}, but it gives "
                    f"{self.classes.get(task, 'nothing')}"
                )
        if self.size != (size := self.input_spec.detect.size):
            raise UserError(f"{self.path}: takes {self.size} px, but its input spec says {size} px")
        calibrated = self.calibration.temperatures if self.calibration else {}
        if strange := {*calibrated} - {*self.classes}:
            raise UserError(f"{self.path}: has temperatures of {strange}, which it does not give")

    def predict_on_batch(self, x: npt.NDArray[np.uint8], /) -> Mapping[str, Any]:
        """The network's outputs; a `UserError` if they are no probabilities."""
        outputs = self.network.predict_on_batch(x)
        for name, number in self.classes.items():
            values = np.asarray(outputs[name])
            if values.shape != (len(x), number):
                told = f"{values.shape} as {name}, not (images, classes) {(len(x), number)}"
                raise UserError(f"{self.path}: gives {told}; export it again")
            rounding = 0.01 + number / 512  # 8 bits round each probability by up to 1 / 512
            # Written so that NaN, of which no comparison holds, is refused.
            valid = (values >= 0).all() and (abs(values.sum(axis=1) - 1) <= rounding).all()
            if not valid:
                fault = "NaN, below 0, or not 1 in sum; train or export it again"
                raise UserError(f"{self.path}: its outputs of {name} are no probabilities: {fault}")
        return outputs

    @property
    def cautions(self) -> list[str]:
        """What makes its answers worth less than they look, a sentence each."""
        found = []
        if self.input_spec.trained_on == "demo":
            found.append("It was trained on drawn portraits: its answers for real faces are wrong.")
        if self.calibration is None:
            found.append("It is not calibrated: its probabilities do not say how sure to be.")
        return found

    @property
    def tells_years(self) -> bool:
        """Whether the network predicts the age in years."""
        return AGE_YEARS in self.classes


def find_models() -> list[Path]:
    """The released model, the folders in models/, and the exported ONNX files in exports/."""
    released = [RELEASED] * RELEASED.is_file()
    networks = (path.parent for path in paths.MODELS.glob(f"*/{paths.NETWORK_FILE}"))
    files = paths.EXPORTS.glob("*/*.onnx")  # the detector of a model is in the same folder
    exported = sorted(file for file in files if file.stem == file.parent.name)
    return [*released, *sorted(networks), *exported]


def label_of(path: Path) -> str:
    """How a model is called: `released`, or its path."""
    return "released" if path == RELEASED else path.as_posix()


def find_model(given: str | None) -> Path:
    """The path of a model that is called by its label, its path, or the name of a run.

    None: the released one. What is not there is refused by `open_model`.
    """
    if given is None or given == label_of(RELEASED):
        return RELEASED
    path = Path(given)
    if path.exists():
        if RELEASED.is_file() and path.samefile(RELEASED):
            return RELEASED
        return path.parent if path.name == paths.NETWORK_FILE else path
    return paths.MODELS / given


def open_model(path: Path, device: str = "auto") -> Model:
    """Open a folder with model.keras and preprocessor_config.json, or an exported file.

    `device` is `auto`, `cpu` or `gpu`; a TFLite file runs on the CPU. A `UserError` if there is
    no model, or it lacks its input spec.
    """
    if path.suffix == ".onnx" and path.is_file():
        return _open_onnx(path, device)
    if path.suffix == ".tflite" and path.is_file():
        return _open_tflite(path)
    if (path / paths.NETWORK_FILE).is_file():
        return _open_folder(path, device)
    raise no_model(path)


def no_model(path: Path) -> UserError:
    """The error for a path that is no model, with those that are."""
    known = ", ".join(map(label_of, find_models())) or "none: run `dvc repro`"
    forms = f"a folder with {paths.NETWORK_FILE}, an ONNX or a TFLite file"
    return UserError(f"{path}: no model; expected {forms}; available: {known}")


def _open_folder(path: Path, device: str) -> Model:
    input_spec = read_input_spec(path)
    try:
        from stages.networks.device import prepare

        prepare(device)
        from stages.networks.network import load_network
    except ImportError as error:
        raise UserError(f"{path}: needs TensorFlow ({error}); an exported file does not") from None
    _warn_if_stale(path / paths.NETWORK_FILE, digest(path / paths.NETWORK_FILE))
    network = load_network(path / paths.NETWORK_FILE)
    classes = {name: output.shape[-1] for name, output in network.output.items()}
    size, calibration = network.input.shape[1], _read_calibration(path.resolve(), classes)
    return Model(path.name, path, input_spec, calibration, network, size, classes)


def released_network() -> str | None:
    """The SHA-256 of the model.keras that the released model was made from; None: no such model."""
    about = RELEASED.with_name("provenance.json")
    return str(read_json(about, "release")[paths.NETWORK_FILE]) if about.is_file() else None


def _warn_if_stale(model: Path, network: str | None) -> None:
    if not (stale := paths.FORGOTTEN_MODELS).is_file():
        return
    from stages.detection.forgetting import read_forgotten  # with pandas, which is not quick

    if network in read_forgotten(stale):
        warning = "was trained on images that were forgotten since; train it again"
        print(f"warning: {printable(model)} {warning}", file=sys.stderr)


def _read_calibration(folder: Path, outputs: Collection[str]) -> Calibration | None:
    """The calibration of models/<run>, from the evaluation in the same workspace.

    None: not evaluated, or a task has no temperature.
    """
    path = folder.parents[1] / paths.EVALUATION / folder.name / "calibration.json"
    if not path.is_file():
        return None
    calibration = Calibration.parse(path.read_bytes(), path, "run `dvc repro`")
    return calibration if {*outputs} - {AGE_YEARS} <= {*calibration.temperatures} else None


def _open_onnx(path: Path, device: str) -> Model:
    if path == RELEASED:
        _warn_if_stale(path, released_network())
    network = OnnxNetwork(path, device)
    text = network.session.get_modelmeta().custom_metadata_map.get(METADATA)
    about = Exported.parse(text, path, "export the model again") if text else None
    if about is None or about.input_spec is None:
        raise UserError(
            f"{path}: contains no input spec; export it with `utkface-mtl export <run>`"
        )
    facts = (about.run, path, about.input_spec, about.calibration)
    return Model(*facts, network, network.size, network.classes)


def _open_tflite(path: Path) -> Model:
    about = path.with_name(f"{path.name}.json")
    if not about.is_file():
        raise UserError(f"{about}: missing; export it again with `utkface-mtl export <run>`")
    exported = Exported.parse(about.read_bytes(), about, "export the model again")
    facts = (exported.run, path, read_input_spec(path.parent), exported.calibration)
    network = TfliteNetwork(path)
    return Model(*facts, network, network.size, network.classes)


def open_detector(model: Model, given: Path | None = None, device: str = "auto") -> Detector:
    """Open the detector that cropped the model's training images, with the same settings.

    Weights that are not given are searched in data/pretrained/, in the user's cache and next to the
    model, and else downloaded into the cache. A `UserError` if they are not those of the detector.
    """
    cropping = model.input_spec.detect
    weights = DETECTORS[cropping.detector]
    cache = platformdirs.user_cache_path(METADATA)
    beside = model.path if model.path.is_dir() else model.path.parent
    if given and not given.is_file():
        raise UserError(f"{given}: no such file")
    places = [folder / weights.file for folder in (paths.PRETRAINED, cache, beside)]
    file = given or next((place for place in places if place.is_file()), None)
    if file is None:
        file = obtain(weights, cache, None, f"the model {model.name}")
    try:
        check_detector(cropping.detector, file)
    except ValueError:
        text = f"{file}: is not {weights.file}, which {model.name} was trained with"
        raise UserError(text) from None
    ask_for_memory()
    return load_detector(cropping, file, device=device)
