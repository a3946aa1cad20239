"""Making the items of an iterator ahead, in a thread, a bounded number of them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_END = object()
_POLL_S = 0.2


class Prefetch(Generic[T]):
    """Iterates over `items`, which a thread of its own makes up to `depth` ahead.

    An error that `items` raises is raised here, after the items before it. Leaving the `with` block stops the
    thread and closes `items`, if it is a generator, in that thread.

    Attributes:
        busy_s: Time that the thread spent in `items`, which includes what `items` itself waited for.
        waited_s: Time that the reader spent waiting here.
    """

    def __init__(self, items: Iterable[T], depth: int, name: str) -> None:
        self._items = items
        self._queue: queue.Queue[object] = queue.Queue(depth)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._make, name=name, daemon=True)
        self.busy_s = 0.0
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            start_s = time.perf_counter()
            item = self._queue.get()
            self.waited_s += time.perf_counter() - start_s
            if item is _END:
                break
            yield item  # type: ignore[misc]
        if self._error is not None:
            raise self._error

    def _make(self) -> None:
        iterator = iter(self._items)
        try:
            while not self._stop.is_set():
                start_s = time.perf_counter()
                item = next(iterator, _END)
                self.busy_s += time.perf_counter() - start_s
                if item is _END or not self._put(item):
                    break
        except BaseException as error:  # carried to the reader's thread, which raises it
            self._error = error
        finally:
            if isinstance(iterator, Iterator) and hasattr(iterator, "close"):
                iterator.close()
            self._put(_END)

    def _put(self, item: object) -> bool:
        """Whether `item` was taken before this was stopped."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False
