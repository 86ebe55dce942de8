"""The variants of a suite side by side on a cluster, found by real DVC."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="NOT TESTED: pip install '.[cluster]'")

SMALL = {
    "params.yaml": {
        "portraits: 300": "portraits: 60",
        "max_epochs: 6": "max_epochs: 1",
        "- mtl-cnn-ge\n- mtl-cnn-ge-gm\n- mtl-cnn-ge-am\n": "",  # left: one with weights
        "engine: local": "engine: ray",
        "address: auto": "address: local",
        "cpus: 1.0": "cpus: 0.5",
    }
}

pytestmark = pytest.mark.long


def test_variants_trained_side_by_side_are_what_repro_would_have_made(
    copy_project: Callable[..., Callable[..., str]], tmp_path: Path
):
    run = copy_project(tmp_path / "project", SMALL)
    refused = run("python", "-m", "stages.together", fails=True)
    assert "not up to date; run `dvc repro lists pretrained`" in refused
    run("dvc", "repro", "lists", "pretrained")
    stale = tmp_path / "project/data/curves/mtl-cnn/of-another-recipe.tsv"
    stale.parent.mkdir(parents=True)
    stale.write_text("step\n")
    run("python", "-m", "stages.together")
    assert not stale.exists(), "what is not made any more goes"
    pretrained = "mtl-vgg16-imagenet-block5"
    status = run("dvc", "status", "train@mtl-cnn", "evaluate@mtl-cnn", f"train@{pretrained}")
    assert "up to date" in status
    output = run("dvc", "repro")
    assert not [s for s in re.findall(r"Running stage '([^']+)'", output) if "@" in s]
    assert "Running stage 'compare'" in output
    assert "up to date" in run("dvc", "status")
    again = run("python", "-m", "stages.together")
    assert "0 of 0" in again
    lock = (tmp_path / "project/dvc.lock").read_text()
    run("dvc", "repro", "--force", "--single-item", "train@mtl-cnn")
    assert (tmp_path / "project/dvc.lock").read_text() == lock, "the same bytes"
