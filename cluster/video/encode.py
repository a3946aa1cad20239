"""Parts: encoded segments as files, with exact times."""

from __future__ import annotations

import contextlib
import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame

from cluster.video.codecs import EncodeSettings
from cluster.video.containers import MUXERS, muxer_options
from cluster.video.encoder_frames import frame_of
from cluster.video.info import ColorTags
from cluster.video.matroska import stream_header
from cluster.video.opening import opening_encoder
from cluster.video.pixels import PixelFormat, pixel_format
from cluster.video.planes import Plane
from cluster.video.source import reason, write_error
from cluster.video.timeline import PtsArray
from sr_core.errors import FrameliftError, OutputError, SpecError

_LIMITED_RANGE, _FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG

# Matroska's names, of those codecs for which the container says what the encoder does not.
_CODEC_IDS = {"vp9": "V_VP9", "ffv1": "V_FFV1", "prores": "V_PRORES"}


# Of no more frames than that, which are never reordered, libx265 gives memory that it never wrote to as dts.
_NEVER_REORDERED = 2


@dataclass(frozen=True)
class EncodedPart:
    """A part that is complete.

    Attributes:
        packet_pts: In decoding order, in the source's ticks: exact, whatever the part's own clock is.
    """

    num_frames: int
    packet_pts: PtsArray


class PartWriter:
    """Writes one part. Its first frame is a keyframe, and none refers to another part."""

    def __init__(self, path: Path, settings: EncodeSettings) -> None:
        """Opens the encoder; the file is complete, and can be opened, only after `close`.

        Raises:
            OutputError: The encoder refuses the settings.
        """
        self._path = path
        self._settings = settings
        self._pixels = _pixels(settings)
        self._packet_pts = array("q")
        self._num_frames = 0
        self._is_closed = False
        self._container = _open_output(path, settings)
        try:
            with opening_encoder():
                self._encoder, self._stream = _open_encoder(self._container, settings)
        except (av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Gives up what was not closed."""
        if not self._is_closed:
            self.abort()

    def write(self, planes: Sequence[Plane], pts: int, props: VideoFrame | None = None) -> None:
        """Encodes one frame.

        Args:
            planes: As the settings' pixel format asks: Y, Cb, Cr, or R, G, B, each followed by alpha if there
                is one, or Y alone; (H, W) each, uint8 or, above 8 bits, uint16 with the code in the low bits.
                They may be kept for a while and must not be changed any more.
            pts: In the settings' time base, above that of the frame before.
            props: The frame of the source, whose closed captions go with this one where the encoder can.

        Raises:
            OutputError: The planes do not fit the settings, or the encoder fails.
        """
        frame = frame_of(planes, self._pixels, self._settings, props)
        set_color(frame, self._settings.color)
        frame.pts = pts
        frame.time_base = self._settings.time_base
        self._mux(frame)
        self._num_frames += 1

    def close(self) -> EncodedPart:
        """Finishes the part.

        Raises:
            OutputError: No frame was written, the encoder fails, or frames and packets do not match.
        """
        if not self._num_frames:
            self.abort()
            raise OutputError("a part without frames was closed", where=str(self._path))
        self._mux(None)
        try:
            self._container.close()
        except av.FFmpegError as error:
            raise self._failed(error) from error
        if len(self._packet_pts) != self._num_frames:
            self.abort()
            raise OutputError(
                "the encoder lost frames",
                where=str(self._path),
                got=f"{len(self._packet_pts)} packets",
                expected=f"{self._num_frames}",
            )
        self._is_closed = True
        return EncodedPart(self._num_frames, np.frombuffer(self._packet_pts, dtype=np.int64))

    def abort(self) -> None:
        """Gives up: what was written is removed. May be called at any time, also twice."""
        with contextlib.suppress(av.FFmpegError, ValueError):  # nothing of it is kept
            self._container.close()
        self._path.unlink(missing_ok=True)

    def _mux(self, frame: VideoFrame | None) -> None:
        try:
            for packet in self._encoder.encode(frame):
                assert packet.pts is not None
                self._packet_pts.append(packet.pts)
                if frame is None and self._num_frames <= _NEVER_REORDERED:
                    packet.dts = packet.pts
                packet.stream = self._stream
                self._container.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> FrameliftError:
        self.abort()
        return write_error(f"{self._settings.encoder} failed", self._path, error)


def check_encoder(settings: EncodeSettings) -> None:
    """Opens the encoder and gives it one frame, as every part will.

    Raises:
        SpecError: The encoder refuses the settings, or does not know an option.
    """
    context: Any = av.CodecContext.create(settings.encoder, "w")
    _configure(context, settings)
    context.options = dict(settings.options)
    pixels = _pixels(settings)
    dtype = np.uint8 if pixels.bit_depth == 8 else np.uint16
    black = [np.zeros(size, dtype) for size in pixels.plane_sizes(settings.width, settings.height)]
    frame = frame_of(black, pixels, settings)
    set_color(frame, settings.color)
    frame.pts, frame.time_base = 0, settings.time_base
    try:
        with opening_encoder():
            context.encode(frame)
        context.encode(None)
    except (av.FFmpegError, ValueError) as error:
        raise SpecError(
            f"{settings.encoder} refuses these settings",
            where="video",
            got=f"{reason(error)} for {settings.width}x{settings.height} {settings.pixel_format} "
            + " ".join(f"{key}={value}" for key, value in settings.options),
            next_step="choose another codec, preset or quality",
        ) from error
    if context.options:
        raise SpecError(
            f"{settings.encoder} does not know an option",
            where="video",
            got=", ".join(context.options),
        )


def set_color(target: Any, color: ColorTags) -> None:
    """Writes the colour tags to a frame or to a codec context, which name them alike."""
    target.color_primaries = color.primaries
    target.color_trc = color.transfer
    target.colorspace = color.matrix
    target.color_range = _FULL_RANGE if color.full_range else _LIMITED_RANGE


def _pixels(settings: EncodeSettings) -> PixelFormat:
    found = pixel_format(settings.pixel_format)
    if found is None:
        raise OutputError("no such pixel format", got=settings.pixel_format)
    return found


def _open_output(path: Path, settings: EncodeSettings) -> OutputContainer:
    container = settings.part_container
    options = muxer_options(container, settings.time_base)
    try:
        return av.open(str(path), "w", format=MUXERS[container], container_options=options)
    except av.FFmpegError as error:
        raise write_error("the part cannot be written", path, error) from error


def _open_encoder(container: OutputContainer, settings: EncodeSettings) -> tuple[Any, Any]:
    """What encodes frames, and the stream of `container` that takes the packets."""
    if settings.mastering_display is not None or settings.content_light is not None:
        return _open_beside(container, settings)
    stream: Any = container.add_stream(
        settings.encoder, rate=settings.frame_rate, options=dict(settings.options)
    )
    stream.time_base = settings.time_base
    _configure(stream.codec_context, settings)
    container.start_encoding()
    return stream, stream


def _open_beside(container: OutputContainer, settings: EncodeSettings) -> tuple[Any, Any]:
    """An encoder apart from the stream, which takes HDR10 metadata from a header that is made for it."""
    encoder: Any = av.CodecContext.create(settings.encoder, "w")
    _configure(encoder, settings)
    encoder.options = dict(settings.options)
    encoder.open()
    header = stream_header(
        _CODEC_IDS[settings.codec],
        encoder.extradata or b"",
        (settings.width, settings.height),
        settings.color.chroma_location if "chroma_sample_location" in dict(settings.options) else None,
        settings.mastering_display,
        settings.content_light,
    )
    with av.open(io.BytesIO(header)) as template:
        stream: Any = container.add_stream_from_template(template.streams.video[0], opaque=True)
    stream.time_base = settings.time_base
    context = stream.codec_context
    context.framerate = settings.frame_rate
    context.codec_tag = encoder.codec_tag
    if settings.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = settings.sample_aspect_ratio
    set_color(context, settings.color)
    container.start_encoding()
    return encoder, stream


def _configure(context: Any, settings: EncodeSettings) -> None:
    context.width, context.height = settings.width, settings.height
    context.pix_fmt = settings.encoder_format
    context.time_base = settings.time_base
    context.framerate = settings.frame_rate
    context.thread_count = settings.threads
    if settings.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = settings.sample_aspect_ratio
    set_color(context, settings.color)
