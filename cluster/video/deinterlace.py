"""Frames made of two fields as whole pictures: bwdif, frame by frame, the same wherever decoding starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace

from cluster.video.info import DeinterlaceMode
from cluster.video.pixels import PIXEL_FORMATS, PixelFormat, pixel_format, without_full_range
from cluster.video.planes import SCALER_THREADS, stored_planes, to_planar
from cluster.video.source import reason
from sr_core.errors import MediaError

_ANY_TIME_BASE = Fraction(1, 1000)  # the filter's times are not used
_SMALL_PX = 16
_ANY_MATRIX = Colorspace.ITU601  # the scaler refuses some that frames name, and grey has none
_BWDIF = "mode={mode}:parity=auto:deint=all"
# Planar formats that bwdif (FFmpeg 8.1) does not take, and those with the same planes that it does. It works
# on one plane at a time, and depth is to it no more than where it clips.
_TAKEN_AS = {
    **{f"gray{depth}le": "gray16le" for depth in (9, 10, 12, 14)},
    **{f"gbrap{depth}le": "gbrap16le" for depth in (10, 12, 14)},
    "yuva422p12le": "yuva422p16le",
    "yuva444p12le": "yuva444p16le",
}
_NOT_TAKEN = ("yuv440p10le", "yuv440p12le")


@dataclass(frozen=True)
class Picture:
    """What is shown of one frame, or of one field of it.

    Attributes:
        source: The decoded frame.
        image: Its pixels: the frame itself, or new ones, in the planar format of the frame's.
        pixels: How `image` is stored.
        is_second_field: It is of the field that is displayed later, in a mode that makes two of each frame.
        is_deinterlaced: `image` is new.
    """

    source: VideoFrame
    image: VideoFrame
    pixels: PixelFormat
    is_second_field: bool = False
    is_deinterlaced: bool = False


def pictures(frames: Iterable[VideoFrame], mode: DeinterlaceMode, name: str = "") -> Iterator[Picture]:
    """What is shown of `frames`, in their order; see `DeinterlaceMode`.

    A frame's pictures depend on it and on the frames right before and after it. Which field is first is as
    the frame says, or else the top one.

    Args:
        name: Names the source in errors.

    Raises:
        MediaError: A frame's pixel format is not known, or it cannot be deinterlaced.
    """
    run: _Run | None = None
    before: VideoFrame | None = None
    for frame in frames:
        is_wanted = mode in ("frame", "field") or (mode == "flagged" and frame.interlaced_frame)
        if before is not None and not _is_alike(before, frame):
            yield from run.rest() if run else ()
            run = before = None
        if run is None and is_wanted:
            run = _Run(frame, mode == "field", name)
            yield from run.push(before, is_wanted=False) if before is not None else ()
        if run is not None:
            yield from run.push(frame, is_wanted)
        if not is_wanted:
            run = None
            yield Picture(frame, frame, _pixels_of(frame, name))
        before = frame
    yield from run.rest() if run else ()


def repeats_field(frame: VideoFrame) -> bool:
    """Whether `frame` says that one of its fields, or all of it, is shown once more (soft telecine).

    PyAV has no getter for that flag. But told to deinterlace what says it is interlaced, bwdif passes over a
    frame that comes after a progressive one with the flag: so a combed frame is sent behind `frame`.
    """
    small = frame.reformat(
        width=_SMALL_PX,
        height=_SMALL_PX,
        format="gray",
        src_colorspace=_ANY_MATRIX,
        dst_colorspace=_ANY_MATRIX,
        threads=SCALER_THREADS,
    )
    combed = VideoFrame(_SMALL_PX, _SMALL_PX, "gray")
    (plane,) = stored_planes(combed, PIXEL_FORMATS["gray"])
    plane[::2], plane[1::2] = 0, 255
    flagged = [*_through(("setfield", "prog"), [small]), *_through(("setfield", "tff"), [combed])]
    last = _through(("bwdif", "mode=send_frame:parity=auto:deint=interlaced"), flagged)[-1]
    (after,) = stored_planes(last, PIXEL_FORMATS["gray"])
    return bool(np.array_equal(after, plane))


def _through(what: tuple[str, str], frames: list[VideoFrame]) -> list[VideoFrame]:
    """All that the filter `what` makes of grey `frames` of the small size."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(template=frames[0], time_base=_ANY_TIME_BASE)  # type: ignore[arg-type]
    graph.link_nodes(source, graph.add(*what), graph.add("buffersink"))
    graph.configure()
    for frame in frames:
        graph.vpush(frame)
    graph.vpush(None)
    made = []
    while True:
        try:
            made.append(graph.vpull())
        except av.EOFError:
            return made


class _Run:
    """Frames that follow each other through one filter.

    It is told to deinterlace all of them, also where only some are wanted: what it makes of a frame would
    depend on whether it has deinterlaced any frame before.
    """

    def __init__(self, frame: VideoFrame, has_two_fields: bool, name: str) -> None:
        self._pixels = _pixels_of(frame, name)
        self._name = name
        self._num_per_frame = 2 if has_two_fields else 1
        self._graph = self._new_graph(frame, "send_field" if has_two_fields else "send_frame")
        self._fed: list[tuple[VideoFrame, bool]] = []
        self._num_out_of_first = 0

    def push(self, frame: VideoFrame, is_wanted: bool) -> Iterator[Picture]:
        """Gives `frame` to the filter; what that lets out is of the frame before it."""
        self._fed.append((frame, is_wanted))
        self._graph.vpush(_taken(frame, self._pixels))
        yield from self._pull()

    def rest(self) -> Iterator[Picture]:
        """The pictures of the last frame, after which none comes."""
        self._graph.vpush(None)
        yield from self._pull()

    def _pull(self) -> Iterator[Picture]:
        while True:
            try:
                image = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            frame, is_wanted = self._fed[0]
            if is_wanted:
                planar = _clipped(image, self._pixels)
                yield Picture(frame, image, planar, self._num_out_of_first > 0, is_deinterlaced=True)
            self._num_out_of_first += 1
            if self._num_out_of_first == self._num_per_frame:
                self._num_out_of_first = 0
                del self._fed[0]

    def _new_graph(self, frame: VideoFrame, mode: str) -> Graph:
        graph = Graph()
        graph.threads = 1
        taken = _taken(frame, self._pixels)
        try:
            if self._pixels.planar in _NOT_TAKEN:
                raise ValueError("bwdif does not know the pixel format")
            source = graph.add_buffer(
                width=taken.width, height=taken.height, format=taken.format, time_base=_ANY_TIME_BASE
            )
            graph.link_nodes(source, graph.add("bwdif", _BWDIF.format(mode=mode)), graph.add("buffersink"))
            graph.configure()
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(
                "this video cannot be deinterlaced",
                where=self._name,
                got=f"{frame.width}x{frame.height} {self._pixels.name}: {reason(error)}",
                expected="planes of at least 4x4",
                next_step="turn deinterlacing off",
            ) from error
        return graph


def _is_alike(frame: VideoFrame, other: VideoFrame) -> bool:
    return (frame.width, frame.height, frame.format.name) == (other.width, other.height, other.format.name)


def _pixels_of(frame: VideoFrame, name: str) -> PixelFormat:
    found = pixel_format(without_full_range(frame.format.name)[0])
    if found is None:
        raise MediaError("this pixel format is not supported", where=name, got=frame.format.name)
    return found


def _taken(frame: VideoFrame, pixels: PixelFormat) -> VideoFrame:
    """`frame` as bwdif takes it: planar, and in a format that it knows, with the same codes."""
    planar = to_planar(frame, pixels)
    wider = _TAKEN_AS.get(pixels.planar)
    if wider is None:
        return planar
    # This copies which field is first too, for which PyAV has no setter.
    taken = planar.reformat(format=wider, threads=SCALER_THREADS)
    for target, plane in zip(stored_planes(taken, pixels), stored_planes(planar, pixels), strict=True):
        target[:] = plane
    return taken


def _clipped(image: VideoFrame, pixels: PixelFormat) -> PixelFormat:
    """The format of `image`, which comes from the filter, after its codes are clipped to the depth."""
    if pixels.planar in _TAKEN_AS:
        image.make_writable()
        for plane in stored_planes(image, pixels):
            np.minimum(plane, (1 << pixels.bit_depth) - 1, out=plane)
    return PIXEL_FORMATS[pixels.planar]
