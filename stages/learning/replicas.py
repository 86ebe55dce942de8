"""Several devices, of one machine or of many, that train one network together: tf.distribute.

Each replica has all weights and computes a part of each batch; `distributed` has the loop.

Workers are processes that know each other by the environment variable TF_CONFIG. The first one is
the chief: it alone reads and writes checkpoints and outputs. A lost worker ends all of them; what
was learnt up to the last checkpoint stays.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    *(tf.errors.DeadlineExceededError, tf.errors.InternalError),
)


@dataclass(frozen=True)
class Replicas:
    """The devices that train together."""

    strategy: tf.distribute.Strategy
    peers: tuple[str, ...] = ()  # address of each worker; empty: all devices are this process's
    worker: int = 0  # number of this process among them; 0 is the chief
    patience: float = 0.0  # seconds without progress after which a worker takes its peers for lost

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
        arrays = [np.array(array) for array in arrays]
        sent = [np.frombuffer(a.tobytes(), np.uint8).astype(np.int32) for a in arrays]
        run = tf.function(lambda *parts: self.strategy.run(share, args=parts))
        received = run(*map(tf.constant, sent))
        firsts = [self.strategy.experimental_local_results(part)[0] for part in received]
        return [
            first.numpy().astype(np.uint8).view(a.dtype).reshape(a.shape)
            for first, a in zip(firsts, arrays, strict=True)
        ]

    def by_chief(self, flag: bool) -> bool:
        """The chief's value of a flag, on every worker."""
        return bool(self.from_chief([np.array([flag], np.uint8)])[0][0])

    def agree_on(
        self, identity: str, learning: keras.Model, network: keras.Model, kept: Kept
    ) -> Kept:
        """What the chief's checkpoint holds, on every worker; the others need not see its files.

        The learner becomes that of the chief. `kept` are the best weights of `network` and the
        history, if any, on the chief. Raises UserError if `identity`, of the training, differs.
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

    def watched(self) -> AbstractContextManager[Callable[[], object]]:
        """Lost workers end this process with one error, as silence does between two calls of it."""
        return _watched(self.patience, self.lost)

    @property
    def lost(self) -> str:
        """The error where a worker does not answer any more; empty where there are none."""
        if not self.peers:
            return ""
        again = "start all workers again: the training goes on from its last checkpoint"
        return f"a worker of {CONFIG} ({', '.join(self.peers)}) was lost; {again}"


def find_replicas(choice: str, patience: float) -> Replicas | None:
    """The devices that `machine.strategy` names; to be called before anything is computed.

    `choice` is `none` (None: one device trains), `mirrored` (all devices of this machine),
    `multi-worker` (those of all workers in TF_CONFIG), or `auto`: multi-worker if TF_CONFIG names
    several workers, mirrored if there are several GPUs, else none. Raises UserError if there are
    not several, or if the other workers do not come within `patience` seconds.
    """
    peers, worker = _workers()
    if choice == "auto":
        one = len(tf.config.get_visible_devices("GPU")) < 2
        choice = "multi-worker" if len(peers) > 1 else "none" if one else "mirrored"
    if choice == "none":
        return None
    if choice == "multi-worker":
        if len(peers) < 2:
            fault = f"but the environment variable {CONFIG} names no two workers"
            raise UserError(f"machine.strategy is multi-worker, {fault}; see docs/scale.md")
        with _watched(patience, f"not all workers of {CONFIG} ({', '.join(peers)}) have come"):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return Replicas(strategy, peers, worker, patience)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        fault = "machine.strategy is mirrored, but TensorFlow sees one device"
        raise UserError(f"{fault}; use auto or none")
    return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _workers() -> tuple[tuple[str, ...], int]:
    """The addresses in TF_CONFIG, chief first, and the place of this process among them."""
    text = os.environ.get(CONFIG, "").strip()
    if not text:
        return (), 0
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs = list(map(str, cluster.get("chief", [])))
        peers = [*chiefs, *map(str, cluster.get("worker", []))]
        before = len(chiefs) if task.get("type", "worker") == "worker" else 0
        place = int(task.get("index", 0)) + before
        if set(cluster) - {"chief", "worker"} or (peers and not 0 <= place < len(peers)):
            raise ValueError("roles must be chief and worker, and task one of them")
    except (ValueError, AttributeError, TypeError) as error:
        mend = "it is JSON as in docs/scale.md"
        raise UserError(f"environment variable {CONFIG}: {error}; {mend}") from error
    return tuple(peers), place


@contextmanager
def _watched(patience: float, lost: str) -> Iterator[Callable[[], object]]:
    """One error ends this process when it no longer calls what is yielded, or TensorFlow fails."""
    # A thread could not watch: TensorFlow holds Python's lock while it waits for its peers.
    watch = None
    if patience:
        words = f"error: {lost} (silent for {patience:g} s)\n"
        command = [sys.executable, "-c", _WATCH, str(patience), str(os.getpid()), words]
        watch = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
    try:
        yield lambda: watch and watch.stdin and watch.stdin.write(b".")
    except _LOST as error:
        if not lost:
            raise
        reason = (error.message.strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{lost} ({reason})") from error
    finally:
        if watch is not None:
            watch.communicate()
