"""The structure of a saved network, read from its file without TensorFlow.

A .keras file is a zip archive; its config.json lists the layers, each after its inputs. In this
project's networks the backbone ends in the layer `pooled`; the heads follow.
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import UserError

END_OF_BACKBONE = "pooled"


@dataclass(frozen=True)
class Block:
    """A part of the backbone: convolutions whose names begin with `name`, as `block5`."""

    name: str
    convolutions: int
    shape: tuple[int, ...]  # of its input: height, width, channels
    learns: bool


@dataclass(frozen=True)
class Step:
    """A layer of the heads; units and activation are those of a dense layer."""

    name: str
    kind: str  # dense, concatenate, multiply or dropout
    units: int
    activation: str
    learns: bool
    reads: tuple[str, ...]  # its inputs, of which `pooled` is the backbone's output


@dataclass(frozen=True)
class Structure:
    """A network from the image (height, width, channels) to its outputs, in order."""

    image: tuple[int, ...]
    preprocessing: str
    blocks: tuple[Block, ...]
    heads: tuple[Step, ...]


def read_structure(path: Path) -> Structure:
    """Read a .keras file of this project; a `UserError` if it is missing or not one."""
    remedy = f"run `dvc repro -f train@{path.parent.name}`"
    try:
        with zipfile.ZipFile(path) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {remedy}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a .keras file ({error}); {remedy}") from error
    names = [layer["name"] for layer in layers]
    if END_OF_BACKBONE not in names:
        raise UserError(f"{path}: has no layer {END_OF_BACKBONE!r}; {remedy}")
    end = names.index(END_OF_BACKBONE)
    convolutions: dict[str, list[dict[str, Any]]] = {}
    for layer in layers[:end]:
        if layer["class_name"] in ("Conv2D", "DepthwiseConv2D"):
            # A depthwise convolution of MobileNet and the pointwise one that follows are a block.
            name = layer["name"].replace("conv_pw", "conv_dw")
            block = name if name.startswith("conv_dw") else name.split("_")[0]
            convolutions.setdefault(block, []).append(layer)
    return Structure(
        tuple(layers[0]["config"]["batch_shape"][1:]),
        next((x["name"] for x in layers if x["class_name"] == "Rescaling"), "none"),
        tuple(_block(name, group) for name, group in convolutions.items()),
        tuple(_step(layer) for layer in layers[end + 1 :]),
    )


def _block(name: str, layers: list[dict[str, Any]]) -> Block:
    shape = tuple(layers[0]["build_config"]["input_shape"][1:])
    learns = any(layer["config"]["trainable"] for layer in layers)
    return Block(name, len(layers), shape, learns)


def _step(layer: dict[str, Any]) -> Step:
    config, kind = layer["config"], layer["class_name"].lower()
    reads = tuple(dict.fromkeys(_sources(layer["inbound_nodes"])))
    if kind != "dense":
        return Step(layer["name"], kind, 0, "", False, reads)
    return Step(
        layer["name"], kind, config["units"], config["activation"], config["trainable"], reads
    )


def _sources(call: Any) -> Iterator[str]:
    if isinstance(call, dict) and call.get("class_name") == "__keras_tensor__":
        yield call["config"]["keras_history"][0]
    elif isinstance(call, dict | list):
        for part in call.values() if isinstance(call, dict) else call:
            yield from _sources(part)
