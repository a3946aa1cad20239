"""What the driver and the workers of a training run tell each other."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass(frozen=True)
class News:
    """What the workers told since they were asked last.

    Attributes:
        sentences: For the user, in order.
        nodes: Ids of the nodes that the workers are on now; empty until the first is there.
    """

    sentences: tuple[str, ...]
    nodes: frozenset[str]


class Line:
    """Between the driver and the workers: an actor of its own, as neither can be called while it works."""

    def __init__(self) -> None:
        self._sentences: list[str] = []
        self._nodes: dict[int, str] = {}
        self._has_news = asyncio.Event()
        self._is_over = asyncio.Event()

    async def arrive(self, rank: int, node_id: str) -> None:
        """A worker is there, perhaps in the place of one that was lost."""
        self._nodes[rank] = node_id
        self._has_news.set()

    async def tell(self, sentence: str) -> None:
        """For the user."""
        self._sentences.append(sentence)
        self._has_news.set()

    async def news(self, timeout_s: float) -> News:
        """What there is by now; where there is nothing, waits for it a little."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_news.wait(), timeout_s)
        self._has_news.clear()
        sentences, self._sentences = tuple(self._sentences), []
        return News(sentences, frozenset(self._nodes.values()))

    async def stop(self) -> None:
        """The workers are to stop for now."""
        self._is_over.set()

    async def until_over(self) -> None:
        """Comes back once the workers are to stop."""
        await self._is_over.wait()
