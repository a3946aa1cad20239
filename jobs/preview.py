"""`framelift preview`: a few seconds of a clip through several models, side by side, and their speed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from cluster.inputs import find_inputs
from cluster.places import place_of
from cluster.plan import DeviceClass, Input
from jobs.load import refuse_s3
from jobs.outputs import refuse_existing, written
from jobs.spec import UpscaleSpec
from jobs.view import console, printable
from sr_core.errors import SpecError

if TYPE_CHECKING:
    from cluster.preview import Preview

_REFERENCE = "bicubic"
_SUFFIX = ".mp4"


def preview(spec: UpscaleSpec, models: Sequence[str], start_s: float, seconds: float) -> int:
    """Writes the preview, and prints what it shows and how fast each model was.

    Args:
        spec: Whose input is the clip and whose output the file. How networks run counts too, and whether a
            file that stands there is replaced; the rest does not.
        models: Names or weights, which stand to the right of bicubic interpolation.
        start_s: Since the clip's first frame.
        seconds: Length.

    Raises:
        SpecError: The arguments mean nothing, or a file stands there.
        ModelError: A model cannot be used.
        MediaError: The clip cannot be read.
        StorageError: The file cannot be written.
    """
    out = _output(spec)
    clip = _clip(spec)
    from cluster.preview import PreviewRequest, render  # loads torch

    names = tuple(dict.fromkeys([_REFERENCE, *models]))
    request = PreviewRequest(clip, names, start_s, seconds, spec.scale, spec.engine)
    with _written(out) as path, _progress() as on_frame:
        made = render(request, path, _device_class(spec), on_frame)
    show_preview(made, out, console())
    return 0


def show_preview(made: Preview, out: Path, to: Console) -> None:
    """Prints which panel is which, how fast each was, and what must be known."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("panel", "model", "scale", "runs in"):
        table.add_column(name, overflow="fold")
    for name in ("frames/s", "ms/frame"):
        table.add_column(name, justify="right", no_wrap=True)
    for panel in made.panels:
        cells = (panel.label, panel.model, f"x{panel.facts.scale}", panel.precision)
        speeds = (f"{1 / panel.frame_s:.2f}", f"{1000 * panel.frame_s:.1f}")
        table.add_row(*(Text(printable(cell)) for cell in (*cells, *speeds)))
    to.print(table)
    for line in made.told:
        to.print(Text(f"note: {printable(line)}"))
    shown = f"{made.num_frames} frames, from {made.start_s:.3f} to {made.end_s:.3f} s, without sound"
    to.print(Text(f"{printable(str(out))}: {made.codec} {made.width}x{made.height}, {shown}"))


def _output(spec: UpscaleSpec) -> Path:
    refuse_s3(spec.output, "a preview")
    out = Path(spec.output)
    if out.suffix.lower() != _SUFFIX:
        raise SpecError(
            "a preview is an mp4", where="--out", got=spec.output, expected=f"a name in {_SUFFIX}"
        )
    refuse_existing([out], overwrite=spec.overwrite)
    return out


def _clip(spec: UpscaleSpec) -> Input:
    if place_of(spec.input_url).is_folder:
        raise SpecError(
            "a preview shows one video", where=spec.input, got="a folder", expected="a video file"
        )
    return find_inputs(spec.input_url, spec.output, spec.video, spec.image).inputs[0]


def _device_class(spec: UpscaleSpec) -> DeviceClass:
    import torch

    from cluster.worker import Worker
    from jobs.device import device_here

    return Worker(device_here(spec.workers.device), torch.get_num_threads()).device_class


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A path for what becomes `out` if the block ends without an error.

    It lies in the machine's own folder for such files, so that nothing stays beside `out` even if the process
    is killed; SIGTERM ends the block in order, as Ctrl-C does.
    """
    with _sigterm_interrupts(), written(out) as part, TemporaryDirectory(prefix="framelift-") as folder:
        if not os.access(part.parent, os.W_OK):  # which is better known before the work
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        path = Path(folder) / out.name
        yield path
        shutil.move(path, part)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    def interrupt(signal_number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Shows on stderr, where that is a terminal, how many frames are done, and of how many."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("frames", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
