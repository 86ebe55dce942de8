"""Process a stream by threads, with results in the order of the stream.

For work that releases Python's global lock. The number and the size of items in progress are
bounded.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

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
    pending: deque[tuple[Item, Future[Result]]] = deque()

    def drain(number: int, heaviest: int) -> Iterator[tuple[Item, Result]]:
        while len(pending) > number or sum(weight(item) for item, _ in pending) > heaviest:
            item, future = pending.popleft()
            yield item, future.result()

    with executor as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                yield from drain(ahead - 1, HEAVIEST)
            yield from drain(0, HEAVIEST)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
