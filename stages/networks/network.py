"""A network as a whole, its frozen and its learning part, and the average of several."""

import io
import json
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from stages.core.errors import UserError
from stages.core.files import check_digest, digest, read_json
from stages.core.variants import NetworkSpec
from stages.formats.untrusted import LARGEST, check_model_file
from stages.networks.backbones import build_backbone, flipped
from stages.networks.heads import build_heads

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can state


def build_network(spec: NetworkSpec, weights_file: Path | None = None) -> keras.Model:
    """Build a network: uint8 images (batch, size, size, 3) in, probabilities by task out.

    Args:
        spec: its structure.
        weights_file: the backbone's pretrained .h5 file; None: random values.
    """
    base = build_backbone(spec, weights_file)
    return keras.Model(base.input, build_heads(base.output, spec), name="network")


def in_float32(model: keras.Model, spec: NetworkSpec) -> keras.Model:
    """The same network under the float32 policy, so that it runs well on any machine.

    Args:
        model: a network built under any policy; its weights are float32 in all of them.
        spec: what it was built from.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        copy = build_network(spec)
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def average_network(members: Sequence[keras.Model], flip: bool) -> keras.Model:
    """Build one network that averages others (deep ensemble): the mean of their probabilities.

    Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474, section 2.4.

    Args:
        members: from uint8 images (batch, size, size, 3) to probabilities by task; they become
            parts of the result, and are renamed.
        flip: whether each member also sees the mirrored image.

    Returns:
        A network with the same input and outputs: the mean over members and views.

    Raises:
        ValueError: the members' inputs or outputs differ.
    """
    shapes = [_shapes(member) for member in members]
    if any(other != shapes[0] for other in shapes[1:]):
        raise ValueError("the members of an average need the same input and outputs")
    images = keras.Input(members[0].input.shape[1:], dtype="uint8", name="image")
    views = [images, flipped(images, 2, "mirrored")] if flip else [images]
    predictions = []
    for number, member in enumerate(members, start=1):
        member.name = f"member_{number}"
        predictions += [member(view) for view in views]
    if len(predictions) == 1:
        return keras.Model(images, predictions[0], name="network")
    outputs = {
        name: layers.Average(name=name, dtype="float32")([p[name] for p in predictions])
        for name in members[0].output
    }
    return keras.Model(images, outputs, name="network")


def _shapes(model: keras.Model) -> Any:
    return model.input.shape, {name: output.shape for name, output in model.output.items()}


def cut_layer(model: keras.Model) -> str | None:
    """The layer whose output separates the frozen part from the part that learns.

    Layers after it read nothing from before it but that output, also where the graph branches.
    It is the last such layer, so that layers without weights at the border (pooling) belong to
    the frozen part, whose output is then smaller. With a frozen backbone it is `pooled`.

    Returns:
        Its name. None: no layer before the first one that learns has weights.
    """
    steps = model.operations  # layers and operations, each after all that it reads
    learning = next(i for i, step in enumerate(steps) if getattr(step, "trainable_weights", ()))
    cut = next(i for i in reversed(range(learning)) if separates(steps, i))
    frozen = any(getattr(step, "weights", ()) for step in steps[: cut + 1])
    return str(steps[cut].name) if frozen else None


def separates(steps: Sequence[Any], place: int) -> bool:
    """Whether nothing after a place reads anything from before it.

    Args:
        steps: layers or operations of a network, each after all that it reads.
        place: an index into them.
    """
    before = {id(tensor) for step in steps[:place] for tensor in keras.tree.flatten(step.output)}
    later = (tensor for step in steps[place + 1 :] for tensor in keras.tree.flatten(step.input))
    return all(id(tensor) not in before for tensor in later)


def split_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """The frozen part (images to features) and the part that learns (features to outputs).

    Both share their layers, and so their weights, with `model`. None: the backbone learns from its
    first layer on.
    """
    cut = cut_layer(model)
    if cut is None:
        return None
    features = model.get_layer(cut).output
    return keras.Model(model.input, features), keras.Model(features, model.output)


def at_size(model: keras.Model, size: int) -> keras.Model:
    """The same layers, with the same weights, for images of another size in pixels."""
    images = keras.Input((size, size, 3), dtype=model.input.dtype)
    return keras.models.clone_model(model, images, clone_function=lambda layer: layer)


def save_network(model: keras.Model, path: Path) -> None:
    """Save a network as a .keras file whose bytes depend on the network alone.

    Keras writes the time of saving into the file, which is left out here, and numbers what
    layers share by its place in memory, here from 0. The file holds layers of Keras only, so
    that it loads in safe mode without any code of this project.
    """
    buffer = io.BytesIO()
    raw = path.with_suffix(".raw.keras")
    try:
        model.save(raw)
        with (
            zipfile.ZipFile(raw) as source,
            zipfile.ZipFile(buffer, "w") as target,
        ):
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name == "metadata.json":
                    metadata = json.loads(content)
                    del metadata["date_saved"]
                    content = json.dumps(metadata).encode()
                elif name == "config.json":
                    content = json.dumps(_renumbered(json.loads(content), {})).encode()
                target.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)
    finally:
        raw.unlink(missing_ok=True)
    path.write_bytes(buffer.getvalue())


def _renumbered(node: Any, numbers: dict[int, int]) -> Any:
    if isinstance(node, dict):
        return {
            key: numbers.setdefault(value, len(numbers))
            if key == "shared_object_id"
            else _renumbered(value, numbers)
            for key, value in node.items()
        }
    return [_renumbered(child, numbers) for child in node] if isinstance(node, list) else node


def load_network(path: Path) -> keras.Model:
    """Load a saved network for inference; no code of the file runs.

    Raises:
        UserError: missing, damaged, not a network of this project, or of other bytes than the
            provenance.json beside it says, if there is one.
    """
    provenance = path.with_name("provenance.json")
    if path.is_file() and provenance.is_file():
        known = read_json(provenance, f"train@{path.parent.name}")
        check_digest(path, str(known.get(path.name, digest(path))))
    try:
        check_model_file(path)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        _check_shapes(model)
        return model
    except Exception as error:  # what Keras stumbles over in a damaged file is of any type
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: not a network that can be loaded: {reason}") from error


def _check_shapes(model: keras.Model) -> None:
    """Raise ValueError unless images go in, probabilities by task come out, and memory suffices."""
    if not isinstance(model.input, keras.KerasTensor) or len(model.input.shape) != 4:
        raise ValueError("its input is not one batch of images")
    if model.input.dtype != "uint8":
        raise ValueError(f"its input is of type {model.input.dtype}, not uint8")
    outputs = model.output if isinstance(model.output, dict) else {}
    if not outputs or any(len(output.shape) != 2 for output in outputs.values()):
        raise ValueError("its outputs are not probabilities by task")
    for step in model.operations:
        for tensor in keras.tree.flatten(step.output):
            if None in tensor.shape[1:] or 4 * math.prod(tensor.shape[1:]) > LARGEST:
                raise ValueError(f"{step.name} gives {tensor.shape[1:]} numbers for one image")
