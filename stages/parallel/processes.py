"""Process a stream by worker processes, with results in the order of the stream.

For work of many short steps, in which threads would wait for Python's global lock.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from stages.core.errors import UserError, end_without_memory, lacks_memory
from stages.parallel.threads import in_order

Item = TypeVar("Item")
Result = TypeVar("Result")

# Forked workers start at once, but only on Linux do all libraries support forking.
CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
BATCH = 32  # items of a batch
HEAVY = 1 << 22  # bytes of a batch; a single item may have more
AHEAD = 3  # batches in progress per process: one is processed, the others are in transit

_work: Callable[[Any], Any] | Exception  # of this process, if it is a worker


def side_by_side(
    make: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    processes: int,
    weight: Callable[[Item], int],
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items; exceptions are raised in order.

    `make` returns the function that processes an item. It is called once in each worker, for
    example to load a network, and must be picklable, as must items and results. `weight` is that of
    an item, in bytes. Raises UserError if a worker was killed.
    """
    executor = ProcessPoolExecutor(processes, CONTEXT, _start, (make,))
    _end_where_batches_get_lost(executor)
    # Ctrl-C would print a traceback in a worker that has not started yet.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        executor.submit(int)  # starts the workers
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    batches, total = _batches(items, weight), lambda batch: sum(map(weight, batch))
    results = in_order(executor, _work_on, batches, AHEAD * processes, total)
    try:
        for batch, outputs in results:
            yield from zip(batch, outputs, strict=True)
    except BrokenProcessPool as error:
        fault = "a worker process was killed, probably because memory is short"
        raise UserError(f"{fault}; use fewer workers (machine.threads)") from error
    finally:
        results.close()


def _end_where_batches_get_lost(executor: ProcessPoolExecutor) -> None:
    """CPython prints that a batch did not fit into memory on its way, and waits for it forever.

    A worker that cannot receive one ends without a word: its caller says why.
    """
    queue = executor._call_queue  # type: ignore[attr-defined]
    otherwise, receive = queue._on_queue_feeder_error, queue.get

    def failed(error: Exception, batch: object) -> None:
        if lacks_memory(error):
            end_without_memory()
        otherwise(error, batch)

    def get(*args: Any, **options: Any) -> Any:
        try:
            return receive(*args, **options)
        except Exception as error:
            if lacks_memory(error):
                os._exit(1)
            raise

    queue._on_queue_feeder_error, queue.get = failed, get


def _batches(items: Iterable[Item], weight: Callable[[Item], int]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += weight(item)
        if len(batch) == BATCH or size > HEAVY:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends its workers on Ctrl-C
    try:
        threading.Thread(target=_exit_with_the_caller, daemon=True).start()
        _work = make()
    except Exception as error:
        _work = error  # here it would be printed and lost; the first batch raises it


def _exit_with_the_caller() -> None:
    """End this worker when the caller is killed; it would wait for work forever."""
    caller = multiprocessing.parent_process()
    assert caller is not None  # this is a worker
    caller.join()
    os._exit(1)


def _work_on(batch: list[Any]) -> list[Any]:
    if isinstance(_work, Exception):
        raise _work
    return [_work(item) for item in batch]
