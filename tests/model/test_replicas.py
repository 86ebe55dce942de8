"""Several devices and workers learn what one device learns from the same batches."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cluster import free_ports
from stages.core.errors import UserError
from stages.core.params import load_params
from stages.learning.batches import Batches
from stages.learning.replicas import find_replicas
from stages.runs.resolve import resolve

HERE = Path(__file__).parent
TOP = HERE.parents[1]
# The last batch has one example: fewer than there are replicas.
SMALL = {"train": 13, "val": 5, "recipe": {"batch_size": 6, "epochs": 2}}
PATIENCE = 60.0


class Training:
    """One process, or one for each worker."""

    def __init__(self, folder: Path, workers: int = 0, **request: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.outputs = [folder / f"{i}.json" for i in range(max(workers, 1))]
        # Each worker has its own checkpoint folder, as on machines that share no disk.
        self.checkpoints = [folder / f"checkpoints-{i}" for i in range(max(workers, 1))]
        peers = [f"127.0.0.1:{port}" for port in free_ports(workers)]
        self.processes = []
        for i, output in enumerate(self.outputs):
            task = {"cluster": {"worker": peers}, "task": {"type": "worker", "index": i}}
            paths = {"checkpoints": str(self.checkpoints[i]), "output": str(output)}
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, str(HERE / "replicated.py"), json.dumps(request | paths)],
                    env=os.environ
                    | {"PYTHONPATH": os.pathsep.join((str(TOP), str(HERE)))}
                    | ({"TF_CONFIG": json.dumps(task)} if workers else {}),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def figures(self) -> list[dict[str, Any]]:
        """What each process wrote at its end."""
        for process in self.processes:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
        return [json.loads(output.read_text()) for output in self.outputs]


def assert_same_curves(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert len(found["told"]) == len(wanted["told"])
    for epoch, expected in zip(found["told"], wanted["told"], strict=True):
        assert epoch == pytest.approx(expected, rel=2e-3, abs=2e-4)
    assert found["weights"] == pytest.approx(wanted["weights"], rel=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The training on one device."""
    folder = tmp_path_factory.mktemp("alone")
    return Training(folder, choice="auto", **SMALL).figures()[0]


def test_two_devices_learn_what_one_learns(alone: dict[str, Any], tmp_path: Path):
    together = Training(tmp_path, devices=2, choice="mirrored", **SMALL).figures()[0]
    assert_same_curves(together, alone)


@pytest.mark.long
def test_four_devices_learn_what_one_learns(alone: dict[str, Any], tmp_path: Path):
    together = Training(tmp_path, devices=4, choice="mirrored", **SMALL).figures()[0]
    assert_same_curves(together, alone)


CHANGES: dict[str, dict[str, Any]] = {
    "optimiser": {"recipe": {"weight_average": 0.5, "weight_decay": 0.1}},
    "steps at once": {"execution": {"steps_at_once": 2}},
    "images on the device": {"execution": {"on_device": True}},
    "features": {"backbone": "vgg16", "trainable": "block5", "recipe": {"learning_rate": 1e-4}},
    "objective": {"recipe": {"balance": "sampling"}},
    "small": {"recipe": {"progressive_epochs": 1, "progressive_size": 16}},
    "xla, batch normalisation": {"execution": {"xla": True}},
    "xla": {
        "execution": {"xla": True},
        "backbone": "vgg16",
        "trainable": "block5",
        "recipe": {"learning_rate": 1e-4},
    },
}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=[pytest.mark.long] if name != "optimiser" else [])
        for name, changes in CHANGES.items()
    ],
)
def test_whatever_is_set_two_devices_learn_what_one_learns(changes: dict[str, Any], tmp_path: Path):
    request = SMALL | changes | {"recipe": SMALL["recipe"] | changes.get("recipe", {})}
    one = Training(tmp_path / "one", choice="none", **request).figures()[0]
    two = Training(tmp_path / "two", devices=2, choice="mirrored", **request).figures()[0]
    assert_same_curves(two, one)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_in_mixed_precision_two_devices_learn_what_one_learns(precision: str, tmp_path: Path):
    # Losses so small that no sum of gradients is beyond float16: Keras leaves out such a step, and
    # the sum over a whole batch is beyond it before the sum over half of one is.
    weights = {"loss_weights": {"age": 0.01, "gender": 0.01, "race": 0.01}}
    request = SMALL | {"precision": precision, "recipe": SMALL["recipe"] | weights}
    one = Training(tmp_path / "one", choice="none", **request).figures()[0]
    two = Training(tmp_path / "two", devices=2, choice="mirrored", **request).figures()[0]
    # Of thirteen images one that is near the border moves an accuracy by a thirteenth.
    losses = [
        [{k: x for k, x in e.items() if "loss" in k} for e in run["told"]] for run in (one, two)
    ]
    for epoch, expected in zip(*losses, strict=True):
        assert len(epoch) == 8
        assert epoch == pytest.approx(expected, rel=2e-2)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)


@pytest.mark.long
def test_two_workers_learn_what_one_device_learns(alone: dict[str, Any], tmp_path: Path):
    request = {"choice": "auto", "patience": PATIENCE, **SMALL}
    for worker in Training(tmp_path, workers=2, **request).figures():
        assert_same_curves(worker, alone)


@pytest.mark.long
@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stuck"])
def test_a_lost_worker_ends_the_run_with_one_error_and_it_goes_on_from_its_checkpoint(
    alone: dict[str, Any], tmp_path: Path, killed: int, how: signal.Signals
):
    request = {"choice": "multi-worker", "patience": 20.0, **SMALL}
    run = Training(tmp_path, workers=2, dawdle=3, **request)
    lost, left = run.processes[killed], run.processes[1 - killed]
    assert lost.stdout is not None
    while "epoch 1" not in lost.stdout.readline():
        assert lost.poll() is None
    chiefs = run.checkpoints[0]
    while not list(chiefs.glob("epoch-*")):
        time.sleep(0.05)
    lost.send_signal(how)
    begin = time.monotonic()
    _, errors = left.communicate(timeout=120)
    assert time.monotonic() - begin < 60
    lost.kill()
    lost.communicate()
    assert left.returncode != 0
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, errors
    assert re.search(r"worker.*127\.0\.0\.1.*start all workers again", said[0])
    assert "Traceback" not in errors
    assert [path.name for path in chiefs.iterdir()] == ["epoch-1.npz"]
    assert not run.checkpoints[1].exists(), "the chief's matter"
    for worker in Training(tmp_path, workers=2, **request).figures():
        assert_same_curves(worker, alone)


@pytest.mark.long
def test_a_worker_that_would_train_something_else_says_so_and_ends_the_run(tmp_path: Path):
    run = Training(tmp_path, workers=2, choice="multi-worker", patience=20.0, unequal=1, **SMALL)
    _, errors = run.processes[1].communicate(timeout=120)
    assert run.processes[1].returncode == 1
    assert "error: worker 1 would not train what the chief trains" in errors
    assert "Traceback" not in errors
    _, errors = run.processes[0].communicate(timeout=120)
    assert run.processes[0].returncode != 0
    assert not run.outputs[0].exists()


@pytest.mark.long
def test_workers_that_do_not_come_end_the_start(tmp_path: Path):
    run = Training(tmp_path, workers=2, choice="auto", patience=15.0, **SMALL)
    run.processes[1].kill()
    _, errors = run.processes[0].communicate(timeout=120)
    assert run.processes[0].returncode != 0
    assert "not all workers" in errors


def test_a_batch_is_divided_without_rest_and_a_small_one_goes_to_all():
    rows = np.arange(11)
    batches = Batches(rows * 10, rows, {"age": rows}, 8)
    parts = [batches.part(0, place, 3) for place in range(3)]
    assert [len(inputs) for inputs, _ in parts] == [3, 3, 2]
    assert np.concatenate([inputs for inputs, _ in parts]).tolist() == (rows[:8] * 10).tolist()
    assert np.concatenate([labels["age"] for _, labels in parts]).tolist() == rows[:8].tolist()
    assert [batches.part(1, place, 4)[0].tolist() for place in range(4)] == [[80, 90, 100]] * 4
    assert (batches.size(0), batches.size(1)) == (8, 3)


@pytest.mark.parametrize(
    ("rule", "factor"), [("keep", 1.0), ("linear", 4.0), ("sqrt", 2.0)], ids=lambda v: str(v)
)
def test_the_global_batch_and_its_rule_give_the_learning_rate(rule: str, factor: float):
    params = load_params(TOP / "params.yaml")
    own = resolve(params, "mtl-cnn").training
    train = params.train.model_copy(update={"global_batch": 4 * own.batch_size, "lr_scaling": rule})
    scaled = resolve(params.model_copy(update={"train": train}), "mtl-cnn").training
    assert scaled.batch_size == 4 * own.batch_size
    assert scaled.learning_rate == pytest.approx(factor * own.learning_rate)
    same = {"batch_size", "learning_rate"}
    assert scaled.model_dump(exclude=same) == own.model_dump(exclude=same)


@pytest.mark.parametrize(
    ("config", "choice", "words"),
    [
        ("", "mirrored", ["machine.strategy", "one device"]),
        ("", "multi-worker", ["machine.strategy", "TF_CONFIG", "docs/scale.md"]),
        ("{", "auto", ["TF_CONFIG", "JSON"]),
        ('{"cluster": {"ps": ["a:1", "b:1"]}}', "auto", ["TF_CONFIG", "chief and worker"]),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            *("auto", ["TF_CONFIG", "task"]),
        ),
    ],
)
def test_a_strategy_that_cannot_be_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, config: str, choice: str, words: list[str]
):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError) as error:
        find_replicas(choice, PATIENCE)
    assert all(word in str(error.value) for word in words)


def test_one_device_and_no_workers_need_no_strategy():
    assert find_replicas("auto", PATIENCE) is None
    assert find_replicas("none", PATIENCE) is None
