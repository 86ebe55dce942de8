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
    """A part of the backbone: convolutions whose names begin with `name`, as `block5`.

    `shape` is that of its input: height, width, channels.
    """

    name: str
    convolutions: int
    shape: tuple[int, int, int]
    learns: bool


@dataclass(frozen=True)
class Step:
    """A layer of the heads.

    Attributes:
        kind: `dense`, `concatenate`, `multiply` or `dropout`.
        units: of a dense layer, else 0.
        activation: of a dense layer, else empty.
        learns: whether it has trainable weights.
        reads: names of its inputs; `pooled` is the backbone's output.
    """

    name: str
    kind: str
    units: int
    activation: str
    learns: bool
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Structure:
    """A network from the image (height, width, channels) to its outputs, in order."""

    image: tuple[int, int, int]
    preprocessing: str
    blocks: tuple[Block, ...]
    heads: tuple[Step, ...]


def read_structure(path: Path) -> Structure:
    """Read a .keras file of this project.

    Raises:
        UserError: the file is missing or is not one.
    """
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
    height, width, channels = layers[0]["config"]["batch_shape"][1:]
    return Structure(
        (height, width, channels),
        next((x["name"] for x in layers if x["class_name"] == "Rescaling"), "none"),
        tuple(_blocks(layers[:end])),
        tuple(_step(layer) for layer in layers[end + 1 :]),
    )


def _blocks(layers: list[dict[str, Any]]) -> Iterator[Block]:
    """The blocks in order, each with its convolutions."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for layer in layers:
        if layer["class_name"] == "Conv2D":
            parts.setdefault(layer["name"].split("_")[0], []).append(layer)
    for name, convolutions in parts.items():
        height, width, channels = convolutions[0]["build_config"]["input_shape"][1:]
        learns = any(layer["config"]["trainable"] for layer in convolutions)
        yield Block(name, len(convolutions), (height, width, channels), learns)


def _step(layer: dict[str, Any]) -> Step:
    config, kind = layer["config"], layer["class_name"].lower()
    dense = kind == "dense"
    return Step(
        layer["name"],
        kind,
        config["units"] if dense else 0,
        config["activation"] if dense else "",
        dense and config["trainable"],
        tuple(dict.fromkeys(_history(layer["inbound_nodes"]))),
    )


def _history(node: Any) -> Iterator[str]:
    """The names of the layers whose outputs a serialised call reads."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            yield node["config"]["keras_history"][0]
        else:
            node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _history(part)
