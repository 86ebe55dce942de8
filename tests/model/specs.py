"""Networks of these tests, named by their parts."""

from pathlib import Path
from typing import Any

import keras

from stages.core.variants import NetworkSpec
from stages.networks.network import build_network


def network_of(
    backbone: str,
    trainable: str,
    heads: str,
    preprocessing: str,
    classes: dict[str, int],
    size: int,
    weights_file: Path | None = None,
    **more: Any,
) -> keras.Model:
    """`build_network` of a `NetworkSpec` with these fields."""
    spec = NetworkSpec(
        backbone=backbone,  # type: ignore[arg-type]
        trainable=trainable,
        heads=heads,
        preprocessing=preprocessing,
        classes=classes,
        size=size,
        **more,
    )
    return build_network(spec, weights_file)
