"""The variants of a suite side by side on a cluster, found by real DVC."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from processes import environment

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
    refused = run("python", "-m", "stages.commands", "train-on-cluster", fails=True)
    assert "not up to date; run `dvc repro lists pretrained`" in refused
    run("dvc", "repro", "lists", "pretrained")
    stale = tmp_path / "project/data/curves/mtl-cnn/of-another-recipe.tsv"
    stale.parent.mkdir(parents=True)
    stale.write_text("step\n")
    run("python", "-m", "stages.commands", "train-on-cluster")
    assert not stale.exists(), "what is not made any more goes"
    pretrained = "mtl-vgg16-imagenet-block5"
    status = run("dvc", "status", "train@mtl-cnn", "evaluate@mtl-cnn", f"train@{pretrained}")
    assert "up to date" in status
    output = run("dvc", "repro")
    assert not [s for s in re.findall(r"Running stage '([^']+)'", output) if "@" in s]
    assert "Running stage 'compare'" in output
    assert "up to date" in run("dvc", "status")
    again = run("python", "-m", "stages.commands", "train-on-cluster")
    assert "0 of 0" in again
    lock = (tmp_path / "project/dvc.lock").read_text()
    run("dvc", "repro", "--force", "--single-item", "train@mtl-cnn")
    assert (tmp_path / "project/dvc.lock").read_text() == lock, "the same bytes"


def test_a_run_whose_plan_changes_meanwhile_is_not_taken(
    copy_project: Callable[..., Callable[..., str]], tmp_path: Path
):
    run = copy_project(tmp_path / "project", SMALL)
    plan = tmp_path / "project/data/plan/mtl-cnn.json"
    run("dvc", "repro", "lists", "pretrained")
    lock, text = (tmp_path / "project/dvc.lock").read_text(), plan.read_text()
    command = ["python", "-m", "stages.commands", "train-on-cluster"]
    together = subprocess.Popen(
        command,
        cwd=tmp_path / "project",
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not trainings("mtl-cnn"):
        assert together.poll() is None
        time.sleep(0.1)
    edited = text.replace('"learning_rate": 0.001', '"learning_rate": 0.02')
    assert edited != text
    plan.unlink()  # it may be a link into DVC's cache
    plan.write_text(edited)
    output, _ = together.communicate()
    assert together.returncode == 1
    changed = r"changed meanwhile: .*train@mtl-cnn: data/plan/mtl-cnn\.json; its outputs are not"
    assert re.search(changed, output), output
    taken = "train-on-cluster: train@mtl-vgg16-imagenet-block5, evaluate@"
    assert taken in output, "the other is taken"
    assert "train@mtl-cnn:" not in (tmp_path / "project/dvc.lock").read_text().replace(lock, "")
    assert not (tmp_path / "project/models/mtl-cnn").exists()


def trainings(variant: str) -> list[psutil.Process]:
    """The processes on this machine that train a variant."""
    words = ["stages.train", variant]
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[-2:] == words
    ]
