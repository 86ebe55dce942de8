"""What the report reads from a saved network is what was built."""

from pathlib import Path

import pytest

from stages.core.variants import NetworkSpec
from stages.networks.network import build_network, save_network
from stages.reporting.diagram import draw_structure
from stages.reporting.structure import Structure, read_structure

ALL = {"age": 5, "gender": 2, "race": 5}
BOUNDS = [14, 25, 40, 60, 116]


def saved(tmp_path: Path, **parts: object) -> Structure:
    """Build a network, save it, and read its structure from the file."""
    defaults = {"heads": "plain", "preprocessing": "unit", "classes": ALL, "size": 64}
    spec = NetworkSpec.model_validate(defaults | parts)
    save_network(build_network(spec), tmp_path / "model.keras")
    return read_structure(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("backbone", "trainable", "names", "frozen", "convolutions"),
    [
        *(
            ("cnn", "all", ["conv1", "conv2", "conv3", "conv4"], 0, 4),
            ("vgg16", "block5", [f"block{i}" for i in range(1, 6)], 4, 13),
            ("vgg16", "none", [f"block{i}" for i in range(1, 6)], 5, 13),
            ("resnet50", "conv5", [f"conv{i}" for i in range(1, 6)], 4, 53),
        ),
        (
            *("mobilenet", "conv_dw_4"),
            ["conv1", *(f"conv_dw_{i}" for i in range(1, 14))],
            *(4, 27),
        ),
        (
            *("densenet121", "all"),
            ["conv1", "conv2", "pool2", "conv3", "pool3", "conv4", "pool4", "conv5"],
            *(0, 120),
        ),
    ],
)
def test_the_blocks_and_what_is_frozen_are_read(
    tmp_path: Path, backbone: str, trainable: str, names: list[str], frozen: int, convolutions: int
):
    read = saved(tmp_path, backbone=backbone, trainable=trainable)
    assert read.image == (64, 64, 3)
    assert [block.name for block in read.blocks] == names
    assert [block.learns for block in read.blocks] == [i >= frozen for i in range(len(names))]
    assert sum(block.convolutions for block in read.blocks) == convolutions
    assert read.blocks[0].shape[2] == 3


@pytest.mark.parametrize("kind", ["ge", "ge_gm", "ge_am"])
def test_the_heads_and_their_gates_are_read_and_drawn(tmp_path: Path, kind: str):
    read = saved(tmp_path, backbone="cnn", trainable="all", heads=kind)
    steps = {step.name: step for step in read.heads}
    assert steps["age"].reads == ("age_hidden",)
    assert (steps["age"].units, steps["age"].activation) == (5, "softmax")
    embedding = {"ge": "gender_hidden", "ge_gm": "age_gated_gender", "ge_am": "age_attended_gender"}
    assert set(steps["age_with_gender"].reads) == {"pooled", embedding[kind]}
    gate = {"ge_gm": ("age_gate", 1), "ge_am": ("age_attention", 128)}.get(kind)
    drawn = draw_structure(read, "network")
    if gate:
        assert set(steps[embedding[kind]].reads) == {"gender_hidden", gate[0]}
        assert steps[gate[0]].units == gate[1]
        assert f"with {gate[0]}, {gate[0].replace('age', 'race')}" in drawn
    assert drawn.count("<rect") == 3 + len(read.blocks) + len(read.heads)
    assert drawn.count("<polyline") == 2 + len(read.blocks) + sum(
        len(step.reads) for step in read.heads
    )


def test_ages_in_years_end_in_fixed_sums(tmp_path: Path):
    read = saved(
        tmp_path,
        backbone="cnn",
        trainable="all",
        preprocessing="native",
        age_head="years",
        age_upper_bounds=BOUNDS,
        dropout=0.3,
    )
    steps = {step.name: step for step in read.heads}
    assert read.preprocessing == "native"
    assert steps["age"].reads == ("age_years",)
    assert not steps["age"].learns
    assert steps["age_years"].units == 116
    assert steps["age_dropout"].kind == "dropout"
    assert "116 · softmax" in draw_structure(read, "network")
