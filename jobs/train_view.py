"""What a person sees of a running training."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from jobs.view import duration_text, printable


class Asked(Protocol):
    """What may be asked to stop."""

    @property
    def is_asked(self) -> bool:
        """Whether it was."""


class TrainView:
    """What is told, line by line on stderr; on a terminal with a line below that says how fast it goes."""

    def __init__(self, stop: Asked) -> None:
        self._stop = stop
        self._start_s = self._first_s = time.monotonic()
        self._num_batches = 0
        self._console = Console(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, get_renderable=self.line, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, sentence: str) -> None:
        """Shows what is told of the run."""
        told = "\n".join(map(printable, sentence.splitlines()))
        if self._live is not None:
            self._console.print(Text(told))
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S")
            print(f"{when} {told}", file=sys.stderr, flush=True)

    def counting(self, is_over: Callable[[], bool]) -> Callable[[], bool]:
        """The same question, which is asked after every batch, and counts them."""

        def count() -> bool:
            if not self._num_batches:
                self._first_s = time.monotonic()
            self._num_batches += 1
            return is_over()

        return count

    def line(self) -> Text:
        """How far it is and what can be done, for the bottom of a terminal."""
        now_s = time.monotonic()
        facts = [duration_text(now_s - self._start_s)]
        if self._num_batches:
            facts.append(f"{self._num_batches} batches")
        if self._num_batches > 1 and now_s > self._first_s:
            facts.append(f"{(self._num_batches - 1) / (now_s - self._first_s):.3g} a second")
        if self._stop.is_asked:
            facts.append("stops after this batch; Ctrl-C once more ends at once")
        else:
            facts.append("Ctrl-C stops with a checkpoint")
        return Text(f"training {' · '.join(facts)}", style="dim", no_wrap=True, overflow="ellipsis")
