"""The curves of a run, kept beside its weights: a log, event files for TensorBoard, and sample pictures.

The log, `log.jsonl`, has an object a line: how many `images` were seen and in how many `seconds`, the
`stage`, and either `learning_rate`, `losses`, `gradient_norms` and the `signs` of a game, or the `figures` of
a validation. A number that is not finite is null.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.images.panel import Cell, write_panel
from cluster.storage import LocalStorage, Storage
from cluster.training.events import Events
from sr_core.errors import StorageError
from sr_core.train.step import StepLog
from sr_core.train.trainer import Position

_LOG = "log.jsonl"
_EVENTS = "tensorboard/"
_SAMPLES = "samples/"
_NUM_SAMPLES_KEPT = 8
_SAMPLE = re.compile(rf"{_SAMPLES}\d{{12}}\.png")
_STORE_EVERY_S = 10.0


@dataclass(frozen=True)
class _Line:
    """One line of the log."""

    num_images: int
    seconds: float
    is_figures: bool
    text: str

    @property
    def place(self) -> tuple[int, bool]:
        """What lines are sorted by: after the same batch, figures come last."""
        return self.num_images, self.is_figures


class Curves:
    """Keeps what a run tells on its way; of several workers, the first has one.

    A run that goes on from a checkpoint, or back to one, writes what it wrote after it once more: later lines
    are dropped, so that the log is that of a run that was never interrupted, but for the seconds.
    """

    def __init__(self, storage: Storage, num_images: int) -> None:
        """Goes on in the store of a run from where it has seen `num_images`, which may be none.

        Raises:
            StorageError: The store fails, or the log in it cannot be understood.
        """
        self._storage = storage
        self._lines = [line for line in _stored_lines(storage) if line.num_images <= num_images]
        for key in _sample_keys(storage):
            if int(Path(key).stem) > num_images:
                storage.delete(key)
        self._seconds_before = self._lines[-1].seconds if self._lines else 0.0
        self._start_s = self._stored_s = time.monotonic()
        # TensorBoard follows a local folder while it grows; a store takes whole files.
        self._scratch = None if isinstance(storage, LocalStorage) else tempfile.TemporaryDirectory()
        root = self._scratch.name if self._scratch else storage.url
        self._events = Events(Path(root) / _EVENTS, num_images)

    def log(self, position: Position, log: StepLog, learning_rate: float) -> None:
        """Writes down how training goes."""
        self._add(
            position,
            {
                "learning_rate": learning_rate,
                "losses": _told(log.losses),
                "gradient_norms": _told(log.gradient_norms),
                "signs": _told(log.figures),
            },
        )
        named = {f"losses/{name}": value for name, value in log.losses.items()}
        named |= {f"gradient_norms/{name}": value for name, value in log.gradient_norms.items()}
        named |= {f"signs/{name}": value for name, value in log.figures.items()}
        self._events.scalars(position.num_images, named | {"learning_rate": learning_rate})
        if time.monotonic() - self._stored_s >= _STORE_EVERY_S:
            self._store_log()

    def figures(self, position: Position, figures: Mapping[str, float]) -> None:
        """Writes down what a validation measured, by name."""
        self._add(position, {"figures": _told(figures)})
        named = {f"validation/{name}": value for name, value in figures.items()}
        self._events.scalars(position.num_images, named)
        self._store_log()

    def samples(self, position: Position, rows: Sequence[Sequence[Cell]]) -> None:
        """Keeps a picture with these rows, and only so many older ones."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "samples.png"
            write_panel(rows, path)
            png = path.read_bytes()
        self._storage.put(f"{_SAMPLES}{position.num_images:012d}.png", png)
        for key in _sample_keys(self._storage)[:-_NUM_SAMPLES_KEPT]:
            self._storage.delete(key)
        self._events.picture(position.num_images, "samples", png)

    def flush(self) -> None:
        """Stores all that was written; due before each checkpoint, which says that it will not come again.

        Raises:
            StorageError: The store fails.
        """
        self._store_log()
        self._events.flush()
        if self._scratch:
            name = self._events.path.name
            self._storage.put(f"{_EVENTS}{name}", self._events.path.read_bytes())

    def close(self) -> None:
        """Stores all, and writes no more."""
        self.flush()
        self._events.close()
        if self._scratch:
            self._scratch.cleanup()

    def _add(self, position: Position, values: Mapping[str, object]) -> None:
        seconds = self._seconds_before + time.monotonic() - self._start_s
        known = {"images": position.num_images, "seconds": round(seconds, 1), "stage": position.stage}
        text = json.dumps({**known, **values}, allow_nan=False)
        line = _Line(position.num_images, seconds, "figures" in values, text)
        if self._lines and self._lines[-1].num_images > line.num_images:
            self._events.forget_from(line.num_images + line.is_figures)
        while self._lines and self._lines[-1].place >= line.place:
            self._lines.pop()
        self._lines.append(line)

    def _store_log(self) -> None:
        self._stored_s = time.monotonic()
        self._storage.put(_LOG, "".join(f"{line.text}\n" for line in self._lines).encode())
        self._events.flush()


def _told(values: Mapping[str, float]) -> dict[str, float | None]:
    """As JSON has them, which knows finite numbers alone."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _stored_lines(storage: Storage) -> list[_Line]:
    content = storage.get(_LOG) or b""
    try:
        return [_line_of(text) for text in content.decode().splitlines()]
    except (ValueError, LookupError, TypeError) as error:
        raise StorageError(
            "the log of the run cannot be understood",
            where=f"{storage.url}/{_LOG}",
            got=str(error),
            expected="an object a line, as it was written",
            next_step="move it away: the run goes on without what was in it",
        ) from error


def _line_of(text: str) -> _Line:
    said = json.loads(text)
    return _Line(int(said["images"]), float(said["seconds"]), "figures" in said, text)


def _sample_keys(storage: Storage) -> list[str]:
    return sorted(info.key for info in storage.list(_SAMPLES) if _SAMPLE.fullmatch(info.key))
