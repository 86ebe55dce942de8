"""Process a stream on the machines of a cluster with Ray, https://docs.ray.io.

Each result is yielded exactly once, in the order of the items: the batches of a lost machine go to
another. The number of batches in progress is bounded, and with it the memory of the caller.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from stages.core.errors import UserError
from stages.core.sections import Cluster

CODE = Path(__file__).parents[1]  # sent to all machines, so that all run the same code
AHEAD = 3  # batches in progress per worker: one is processed, the others are in transit
TRIES = 60  # of a task whose machine or process is lost

_made: dict[Any, Callable[[Any], Any]] = {}  # the work of this process, on a worker

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Yield the module ray, connected to the cluster of params; `local` starts one here.

    Raises UserError if Ray is not installed or the address does not respond.
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
    make: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    size: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items, as `processes.side_by_side`.

    `make` and what it returns are sent by value. A batch has `size` items (`cluster.batch`). Raises
    UserError if no worker is left or available, and what the work raises.
    """
    with connected(cluster) as ray:
        workers = _room(ray, cluster)
        ahead = AHEAD * workers
        if 0 < cluster.workers < workers:
            ahead = cluster.workers  # as many batches as workers, so that no more are at work
        # Ray repeats the batches of a lost machine or process elsewhere.
        options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_calls": 0}
        remote = ray.remote(**options, max_retries=TRIES)(_work_on)
        shared = [ray.put(make)]  # in a list, so that Ray does not unpack it for every batch
        pending: deque[tuple[list[Item], Any]] = deque()
        stream = iter(items)
        while (batch := list(islice(stream, size or cluster.batch))) or pending:
            if batch:
                pending.append((batch, remote.remote(shared, batch)))
            if not batch or len(pending) >= ahead:
                done, future = pending.popleft()
                yield from zip(done, _result(ray, future), strict=True)


def _work_on(shared: list[Any], batch: list[Any]) -> list[Any]:
    import ray

    (reference,) = shared
    if reference not in _made:
        try:
            _made[reference] = ray.get(reference)()
        except Exception as error:
            raise UserError(f"cluster: a worker cannot start: {error}") from error
    return [_made[reference](item) for item in batch]


def _result(ray: Any, future: Any) -> Any:
    """The result of a task; an error of its own work as it was raised there."""
    try:
        return ray.get(future)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, UserError) else error.as_instanceof_cause()) from None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise UserError(f"cluster: a task was lost {TRIES} times ({reason})") from None


def _room(ray: Any, cluster: Cluster) -> int:
    """The number of workers that fit at once; an error for none, for which Ray would wait."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {kind: n for kind, n in (("CPU", cluster.cpus), ("GPU", cluster.gpus)) if n}
    room = sum(min(int(node.get(kind, 0) / n) for kind, n in wanted.items()) for node in nodes)
    if not room:
        have = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        worker = f"{cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs"
        fault = f"no machine has room for one worker of {worker} (they have {have})"
        raise UserError(f"cluster: {fault}; lower cluster.cpus or cluster.gpus")
    return room


def run_tasks(
    cluster: Cluster, work: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[int, Result | Exception]]:
    """Run independent tasks in parallel; yield index and result, or exception, as they end.

    `work` is called with the values of a task, and again elsewhere if its machine is lost.
    """
    with connected(cluster) as ray:
        remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=TRIES)(work)
        _room(ray, cluster)
        futures = {remote.remote(*values): number for number, values in enumerate(tasks)}
        while futures:
            (done,), _ = ray.wait(list(futures), num_returns=1)
            number = futures.pop(done)
            try:
                yield number, _result(ray, done)
            except Exception as error:
                yield number, error
