"""Detection and training shared by 1, 2 and 4 workers, as on as many machines.

Detection: workers of Ray, one thread each, their start included; and against the processes of the
stage without a cluster. Training: processes that know each other by TF_CONFIG, each held to one
core, so that another one brings what another machine would; all have the same batches together.
Each number of workers takes its turn in each round. More workers than cores cannot be faster than
as many as there are cores: what they lose is what it costs to divide the work. Linux only.

    python -m benchmarks.cluster --archive UTKFace.tar.gz
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faces import (
    THREADS,
    Faces,
    add_archive,
    cut_faces,
    labelled_members,
    mobilenet_loader,
    repeated,
)
from benchmarks.side_by_side import (
    add_number,
    compare,
    make_parser,
    print_report,
    prove,
    rates,
    take_turns,
)
from benchmarks.training import make_task
from stages.core.errors import UserError
from stages.core.params import Params, load_params
from stages.core.sections import TASKS
from stages.core.stage import run_stage
from stages.detection.extraction import Extraction, extract_in_processes, extract_on_cluster
from stages.networks import device
from stages.raw.archives import Member

VARIANT = "mtl-cnn"
WORKERS = (1, 2, 4)
NO_CLUSTER = max(number for number in WORKERS if number <= THREADS)  # processes
PROVEN = 300  # images whose crops are compared
TOLERANCE = 0.01  # of the loss of the first epoch: rounding moves it more with each step
CROPS, LABELS = "crops.npy", "labels.npy"


def main() -> None:
    """Prove, time, print."""
    parser = make_parser(__doc__, rounds=3)
    add_archive(parser, 16_000)
    add_number(parser, "--trained", 1600, "crops that are trained on, and validate")
    add_number(
        parser, "--epochs", 3, "of a training, at least 2: the first, which compiles, is not timed"
    )
    add_number(parser, "--batch", 64, "of all workers together")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # its folder: a child
    arguments = parser.parse_args()
    if arguments.worker:
        train(arguments.worker, arguments)
        return
    if arguments.epochs < 2:
        raise UserError("--epochs: at least 2")
    params = load_params()
    proven, lines = time_detection(arguments, params)
    with tempfile.TemporaryDirectory() as folder:
        trained, of_training = time_training(Path(folder), arguments, params)
    print_report(arguments, [proven, trained], lines + of_training)


def time_detection(
    arguments: argparse.Namespace, params: Params
) -> tuple[str, list[dict[str, object]]]:
    """What is proven, and lines of the report."""
    import ray

    found = labelled_members(arguments.archive, arguments.images, params.detect)
    members = list(repeated(found, arguments.images))
    load, settings = mobilenet_loader(params), params.detect

    def on_ray(number: int, some: Sequence[Member]) -> Iterator[Extraction]:
        cluster = params.cluster.model_copy(update={"workers": number, "cpus": 1.0, "gpus": 0.0})
        return extract_on_cluster(cluster, some, load, settings)

    def without(some: Sequence[Member]) -> Iterator[Extraction]:
        return extract_in_processes(some, load, settings, NO_CLUSTER)

    # Room for all workers, however few cores they share.
    ray.init(num_cpus=max(WORKERS), log_to_driver=False, logging_level="error")
    try:
        few = members[:PROVEN]
        wanted = list(without(few))
        same = all(_equal(list(on_ray(number, few)), wanted) for number in WORKERS)
        proven = prove(same, f"rows and crops of {len(few)} images are the same, whoever made them")
        sides: dict[str, Callable[[], object]] = {
            str(number): partial(_exhaust, on_ray, number, members) for number in WORKERS
        }
        sides["without"] = partial(_exhaust, without, members)
        seconds = take_turns(sides, arguments.rounds)
    finally:
        ray.shutdown()
    speed = {name: rates(each, len(members)) for name, each in seconds.items()}
    of_ray, plain = speed[str(NO_CLUSTER)], speed["without"]
    what = f"detect, {NO_CLUSTER} workers of Ray / as many processes without it"
    return proven, [*_by_number("detect", speed), compare(what, of_ray, plain, "images/s")]


def _exhaust(make: Callable[..., Iterator[Extraction]], *arguments: object) -> None:
    for _ in make(*arguments):
        pass


def _equal(found: Sequence[Extraction], wanted: Sequence[Extraction]) -> bool:
    rows = [row for row, _ in found] == [row for row, _ in wanted]
    crops = [
        [crop.tobytes() if crop is not None else None for _, crop in each]
        for each in (found, wanted)
    ]
    return rows and crops[0] == crops[1]


def _by_number(what: str, speed: Mapping[str, Sequence[float]]) -> list[dict[str, object]]:
    alone = speed[str(WORKERS[0])]
    return [
        compare(f"{what}, {number} workers / 1", speed[str(number)], alone, "images/s")
        for number in WORKERS[1:]
    ]


def time_training(
    folder: Path, arguments: argparse.Namespace, params: Params
) -> tuple[str, list[dict[str, object]]]:
    """What is proven, and lines of the report."""
    faces = cut_faces(arguments.archive, arguments.trained, params)
    np.save(folder / CROPS, faces.crops)
    np.save(folder / LABELS, np.stack([faces.labels[task] for task in TASKS]))
    speed: dict[str, list[float]] = {str(number): [] for number in WORKERS}
    losses: dict[str, float] = {}

    def turn(number: int) -> None:
        done = _train_together(number, folder)
        speed[str(number)].append(done["images_per_second"])
        losses[str(number)] = done["loss"]

    take_turns({str(n): partial(turn, n) for n in WORKERS}, arguments.rounds)
    same = np.allclose(list(losses.values()), losses["1"], rtol=TOLERANCE)
    proven = prove(bool(same), f"loss of the first epoch within {TOLERANCE:.0%}: {losses}")
    return proven, _by_number(f"training, {VARIANT}", speed)


def _train_together(number: int, folder: Path) -> dict[str, float]:
    """What the first of so many workers tells.

    Raises:
        UserError: one of them failed.
    """
    peers = [f"127.0.0.1:{port}" for port in free_ports(number)]
    command = [sys.executable, "-m", "benchmarks.cluster", *sys.argv[1:], "--worker", str(folder)]
    processes = []
    for index in range(number):
        task = {"cluster": {"worker": peers}, "task": {"type": "worker", "index": index}}
        own = {"TF_CONFIG": json.dumps(task)} if number > 1 else {}
        processes.append(
            subprocess.Popen(
                ["taskset", "--cpu-list", str(index % THREADS), *command],
                env=os.environ | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, told, strict=True):
        if process.returncode:
            raise UserError(f"a worker of {number} failed: {errors.strip()[-2000:]}")
    return dict(json.loads(told[0][0].splitlines()[-1]))


def free_ports(number: int) -> list[int]:
    """Ports of this machine's loopback that nobody listens on, all different."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in found]


def train(folder: Path, arguments: argparse.Namespace) -> None:
    """One worker: train with the others, tell the speed after the first epoch."""
    params = load_params()
    device.prepare("cpu", precision="float32", seed=1)
    from stages.learning.fit import Execution
    from stages.learning.replicas import find_replicas

    execution = Execution(replicas=find_replicas("auto", params.machine.worker_patience))
    crops, labels = np.load(folder / CROPS), np.load(folder / LABELS)
    faces = Faces(crops, [""] * len(crops), dict(zip(TASKS, labels, strict=True)))
    task = make_task(params, VARIANT, faces, arguments.epochs)
    task = task.with_recipe(batch_size=arguments.batch)
    with execution.scope():
        model = task.network()
    ended, losses = [], []

    def log(_: int, figures: Mapping[str, float]) -> None:
        ended.append(time.perf_counter())
        losses.append(figures["train/loss"])

    with tempfile.TemporaryDirectory() as kept:
        task.fit(model, Path(kept), log=log, execution=execution)
    speed = (len(ended) - 1) * len(task.train.rows) / (ended[-1] - ended[0])
    print(json.dumps({"images_per_second": speed, "loss": losses[0]}))


if __name__ == "__main__":
    run_stage(main)
