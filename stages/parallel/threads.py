"""Work on a stream by threads side by side, handed on in the stream's order.

For work that leaves Python's lock, as decoding, networks and resizing do. A bounded number and
weight is under way, so that memory does not depend on how long the stream is.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 8  # items under way for each thread
HEAVIEST = 1 << 28  # bytes of all items under way; one alone may have more


def side_by_side(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    weight: Callable[[Item], int],
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in the order of the items; an exception comes in its place.

    Args:
        work: may be called from several threads at once.
        items: read on the caller's thread.
        threads: at least 1.
        weight: of an item, in bytes.
    """
    return in_order(ThreadPoolExecutor(threads), work, items, AHEAD * threads, weight)


def in_order(
    executor: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
    weight: Callable[[Item], int],
) -> Generator[tuple[Item, Result], None, None]:
    """`side_by_side` by any executor, which is shut down; at most `ahead` items are under way."""
    under_way: deque[tuple[Item, Future[Result]]] = deque()

    def full() -> bool:
        return len(under_way) >= ahead or sum(weight(i) for i, _ in under_way) > HEAVIEST

    with executor as pool:
        try:
            for item in items:
                under_way.append((item, pool.submit(work, item)))
                while full():
                    item, future = under_way.popleft()
                    yield item, future.result()
            while under_way:
                item, future = under_way.popleft()
                yield item, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
