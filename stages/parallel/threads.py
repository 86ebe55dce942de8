"""Process a stream by threads, with results in the order of the stream.

For work that releases Python's global lock. The number and the size of items in progress are
bounded.
"""

import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 8  # items in progress per thread
HEAVIEST = 1 << 28  # bytes of all items in progress; a single item may have more


def side_by_side(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    weight: Callable[[Item], int],
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items; exceptions are raised in order.

    `work` may be called from several threads at once; `items` are read on the caller's thread.
    `weight` is that of an item, in bytes.
    """
    return in_order(ThreadPoolExecutor(threads), work, items, AHEAD * threads, weight)


def in_order(
    executor: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
    weight: Callable[[Item], int],
) -> Generator[tuple[Item, Result], None, None]:
    """`side_by_side` on any executor, which is shut down; at most `ahead` items are in progress."""
    pending: deque[tuple[Item, SimpleQueue[Future[Result]]]] = deque()

    def drain(number: int, heaviest: int) -> Iterator[tuple[Item, Result]]:
        while len(pending) > number or sum(weight(item) for item, _ in pending) > heaviest:
            item, done = pending.popleft()
            yield item, done.get().result()

    with executor as pool:
        try:
            for item in items:
                pending.append((item, _submit(pool, work, item)))
                yield from drain(ahead - 1, HEAVIEST)
            yield from drain(0, HEAVIEST)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: Executor, work: Callable[[Item], Result], item: Item
) -> SimpleQueue[Future[Result]]:
    """A queue that gets the future when it is done.

    Ctrl-C ends a wait for such a queue and nothing else. In `Future.result` it can strike when the
    lock has been taken and the block that releases it not yet entered; the executor then waits
    for that lock forever.
    """
    done: SimpleQueue[Future[Result]] = SimpleQueue()
    with _without_interrupts():
        pool.submit(work, item).add_done_callback(done.put)
    return done


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C is heard at the end of the block."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield  # Python interrupts the main thread alone
        return
    heard: list[Any] = []
    signal.signal(signal.SIGINT, lambda *call: heard.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if heard:
            handler(*heard[0])
