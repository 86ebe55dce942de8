"""Process a stream on the machines of a cluster with Ray, https://docs.ray.io.

Ray is an extra (`pip install '.[cluster]'`), imported only if `cluster.engine` is ray. Each result
is yielded exactly once, in the order of the items: the batches of a lost machine go to another. The
number of batches in progress is bounded, and with it the memory of the calling process.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from stages.core.errors import UserError
from stages.core.sections import Cluster

CODE = Path(__file__).parents[1]  # sent to all machines, so that all run the same code
AHEAD = 3  # batches in progress per worker: one is processed, the others are in transit
SPARED = 30.0  # seconds for which a lost worker gets no batch while there are others
TRIES = 60  # of one batch; a failure that is not the work's own means a lost machine or process

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Yield the module ray, connected to the cluster of params; `local` starts one here.

    Raises:
        UserError: Ray is not installed, or the address does not respond.
    """
    try:
        import ray
    except ImportError as error:
        text = "cluster.engine is ray, which is not installed: pip install '.[cluster]'"
        raise UserError(text) from error
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(
            address=None if cluster.address == "local" else cluster.address,
            runtime_env={"py_modules": [str(CODE)]},
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(f"cluster.address {cluster.address}: {reason}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def spread(
    cluster: Cluster,
    make: Callable[[], Callable[[list[Item]], list[Result]]],
    items: Iterable[Item],
    size: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items.

    `make` returns the function that processes a batch. It is called once by each worker, for
    example to load a network; both are sent by value. A batch has `size` items (`cluster.batch`).

    Raises:
        UserError: no worker is left or available.
        Exception: as raised by the work.
    """
    with connected(cluster) as ray:
        pool = _Workers(ray, cluster, make)
        pending: deque[tuple[list[Item], _Call]] = deque()
        try:
            stream = iter(items)
            while (batch := list(islice(stream, size or cluster.batch))) or pending:
                if batch:
                    pending.append((batch, pool.submit(batch)))
                if not batch or len(pending) >= AHEAD * len(pool.actors):
                    done, call = pending.popleft()
                    yield from zip(done, pool.result(done, call), strict=True)
        finally:
            for actor in pool.actors:
                ray.kill(actor)


class _Worker:
    """An actor: makes the work once, then processes batches."""

    def __init__(self, make: Any) -> None:
        self.work = make()

    def do(self, batch: list[Any]) -> list[Any]:
        return list(self.work(batch))


_Call = tuple[Any, int]  # Ray's future, and the index of the actor


class _Workers:
    """Actors of the cluster; each batch goes to the least busy one."""

    def __init__(self, ray: Any, cluster: Cluster, make: Callable[[], Any]) -> None:
        self.ray = ray
        room = _room(ray, cluster)
        # Ray restarts a lost actor on another machine.
        resources = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
        remote = ray.remote(**resources, max_restarts=-1)(_Worker)
        self.shared = ray.put(make)  # needed as long as actors may restart
        self.actors = [
            remote.remote(self.shared) for _ in range(min(cluster.workers or room, room))
        ]
        self.busy: Counter[int] = Counter()
        self.lost: dict[int, float] = {}  # when; a lost actor may wait long for another machine

    def submit(self, batch: list[Any]) -> _Call:
        indices = range(len(self.actors))
        index = min(indices, key=lambda index: (self._is_lost(index), self.busy[index]))
        if self._is_lost(index):
            time.sleep(1)  # all are lost; one of them may be restarting
        self.busy[index] += 1
        return self.actors[index].do.remote(batch), index

    def result(self, batch: list[Any], call: _Call) -> list[Any]:
        """Wait for a batch; submit it again if its machine or process is lost."""
        errors = self.ray.exceptions
        for _ in range(TRIES):
            future, index = call
            try:
                results: list[Any] = self.ray.get(future)
            except errors.RayTaskError as error:  # of the work itself
                raise error.as_instanceof_cause() from None
            except errors.RayError as error:
                lines = str(error).strip().splitlines()
                if "raised in its creation task" in lines[0]:
                    raise UserError(f"cluster: a worker cannot start: {lines[-1][:200]}") from None
                self.busy[index] -= 1
                self.lost[index] = time.monotonic()
                call = self.submit(batch)
            else:
                self.busy[index] -= 1
                return results
        reason = lines[0][:200]
        raise UserError(f"cluster: a batch was lost with its machine {TRIES} times ({reason})")

    def _is_lost(self, index: int) -> bool:
        return index in self.lost and time.monotonic() - self.lost[index] < SPARED


def _room(ray: Any, cluster: Cluster) -> int:
    """The number of workers that fit at once; an error for none, for which Ray would wait."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {kind: n for kind, n in (("CPU", cluster.cpus), ("GPU", cluster.gpus)) if n}
    room = sum(min(int(node.get(kind, 0) / n) for kind, n in wanted.items()) for node in nodes)
    if not room:
        have = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise UserError(
            f"cluster: no machine has room for one worker of {cluster.cpus:g} CPUs and "
            f"{cluster.gpus:g} GPUs (they have {have}); lower cluster.cpus or cluster.gpus"
        )
    return room


def run_tasks(
    cluster: Cluster,
    work: Callable[..., Result],
    tasks: Iterable[tuple[Any, ...]],
) -> Iterator[tuple[int, Result | Exception]]:
    """Run independent tasks in parallel; yield index and result, or exception, as they end.

    `work` is called with the values of a task, and again elsewhere if its machine is lost. Each
    task uses `cpus` and `gpus` of `cluster`.
    """
    with connected(cluster) as ray:
        remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=TRIES)(work)
        _room(ray, cluster)
        # Values that several tasks share are sent once; kept, so that their ids stay unique.
        sent: dict[int, tuple[Any, Any]] = {}
        futures = {}
        for number, values in enumerate(tasks):
            for value in values:
                if id(value) not in sent:
                    sent[id(value)] = (value, ray.put(value))
            places = [sent[id(value)][1] for value in values]
            futures[remote.remote(*places)] = number
        while futures:
            (done,), _ = ray.wait(list(futures), num_returns=1)
            number = futures.pop(done)
            try:
                yield number, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                yield number, error.as_instanceof_cause()
            except ray.exceptions.RayError as error:
                yield number, UserError(f"cluster: {type(error).__name__}: lost {TRIES} times")
