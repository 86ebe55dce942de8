"""A Ray cluster of two nodes on this machine: the same bytes, also where a node is lost."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

pytest.importorskip("ray", reason="NOT TESTED: pip install '.[cluster]'")

from ray import cloudpickle
from ray.cluster_utils import Cluster as Nodes
from ruamel.yaml import YAML
from stage_processes import Workspace, make_workspace

from stages.commands import train_on_cluster
from stages.core.errors import UserError
from stages.core.sections import Cluster
from stages.learning.features import features_on
from stages.networks import device
from stages.parallel import cluster as module
from stages.parallel.cluster import run_tasks, spread

pytestmark = pytest.mark.long
# Workers cannot import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Two nodes of one CPU each, of which a test may remove the second."""
    yield from _nodes()


def _nodes() -> Iterator[Nodes]:
    quiet = {"include_dashboard": False, "object_store_memory": 100 << 20}
    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, **quiet})
    made.add_node(num_cpus=1, object_store_memory=100 << 20)
    made.wait_for_nodes()
    try:
        yield made
    finally:
        import ray

        ray.shutdown()
        made.shutdown()


def section(nodes: Nodes, **changes: object) -> Cluster:
    values = {"engine": "ray", "address": nodes.address, "workers": 2, "cpus": 1.0, "gpus": 0.0}
    return Cluster(**values | {"batch": 4} | changes)


def slow() -> Callable[[int], tuple[int, int]]:
    def work(number: int) -> tuple[int, int]:
        time.sleep(0.05)
        return 2 * number, os.getpid()

    return work


def test_a_lost_node_loses_and_doubles_nothing(nodes: Nodes):
    other = next(iter(nodes.worker_nodes))
    found = []
    for item, result in spread(section(nodes), slow, range(200)):
        found.append((item, result[0], result[1]))
        if len(found) == 40:
            nodes.remove_node(other, allow_graceful=False)
    assert [item for item, _, _ in found] == list(range(200))
    assert all(double == 2 * item for item, double, _ in found)
    assert len({process for _, _, process in found[:40]}) == 2, "both nodes worked before"


def test_what_the_work_raises_is_raised(nodes: Nodes):
    def fail(number: int) -> int:
        raise ZeroDivisionError(f"at {number}")

    with pytest.raises(ZeroDivisionError, match="at 0"):
        list(spread(section(nodes), lambda: fail, range(9)))


def test_a_worker_that_cannot_start_is_one_clear_error(nodes: Nodes):
    def make() -> Callable[[int], int]:
        raise ValueError("no such weights")

    with pytest.raises(UserError, match=r"cannot start.*no such weights"):
        list(spread(section(nodes), make, range(9)))


def test_the_driver_holds_a_bounded_number_of_batches(nodes: Nodes):
    given = 0

    def items() -> Iterator[bytes]:
        nonlocal given
        for _ in range(400):
            given += 1
            yield bytes(1 << 20)

    process, ahead, highest = psutil.Process(), 0, 0
    start = None
    for taken, (item, size) in enumerate(spread(section(nodes), lambda: len, items()), 1):
        assert size == len(item)
        ahead = max(ahead, given - taken)
        start = start or process.memory_full_info().uss
        highest = max(highest, process.memory_full_info().uss)
    assert taken == 400
    assert ahead <= module.AHEAD * 2 * 4
    assert highest - start < 150 << 20


def test_tasks_end_by_themselves_and_a_failure_ends_no_other(nodes: Nodes):
    def work(number: int) -> int:
        if number == 2:
            raise KeyError("two")
        return number * 10

    ended = dict(run_tasks(section(nodes), work, [(n,) for n in range(5)]))
    assert isinstance(ended.pop(2), KeyError)
    assert ended == {0: 0, 1: 10, 3: 30, 4: 40}


def test_features_have_the_bytes_of_one_machine_and_their_order(nodes: Nodes):
    setup = ("cpu", True, "float32", True, 1)
    device.prepare(*setup)
    images = keras.Input((32, 32, 3), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(images)
    frozen = keras.Model(images, keras.layers.Conv2D(4, 3, activation="relu")(scaled))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    batches = [pixels[start : start + 6] for start in range(0, 40, 6)]
    wanted = [frozen.predict_on_batch(batch) for batch in batches]
    found = list(features_on(section(nodes), setup, frozen, iter(batches)))
    assert [each.tobytes() for each in found] == [each.tobytes() for each in wanted]


@pytest.fixture
def workspace(tmp_path: Path, mobilenet_weights: Path) -> Workspace:
    made = make_workspace(tmp_path / "workspace", mobilenet_weights)
    for node in ("download", "plan", "pretrained"):
        made.run(node)
    return made


def test_detect_leaves_the_same_bytes_whatever_the_workers(workspace: Workspace, nodes: Nodes):
    workspace.run("detect")
    wanted = workspace.digests()
    assert {"data/faces/index.csv", "data/faces/crops.npy"} <= set(wanted)
    yaml = YAML()
    for workers, batch in ((1, 64), (2, 3)):
        params = yaml.load(workspace.folder / "params.yaml")
        params["cluster"] |= section(nodes, workers=workers, batch=batch).model_dump()
        yaml.dump(params, workspace.folder / "params.yaml")
        for name in ("index.csv", "crops.npy"):
            (workspace.folder / "data/faces" / name).unlink()
        with workspace.start("detect") as process:
            if workers == 2:
                time.sleep(12)  # in the middle of the work, or at its start: the end is the same
                nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
            output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert workspace.digests() == wanted


class Status:
    """A repository in which these stages are not up to date."""

    def __init__(self, *stale: str) -> None:
        self.stale = stale

    def status(self, targets: list[str]) -> dict[str, list[object]]:
        return {stage: [] for stage in targets if stage in self.stale}


@pytest.mark.parametrize(
    ("stale", "done"),
    [
        (["train@a"], ["train@a", "evaluate@a"]),
        (["train@a", "evaluate@a"], ["train@a", "evaluate@a"]),
        (["evaluate@a"], ["evaluate@a"]),
        (["train@b"], []),
    ],
)
def test_a_run_is_not_trained_again_where_its_evaluation_alone_is_stale(
    stale: list[str], done: list[str]
):
    assert train_on_cluster._stale(Status(*stale), "train@a", "evaluate@a") == done
