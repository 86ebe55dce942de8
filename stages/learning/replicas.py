"""Several devices, of one machine or of many, that train one network together: tf.distribute.

Data-parallel and in step (https://www.tensorflow.org/guide/distributed_training): each replica
has all weights and computes a part of each batch; `distributed` has the loop.

Workers are processes, started by hand or by a cluster's scheduler, that know each other by the
environment variable TF_CONFIG. The first one is the chief: it alone reads and writes
checkpoints and outputs. All of them need the same crops, lists and params. A lost worker ends all
of them; what was learnt up to the last checkpoint stays.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from stages.core.errors import UserError
from stages.learning.checkpoints import state_variables

Kept = tuple[list[npt.NDArray[Any]], list[dict[str, float]]] | None  # of a checkpoint

CONFIG = "TF_CONFIG"
AGAIN = "start all workers again: the training goes on from its last checkpoint"
_WATCH = """
import os, select, signal, sys
while select.select([0], [], [], float(sys.argv[1]))[0]:
    if not os.read(0, 4096):
        sys.exit()  # the end of what was watched
sys.stderr.write(sys.argv[3])
sys.stderr.flush()
os.kill(int(sys.argv[2]), signal.SIGKILL)
"""
# What TensorFlow raises where a peer is gone; which of them depends on what it was doing.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


@dataclass(frozen=True)
class Replicas:
    """The devices that train together.

    Attributes:
        strategy: TensorFlow's.
        peers: address of each worker; empty: all devices are this process's.
        worker: number of this process among them; 0 is the chief.
        patience: seconds without any progress after which a worker takes its peers for lost.
    """

    strategy: tf.distribute.Strategy
    peers: tuple[str, ...] = ()
    worker: int = 0
    patience: float = 0.0

    @property
    def number(self) -> int:
        """Of all replicas, those of other workers included."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.worker == 0

    @property
    def kind(self) -> str:
        """The name of the strategy in params."""
        return "multi-worker" if self.peers else "mirrored"

    def from_chief(self, arrays: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The chief's arrays on every worker; the others give arrays of the same shapes."""
        if not self.peers:
            return list(arrays)

        def share(*parts: tf.Tensor) -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            mine = context.replica_id_in_sync_group == 0
            own = [part if mine else tf.zeros_like(part) for part in parts]
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, part) for part in own]

        # By bytes, one to a number: sums of integers are exact, and any type can be sent.
        sent = [
            np.frombuffer(a.tobytes(), np.uint8).astype(np.int32) for a in map(np.array, arrays)
        ]
        run = tf.function(lambda *parts: self.strategy.run(share, args=parts))
        received = run(*map(tf.constant, sent))
        firsts = [self.strategy.experimental_local_results(part)[0] for part in received]
        return [
            np.frombuffer(first.numpy().astype(np.uint8).tobytes(), a.dtype).reshape(a.shape)
            for first, a in zip(firsts, map(np.array, arrays), strict=True)
        ]

    def by_chief(self, flag: bool) -> bool:
        """The chief's value of a flag, on every worker."""
        return bool(self.from_chief([np.array([flag], np.uint8)])[0][0])

    def agree_on(
        self, identity: str, learning: keras.Model, network: keras.Model, kept: Kept
    ) -> Kept:
        """What the chief's checkpoint holds, on every worker; the others need not see its files.

        Args:
            identity: of the training, which has to be the same for all.
            learning: the learner, on the chief as restored; the others' becomes the same.
            network: the one whose best weights are kept.
            kept: best weights and history, on the chief; None: nothing was kept, or no chief.

        Raises:
            UserError: this worker is about to train something else than the chief.
        """
        with self.watched():
            own = np.frombuffer(hashlib.sha256(identity.encode()).digest(), np.uint8)
            if not np.array_equal(self.from_chief([own])[0], own):
                raise UserError(
                    f"worker {self.worker} would not train what the chief trains: its crops, "
                    "lists, params, code or packages differ; bring it to the chief's commit, "
                    "`dvc pull`, and install the same versions"
                )
            content = json.dumps(None if kept is None else kept[1]).encode()
            length = int(self.from_chief([np.array([len(content)], np.int64)])[0][0])
            text = np.frombuffer(content.ljust(length, b" ")[:length], np.uint8)
            history = json.loads(self.from_chief([text])[0].tobytes())
            if history is None:
                return None
            variables = state_variables(learning)
            state = self.from_chief([np.asarray(variable) for variable in variables])
            for variable, value in zip(variables, state, strict=True):
                variable.assign(value)
            return self.from_chief(network.get_weights() if kept is None else kept[0]), history

    def watched(self) -> AbstractContextManager["_Watch"]:
        """Lost workers end this process with one error while the context lasts."""
        return _watched(self.patience, self.lost)

    @property
    def lost(self) -> str:
        """The error where a worker does not answer any more; empty where there are none."""
        listed = ", ".join(self.peers)
        return f"a worker of {CONFIG} ({listed}) was lost; {AGAIN}" if self.peers else ""


def find_replicas(choice: str, patience: float) -> Replicas | None:
    """The devices that `machine.strategy` names; to be called before anything is computed.

    Args:
        choice: `none`, `mirrored` (all devices of this machine), `multi-worker` (those of all
            workers in TF_CONFIG), or `auto`: multi-worker if TF_CONFIG names several workers,
            mirrored if there are several GPUs, else none.
        patience: see `Replicas`; waiting for the others at the start included.

    Returns:
        None: one device trains.

    Raises:
        UserError: the choice needs several devices or workers, and there are none; or the
            others do not come.
    """
    peers, worker = _workers()
    if choice == "none" or (choice == "auto" and len(peers) < 2 and len(_devices("GPU")) < 2):
        return None
    if choice == "multi-worker" and len(peers) < 2:
        raise UserError(
            f"machine.strategy is multi-worker, but the environment variable {CONFIG} names no "
            "two workers; see docs/scale.md"
        )
    if choice == "multi-worker" or (choice == "auto" and len(peers) > 1):
        missing = f"not all workers of {CONFIG} ({', '.join(peers)}) have come"
        with _watched(patience, missing):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return Replicas(strategy, peers, worker, patience)
    devices = _devices("GPU") or _devices("CPU")
    if len(devices) < 2:
        raise UserError(
            "machine.strategy is mirrored, but TensorFlow sees one device; use auto or none"
        )
    return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _devices(kind: str) -> list[Any]:
    return list(tf.config.list_logical_devices(kind)) if kind == "CPU" or _has(kind) else []


def _has(kind: str) -> bool:
    return bool(tf.config.get_visible_devices(kind))


def _workers() -> tuple[tuple[str, ...], int]:
    """The addresses in TF_CONFIG, chief first, and the place of this process among them."""
    text = os.environ.get(CONFIG, "").strip()
    if not text:
        return (), 0
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        peers = [str(peer) for role in ("chief", "worker") for peer in cluster.get(role, [])]
        place = int(task.get("index", 0)) + (
            len(cluster.get("chief", [])) if task.get("type", "worker") == "worker" else 0
        )
        if set(cluster) - {"chief", "worker"} or (peers and not 0 <= place < len(peers)):
            raise ValueError("roles must be chief and worker, and task one of them")
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"environment variable {CONFIG}: {error}; it is JSON as in docs/scale.md"
        ) from error
    return tuple(peers), place


def _first_line(error: Exception) -> str:
    text = getattr(error, "message", "") or str(error)
    return text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__


class _Watch:
    """Ends this process where there is no progress, from a process of its own.

    A thread would not do: while TensorFlow waits for its peers at the start, it holds Python's
    lock. The one error goes to stderr; the exit status is that of a killed process.
    """

    def __init__(self, patience: float, lost: str) -> None:
        self.process = None
        if patience:
            words = f"error: {lost} (silent for {patience:g} s)\n"
            command = [sys.executable, "-c", _WATCH, str(patience), str(os.getpid()), words]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def progress(self) -> None:
        """Something was done just now."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.write(b".")
            self.process.stdin.flush()

    def end(self) -> None:
        """Watch no more."""
        if self.process is not None:
            self.process.communicate()


@contextmanager
def _watched(patience: float, lost: str) -> Iterator[_Watch]:
    """A watch, and TensorFlow's errors of lost workers turned into one that can be read."""
    watch = _Watch(patience, lost)
    try:
        yield watch
    except _LOST as error:
        if not lost:
            raise
        raise UserError(f"{lost} ({_first_line(error)})") from error
    finally:
        watch.end()
