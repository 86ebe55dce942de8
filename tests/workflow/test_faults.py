"""Stages that are killed, interrupted, or refused by the disk: what is there stays whole.

Each stage runs as it does in the workflow, as a process of its own, in a small workspace.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from stage_processes import STAGES, VARIANT, Workspace, make_workspace

CHEAP = (
    "validate",
    "download",
    "plan",
    "split",
    "lists",
)  # seconds each, without TensorFlow or weights
KILLS = int(os.environ.get("UTKFACE_KILLS", "2"))  # of each stage, by the long test
RANDOM = random.Random(0)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, mobilenet_weights: Path) -> Workspace:
    """A workspace in which nothing has run."""
    return make_workspace(tmp_path_factory.mktemp("faults") / "workspace", mobilenet_weights)


@pytest.fixture(scope="module")
def finished(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Workspace]:
    """Run the stages undisturbed up to one, once; what they had left is there each time."""
    copies = tmp_path_factory.mktemp("copies")

    def until(last: str) -> Workspace:
        if not workspace.after:
            workspace.behind[""] = workspace.keep(copies / "nothing")
        for previous, stage in pairwise(("", *STAGES[: STAGES.index(last) + 1])):
            if stage in workspace.after:
                continue
            workspace.before[stage] = workspace.behind[previous]
            workspace.put_back(workspace.before[stage])
            begin = time.monotonic()
            workspace.run(stage)
            workspace.seconds[stage] = time.monotonic() - begin
            workspace.after[stage] = workspace.digests()
            workspace.behind[stage] = workspace.keep(copies / stage)
        workspace.put_back(workspace.behind[last])
        return workspace

    return until


def kill_and_run_again(workspace: Workspace, stage: str, share: float) -> bool:
    """Kill a stage after a share of its time; returns whether it was still running."""
    workspace.put_back(workspace.before[stage])
    before, after = workspace.digests(), workspace.after[stage]
    process = workspace.start(stage)
    time.sleep(share * workspace.seconds[stage])
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for name, found in without_curves(workspace.digests()).items():
        assert found in (before.get(name), after.get(name)), f"{name} is not whole"
    workspace.run(stage)
    assert workspace.digests() == after
    assert not [name for name in workspace.digests(hidden=True) if name.endswith(".partial")]
    return alive


@pytest.mark.parametrize("stage", CHEAP)
def test_a_stage_that_was_killed_gives_the_same_when_it_runs_again(
    stage: str, finished: Callable[[str], Workspace]
):
    kill_and_run_again(finished(CHEAP[-1]), stage, RANDOM.uniform(0.5, 0.95))


@pytest.mark.long
def test_every_stage_survives_kills_at_random_moments(finished: Callable[[str], Workspace]):
    workspace = finished(STAGES[-1])
    for stage in STAGES:
        hit = 0
        while hit < KILLS:
            if kill_and_run_again(workspace, stage, RANDOM.uniform(0.3, 1.0)):
                hit += 1
            else:  # it had ended: the machine is less busy than when its time was taken
                workspace.seconds[stage] *= 0.9
        print(f"{stage}: {hit} kills survived", flush=True)


@pytest.mark.long
def test_a_training_killed_in_its_second_epoch_goes_on_from_its_checkpoint(
    finished: Callable[[str], Workspace],
):
    stage = f"train {VARIANT}"
    workspace = finished(stage)
    workspace.put_back(workspace.before[stage])
    with workspace.start(stage) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 1," in line:
                break
        while not list((workspace.folder / "data/checkpoints").glob("*/epoch-*")):
            time.sleep(0.01)
        process.kill()
    output = workspace.run(stage)
    assert workspace.digests() == workspace.after[stage]
    assert "epoch 3," in output


@pytest.mark.long
def test_a_training_whose_code_was_edited_meanwhile_is_not_lost(
    finished: Callable[[str], Workspace],
):
    stage, dvc_stage = f"train {VARIANT}", f"train@{VARIANT}"
    workspace = finished(stage)
    workspace.put_back(workspace.before[stage])
    code = workspace.folder / "stages/learning/optimizer.py"
    text = code.read_text()
    with workspace.start(stage, dvc_stage=dvc_stage) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 1," in line:
                break
        code.write_text(f"{text}# edited\n")
        output, _ = process.communicate()
    assert process.returncode == 1
    assert "error: changed while this ran: stages/learning/optimizer.py. " in output
    code.write_text(text)
    workspace.run(stage)
    assert workspace.digests() == workspace.after[stage]
    timing = json.loads((workspace.folder / f"data/timings/{VARIANT}.json").read_text())
    assert timing["images_per_second"] == 0, "no epoch was trained again"
    assert not list((workspace.folder / "data/checkpoints").glob("*/epoch-*"))


# --- Ctrl-C -------------------------------------------------------------------------------


def interrupt(workspace: Workspace, stage: str, when: str) -> None:
    """Interrupt a stage that prints or leaves something; what was there must stay."""
    before = without_curves(workspace.digests())
    process = workspace.start(stage)
    while not list(workspace.folder.glob(when)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert output.endswith("error: interrupted; what was there before stays\n")
    assert "Traceback" not in output
    assert without_curves(workspace.digests()) == before
    assert not [name for name in workspace.digests(hidden=True) if name.endswith(".partial")]


def without_curves(digests: Mapping[str, str]) -> dict[str, str]:
    """All but the training curves, which grow epoch by epoch and are begun anew each time."""
    return {name: found for name, found in digests.items() if not name.startswith("data/curves")}


def test_ctrl_c_ends_a_stage_with_one_line_and_leaves_what_was_there(
    finished: Callable[[str], Workspace],
):
    workspace = finished("plan")
    interrupt(workspace, "download", "data/raw/.*.partial")


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "when"),
    [("detect", "data/faces/.index.csv.partial"), (f"train {VARIANT}", "data/checkpoints/*/*")],
)
def test_ctrl_c_ends_the_longer_stages_too(
    stage: str, when: str, finished: Callable[[str], Workspace]
):
    workspace = finished(STAGES[-1])
    shutil.rmtree(workspace.folder / "data/checkpoints", ignore_errors=True)
    interrupt(workspace, stage, when)
    workspace.run(stage)
    assert workspace.digests() == workspace.after[STAGES[-1]]


# --- the disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(
    tmp_path: Path, finished: Callable[[str], Workspace]
) -> Iterator[Callable[[str, str], Workspace]]:
    """A workspace before a stage, on a disk of its own that is full or locked."""
    if os.geteuid() != 0:
        pytest.skip("not root: NOT TESTED with a full disk or one that is read-only")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here: NOT TESTED with a full disk")

    def spoil(stage: str, how: str) -> Workspace:
        workspace = finished(stage)
        workspace.put_back(workspace.before[stage])
        shutil.copytree(workspace.folder, disk, dirs_exist_ok=True)
        if how == "full":
            (disk / "filling").write_bytes(bytes(shutil.disk_usage(disk).free))
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        return replace(workspace, folder=disk)

    yield spoil
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("stage", ["download", "split"])
@pytest.mark.parametrize(
    ("how", "told"), [("full", "No space left on device"), ("locked", "Read-only file system")]
)
def test_a_disk_that_takes_nothing_is_one_error_and_harms_nothing(
    stage: str, how: str, told: str, small_disk: Callable[[str, str], Workspace]
):
    workspace = small_disk(stage, how)
    before = workspace.digests(hidden=True)
    output = workspace.run(stage, fails=True)
    assert re.search(rf"^error: .*{told}$", output, re.MULTILINE), output
    assert "Traceback" not in output
    now = workspace.digests(hidden=True)
    assert {name: now.get(name) for name in before} == before
    new = {n: d for n, d in without_curves(now).items() if n not in before}
    assert new.items() <= workspace.after[stage].items(), (
        "whole, if it came before the disk was full"
    )


@pytest.mark.long
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("download", "split")])
@pytest.mark.parametrize(
    ("how", "told"), [("full", "No space left on device"), ("locked", "Read-only file system")]
)
def test_a_disk_that_takes_nothing_ends_the_longer_stages_too(
    stage: str, how: str, told: str, small_disk: Callable[[str, str], Workspace]
):
    test_a_disk_that_takes_nothing_is_one_error_and_harms_nothing(stage, how, told, small_disk)


def test_a_file_that_may_not_be_read_is_named(finished: Callable[[str], Workspace]):
    workspace = finished("lists")
    file = workspace.folder / "data/faces/index.csv"
    # Root reads everything; without these two of its rights it does not.
    without = "-dac_override,-dac_read_search"
    wrapper = ("setpriv", f"--bounding-set={without}", f"--inh-caps={without}")
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root without setpriv: NOT TESTED with an unreadable file")
    before = workspace.digests()
    file.chmod(0)
    try:
        output = workspace.run("split", *(wrapper if os.geteuid() == 0 else ()), fails=True)
    finally:
        file.chmod(0o644)
    assert output.splitlines()[-1] == "error: data/faces/index.csv: Permission denied"
    assert "Traceback" not in output
    assert workspace.digests() == before
