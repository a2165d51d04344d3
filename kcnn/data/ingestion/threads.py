"""A `map` in threads whose memory is bounded: only a few items are ahead of the consumer."""

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_THREADS = min(os.cpu_count() or 1, 8)
_WINDOW = 2 * _THREADS  # items ahead of the consumer

A = TypeVar("A")
B = TypeVar("B")


def map_in_threads(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Apply a function to items in threads, and yield the results in order, at most `_WINDOW` items ahead."""
    with ThreadPoolExecutor(_THREADS) as pool:
        iterator = iter(items)
        pending = collections.deque(pool.submit(function, item) for item in itertools.islice(iterator, _WINDOW))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in itertools.islice(iterator, 1))
