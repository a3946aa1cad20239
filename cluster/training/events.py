"""What TensorBoard shows of a run, as event files.

TensorBoard reads all files of a folder in the order of their names, and forgets what it read from a step on
where a file says that a session started there.
"""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

_PNG_SIZE = struct.Struct(">II")
_PNG_SIZE_AT = 16  # the first chunk, IHDR, begins with width and height
_RGB = 3


class Events:
    """One file of events; steps are images seen.

    Attributes:
        path: Of the file.
    """

    def __init__(self, folder: Path, num_images: int) -> None:
        """Begins a file in `folder`, which is made where it is missing, for what comes after `num_images`."""
        folder.mkdir(parents=True, exist_ok=True)
        # The writer names files by the second and the machine.
        unique = f".{num_images:012d}.{uuid.uuid4().hex[:8]}"
        self._writer = EventsWriter(str(folder / "events"), unique)
        (self.path,) = folder.glob(f"*{unique}")
        self.forget_from(num_images + 1)

    def forget_from(self, num_images: int) -> None:
        """What was written of this step and later ones is not shown any more."""
        self._write(Event(step=num_images, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, num_images: int, values: Mapping[str, float]) -> None:
        """Writes numbers by their tags."""
        listed = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(step=num_images, summary=Summary(value=listed)))

    def picture(self, num_images: int, tag: str, png: bytes) -> None:
        """Writes a picture, the content of a PNG file."""
        width, height = _PNG_SIZE.unpack_from(png, _PNG_SIZE_AT)
        image = Summary.Image(width=width, height=height, colorspace=_RGB, encoded_image_string=png)
        self._write(Event(step=num_images, summary=Summary(value=[Summary.Value(tag=tag, image=image)])))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)

    def flush(self) -> None:
        """All that was written is in the file."""
        self._writer.flush()

    def close(self) -> None:
        """No more is written."""
        self._writer.close()
