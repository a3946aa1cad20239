"""Many small calls to a store at the same time: each costs a round trip, however little it carries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_NUM_THREADS = 16


def in_parallel(
    function: Callable[[T], R], items: Iterable[T], num_threads: int = _NUM_THREADS
) -> Iterator[R]:
    """`function` of each of `items`, in their order, with a bounded number of calls ahead of the reader.

    An error of a call is raised in its place, after the results before it.
    """
    with ThreadPoolExecutor(num_threads, thread_name_prefix="store") as threads:
        ahead: deque[Future[R]] = deque()
        try:
            for item in items:
                ahead.append(threads.submit(function, item))
                if len(ahead) >= 2 * num_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
