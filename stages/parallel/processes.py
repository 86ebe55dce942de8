"""Work on a stream by processes side by side, handed on in the stream's order.

For work of many short steps: threads would wait for Python's lock between them, on two cores a
sixth of their time in `detect`, and the more the more cores there are. Items travel in batches, of
which a bounded number and weight is under way.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from stages.core.errors import UserError
from stages.parallel.threads import in_order

Item = TypeVar("Item")
Result = TypeVar("Result")

# Forked, workers are there at once; elsewhere than on Linux, libraries do not stand that.
CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
BATCH = 32  # items that travel together
HEAVY = 1 << 22  # bytes of items that travel together; one alone may have more
AHEAD = 3  # batches under way for each process: one is worked on, others travel

_work: Callable[[Any], Any]  # of this process, where it is a worker


def under_way(processes: int) -> int:
    """How many items are under way at most: read, and not yet handed on with all of their batch."""
    return AHEAD * processes * BATCH


def side_by_side(
    make: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    processes: int,
    weight: Callable[[Item], int],
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items; an exception comes in its place.

    Args:
        make: called once in each process; makes what works on an item, as with a network that is
            loaded once. It can be pickled, as items and results can.
        items: read by the calling process.
        processes: at least 1.
        weight: of an item, in bytes.

    Raises:
        UserError: a process was killed.
    """
    executor = ProcessPoolExecutor(processes, CONTEXT, _begin, (make,))
    with _interrupts_later():
        executor.submit(int)  # starts them
    found = in_order(
        executor,
        _work_on,
        _batches(items, weight),
        AHEAD * processes,
        lambda batch: sum(map(weight, batch)),
    )
    try:
        for batch, results in found:
            yield from zip(batch, results, strict=True)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, as the system does where memory is short; take fewer "
            "of them (machine.threads)"
        ) from error
    finally:
        found.close()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back: a worker in which it came before its first line would tell of it at length.

    Python lets the main thread alone do so.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _batches(items: Iterable[Item], weight: Callable[[Item], int]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    heavy = 0
    for item in items:
        batch.append(item)
        heavy += weight(item)
        if len(batch) == BATCH or heavy > HEAVY:
            yield batch
            batch, heavy = [], 0
    if batch:
        yield batch


def _begin(make: Callable[[], Callable[[Any], Any]]) -> None:
    """What a worker does first."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the caller ends them
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    try:
        _work = make()
    except Exception as error:
        # An error in here would be printed and lost: the first batch is to raise it.
        _work = _raising(error)


def _end_with_the_caller() -> None:
    """A caller that is killed tells its workers nothing: they would wait for work for ever."""
    caller = multiprocessing.parent_process()
    assert caller is not None  # this is a worker
    caller.join()
    os._exit(1)


def _raising(error: Exception) -> Callable[[Any], Any]:
    def work(_: Any) -> Any:
        raise error

    return work


def _work_on(batch: list[Any]) -> list[Any]:
    return [_work(item) for item in batch]
