"""Work done a little before its results are asked for: hides round trips, bounds the memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

AHEAD = 4


def ahead[Given, Made](
    make: Callable[[Given], Made], given: Iterable[Given], threads: int = AHEAD
) -> Iterator[Made]:
    """``map`` in threads, in order, never more than ``threads`` results ahead."""
    rest = iter(given)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Made]] = deque(pool.submit(make, one) for one in islice(rest, threads))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, one) for one in islice(rest, 1))
            yield made
