"""The same bytes again: forced, two at once, killed, restored, or pulled from an S3 remote."""

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from processes import call, environment
from ruamel.yaml import YAML
from storage import KEYS, s3_server

from stages.core.files import digest

SMALL = {
    "params.yaml": {
        "portraits: 300": "portraits: 60",
        "max_epochs: 6": "max_epochs: 1",
        "- mtl-cnn-ge-gm\n- mtl-cnn-ge-am\n- mtl-vgg16-imagenet-block5\n": "",
    }
}
# Two runs differ in these; they are neither in git nor in DVC's cache.
UNTRACKED = ("data/timings", "data/provenance")

Run = Callable[..., str]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def run(copy_project: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a command in a committed, reproduced copy of the project."""
    project = tmp_path_factory.mktemp("reproduction") / "project"
    return copy_project(project, SMALL, "dvc repro")


@pytest.fixture(autouse=True)
def _baseline_again(run: Run) -> Iterator[None]:
    yield
    run("git", "checkout", "-q", "--", ".")
    run("git", "clean", "-qfd")
    run("dvc", "checkout", "-q", "--force")


def project_of(run: Run) -> Path:
    return run.project  # type: ignore[attr-defined]


def outputs(project: Path) -> dict[str, str]:
    """Digests of all that the workflow made, by path."""
    files = [
        p for top in ("data", "models", "metrics", "report") for p in (project / top).rglob("*")
    ]
    found = {p.relative_to(project).as_posix(): digest(p) for p in files if p.is_file()}
    return {name: d for name, d in found.items() if not name.startswith(UNTRACKED)}


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_a_forced_run_leaves_every_byte_and_dvc_lock_as_they_are(run: Run):
    project = project_of(run)
    before, lock = outputs(project), (project / "dvc.lock").read_bytes()
    output = run("dvc", "repro", "--force")
    assert {"download", "detect", "split", "train@mtl-cnn", "compare", "report"} <= stages_run(
        output
    )
    assert (project / "dvc.lock").read_bytes() == lock
    assert outputs(project) == before
    assert run("git", "status", "--porcelain") == ""
    assert {f"models/mtl-cnn/{f}" for f in ("model.keras", "provenance.json")} <= set(before)


def test_an_experiment_is_restored_to_the_byte(run: Run):
    project = project_of(run)
    baseline = outputs(project)
    name = ("-n", "faster")
    run("dvc", "exp", "run", *name, "-S", "variants.toml:mtl-cnn.learning_rate=0.002")
    wanted = outputs(project)
    assert wanted["models/mtl-cnn/model.keras"] != baseline["models/mtl-cnn/model.keras"]
    run("git", "checkout", "-q", "--", ".")
    run("dvc", "checkout", "-q")
    assert outputs(project) == baseline
    run("dvc", "exp", "apply", "faster")
    assert outputs(project) == wanted


def at_once(run: Run, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """Start commands side by side; returns their exit statuses and what they printed."""
    processes = [started(run, *command) for command in commands]
    return [(process.wait(), process.communicate()[0]) for process in processes]


def started(run: Run, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        cwd=project_of(run),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_until_detect_writes(run: Run, process: "subprocess.Popen[str]") -> None:
    while not (project_of(run) / "data/faces/.index.csv.partial").exists():
        assert process.poll() is None
        time.sleep(0.01)


# What DVC says to the one that has to wait. The last two are of two experiments that share the
# workspace: ours, where one's params came under the other's node, and a defect of DVC's own,
# where one's end takes the references of the other.
REFUSED = r"Unable to acquire lock|is busy, it is being blocked|changed while this ran|'NoneType'"


@pytest.mark.parametrize(
    "commands",
    [
        (("dvc", "repro", "lists"), ("dvc", "repro", "lists")),
        tuple(("dvc", "exp", "run", "lists", "-S", f"seed={seed}") for seed in (8, 9)),
        tuple(("dvc", "exp", "run", "--temp", "lists", "-S", f"seed={seed}") for seed in (8, 9)),
    ],
    ids=["repro", "exp run", "exp run --temp"],
)
def test_two_runs_at_once_do_no_harm(run: Run, commands: tuple[tuple[str, ...], ...]):
    change(run, "params.yaml", "\nseed: 1 ", "\nseed: 7 ")
    for command, (status, output) in zip(commands, at_once(run, *commands), strict=True):
        if status:
            assert re.search(REFUSED, output), output
            run(*command)
    params = project_of(run) / "params.yaml"
    for seed in (7, 8, 9):  # what the cache of runs now has for each of them is its own
        params.write_text(re.sub(r"\nseed: \d+ ", f"\nseed: {seed} ", params.read_text()))
        run("dvc", "repro", "lists")
        assert_made_by_its_params(run, "split", "data/split")


def assert_made_by_its_params(run: Run, node: str, outputs: str) -> None:
    """Run a node by force: what DVC took down and what lies there is what comes out."""
    files = [f for f in (project_of(run) / outputs).iterdir() if f.is_file()]
    made = {path: path.read_bytes() for path in [project_of(run) / "dvc.lock", *files]}
    run("dvc", "repro", "--force", "--single-item", node)
    assert made == {path: path.read_bytes() for path in made}


def change(run: Run, file: str, old: str, new: str) -> None:
    path = project_of(run) / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def recorded(run: Run, stage: str) -> object:
    """What dvc.lock says of a stage."""
    return YAML(typ="safe").load(project_of(run) / "dvc.lock")["stages"][stage]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("params.yaml", "margin: 0.15 ", "margin: 0.3 "), "params.yaml: detect.margin"),
        (("stages/detection/crops.py", '"""', '"""Edited. '), "stages/detection/crops.py"),
        (("params.yaml", "max_epochs: 1", "max_epochs: 2"), None),
    ],
    ids=["params", "code", "another stage's params"],
)
def test_who_edits_while_a_stage_runs_has_nothing_recorded_wrongly(
    run: Run, edit: tuple[str, str, str], said: str | None
):
    change(run, "params.yaml", "margin: 0.2 ", "margin: 0.15 ")
    before = recorded(run, "detect")
    process = started(run, "dvc", "repro", "detect")
    wait_until_detect_writes(run, process)
    change(run, *edit)
    output = process.communicate()[0]
    assert (process.returncode != 0) == (said is not None), output
    if said is not None:
        assert f"error: changed while this ran: {said}. " in output
        assert recorded(run, "detect") == before
        run("dvc", "repro", "detect")
    assert_made_by_its_params(run, "detect", "data/faces")


def test_a_killed_repro_is_taken_up_by_the_next(run: Run):
    project = project_of(run)
    change(run, "params.yaml", "margin: 0.2 ", "margin: 0.12 ")  # not in the run cache yet
    process = started(run, "dvc", "repro", "lists")
    wait_until_detect_writes(run, process)
    os.killpg(process.pid, signal.SIGKILL)  # dvc and the node that it runs
    process.communicate()
    assert not (project / "data/faces/index.csv").exists(), "half an index is no index"
    assert stages_run(run("dvc", "repro", "lists")) >= {"detect", "split"}
    made = (project / "data/faces/index.csv").read_bytes()
    run("dvc", "repro", "--force", "--single-item", "detect")
    assert made == (project / "data/faces/index.csv").read_bytes()
    assert not list(project.rglob(".*.partial"))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server on loopback with a bucket `store`."""
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    with s3_server("store") as address:
        yield address


def test_a_second_clone_pulls_from_a_remote_and_has_nothing_to_compute(
    run: Run, s3: str, tmp_path: Path
):
    project, clone = project_of(run), tmp_path / "clone"
    run("dvc", "remote", "add", "--default", "store", "s3://store/utkface-mtl")
    run("dvc", "remote", "modify", "store", "endpointurl", s3)
    run("git", "commit", "-qam", "remote")
    run("dvc", "push")
    call(tmp_path, "git", "clone", "-q", str(project), str(clone))
    call(clone, "dvc", "pull")
    assert outputs(clone) == outputs(project)
    output = call(clone, "dvc", "repro")
    assert stages_run(output) == set()
    assert "up to date" in output
    assert call(clone, "git", "status", "--porcelain") == ""


def test_a_file_that_the_remote_holds_damaged_is_not_taken(run: Run, s3: str, tmp_path: Path):
    project, clone = project_of(run), tmp_path / "clone"
    (project / ".dvc/config.local").write_text(
        f"[core]\n    remote = local\n['remote \"local\"']\n    url = s3://store/other\n"
        f"    endpointurl = {s3}\n"
    )
    run("dvc", "push")
    index = project / "data/faces/index.csv"
    md5 = hashlib.md5(index.read_bytes(), usedforsecurity=False).hexdigest()
    place = {"Bucket": "store", "Key": f"other/files/md5/{md5[:2]}/{md5[2:]}"}
    store = boto3.client("s3", endpoint_url=s3)
    assert store.get_object(**place)["Body"].read() == index.read_bytes()
    store.put_object(**place, Body=index.read_bytes()[:-1] + b"X")
    call(tmp_path, "git", "clone", "-q", str(project), str(clone))
    (clone / ".dvc/config.local").write_text((project / ".dvc/config.local").read_text())
    call(clone, "dvc", "config", "--local", "remote.local.verify", "true")
    call(clone, "dvc", "pull", fails=True)
    assert not (clone / "data/faces/index.csv").exists()
