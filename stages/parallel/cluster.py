"""Work spread over the machines of a cluster by Ray, https://docs.ray.io.

Ray is an extra (`pip install '.[cluster]'`): nothing imports it unless `cluster.engine` is ray.
Results come in the order of the work, whoever did it, and each exactly once: what was under way
on a machine that is lost is given to another. A bounded number of batches is under way, so that
the memory of the process that hands them out does not depend on how many there are.
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

CODE = Path(__file__).parents[1]  # shipped to all machines, so that they run the same
AHEAD = 3  # batches under way for each worker: one is worked on, others travel
SPARED = 30.0  # seconds for which a lost worker gets nothing, while others are there
TRIES = 60  # of one batch; each failure but the work's own means a lost machine or process

_NOT_MADE = "raised in its creation task"  # Ray's words where the making of a worker failed

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """The module ray, connected to the cluster of params; one of this machine for `local`.

    Raises:
        UserError: Ray is not installed, or the address does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "cluster.engine is ray, which is not installed: pip install '.[cluster]'"
        ) from error
    own = ray.is_initialized()
    if not own:
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
        if not own:
            ray.shutdown()


def spread(
    cluster: Cluster,
    make: Callable[[], Callable[[list[Item]], list[Result]]],
    items: Iterable[Item],
    size: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items.

    Args:
        cluster: section `cluster` of params.
        make: called once by each worker; makes what works on a batch, as with a network that is
            loaded once. Both are sent by value.
        items: read by this process.
        size: items of a batch; None: `cluster.batch`.

    Raises:
        UserError: no worker is left, or none can be had.
        Exception: what the work raises.
    """
    with connected(cluster) as ray:
        yield from _spread(ray, cluster, make, items, size or cluster.batch)


def _spread(
    ray: Any,
    cluster: Cluster,
    make: Callable[[], Callable[[list[Item]], list[Result]]],
    items: Iterable[Item],
    size: int,
) -> Iterator[tuple[Item, Result]]:
    class Worker:
        def __init__(self, make: Any) -> None:
            self.work = make()

        def do(self, batch: list[Any]) -> list[Any]:
            return list(self.work(batch))

    room = _room(ray, cluster)
    number = min(cluster.workers or room, room)
    # A worker that was lost is made anew on another machine.
    remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=-1)(Worker)
    shared = ray.put(make)
    workers = [remote.remote(shared) for _ in range(number)]
    busy: Counter[int] = Counter()
    under_way: deque[tuple[list[Item], Any, int]] = deque()

    lost: dict[int, float] = {}  # when; a worker may wait long for room on another machine

    def is_lost(worker: int) -> bool:
        return worker in lost and time.monotonic() - lost[worker] < SPARED

    def give(batch: list[Item]) -> tuple[Any, int]:
        least = min(range(number), key=lambda worker: (is_lost(worker), busy[worker]))
        if is_lost(least):
            time.sleep(1)  # all are: one of them may just be on its way
        busy[least] += 1
        return workers[least].do.remote(batch), least

    def take() -> Iterator[tuple[Item, Result]]:
        batch, future, worker = under_way.popleft()
        for _ in range(TRIES):
            try:
                found = ray.get(future)
                break
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            except ray.exceptions.RayError as error:  # the machine or process, not the work
                reason = str(error).strip().splitlines()[0][:200]
                if _NOT_MADE in reason:
                    last = str(error).strip().splitlines()[-1][:200]
                    raise UserError(f"cluster: a worker cannot start: {last}") from None
                busy[worker] -= 1
                lost[worker] = time.monotonic()
                future, worker = give(batch)
        else:
            raise UserError(f"cluster: a batch was lost with its machine {TRIES} times ({reason})")
        busy[worker] -= 1
        return iter(zip(batch, found, strict=True))

    try:
        stream = iter(items)
        while batch := list(islice(stream, size)):
            under_way.append((batch, *give(batch)))
            if len(under_way) >= AHEAD * number:
                yield from take()
        while under_way:
            yield from take()
    finally:
        for worker in workers:
            ray.kill(worker)


def _room(ray: Any, cluster: Cluster) -> int:
    """How many workers the machines hold at once.

    Raises:
        UserError: not one; it would be waited for without end.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": cluster.cpus, "GPU": cluster.gpus}
    room = sum(
        min(int(node.get(kind, 0) / share) for kind, share in wanted.items() if share)
        for node in nodes
    )
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
    """Run independent tasks side by side; yield number and result, or error, as they end.

    Args:
        cluster: section `cluster` of params; each task takes `cpus` and `gpus`.
        work: called with the task's values; repeated elsewhere if its machine is lost.
        tasks: the values of each.
    """
    with connected(cluster) as ray:
        remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=TRIES)(work)
        _room(ray, cluster)
        # What several tasks have in common is sent once; kept, so that its id is no other's.
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
