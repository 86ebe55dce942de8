"""Work on a stream by threads side by side, handed on in the stream's order.

For work that leaves Python's lock, as decoding, networks and resizing do. A bounded number and
weight is under way, so that memory does not depend on how long the stream is.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
    under_way: deque[tuple[Item, Future[Result]]] = deque()

    def full() -> bool:
        return len(under_way) >= AHEAD * threads or sum(weight(i) for i, _ in under_way) > HEAVIEST

    with ThreadPoolExecutor(threads) as pool:
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
