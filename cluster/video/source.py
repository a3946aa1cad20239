"""A source as PyAV sees it: opened with nothing but file formats allowed, and read on behind damage."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext

from cluster.storage.disk import DISK_ERRNOS, disk_error
from sr_core.errors import FrameliftError, MediaError, OutputError

# Playlists and scripts are formats too, and could read any file or address: only containers are allowed.
_FORMATS = (
    "mov,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,asf,ogg,nut,mxf,gif,dv,rm,ivf,h264,hevc,"
    # Recordings, old players and bare streams.
    "wtv,gxf,lxf,nsv,nuv,pva,ty,vivo,film_cpk,flic,smk,bink,roq,rpl,"
    "m4v,mjpeg,vc1,av1,obu,vvc,cavsvideo,avs2,dirac,dnxhd,yuv4mpegpipe"
)
# Only to say what a file is that is none of these.
_OTHER_FORMATS = (
    "mp3,wav,w64,flac,aac,ac3,eac3,dts,truehd,aiff,caf,au,amr,ape,wv,tta,dsf,"
    "png_pipe,jpeg_pipe,webp_pipe,tiff_pipe,bmp_pipe,psd_pipe,jpegxl_pipe,j2k_pipe,exr_pipe,dpx_pipe,svg_pipe"
)
_MAX_STREAMS = 1000
MAX_PIXELS = 1 << 28
_MAX_EDGE_PX = 65_535
# Files are read through Python: nothing that a file refers to is to be opened.
_OPTIONS = {
    "format_whitelist": _FORMATS,
    "protocol_whitelist": "none",
    "enable_drefs": "0",
    "max_streams": str(_MAX_STREAMS + 1),  # the demuxer passes over what is more
}
_DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
# Their usual decoders leave alpha out, which lies beside every packet.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_BUFFER_BYTES = 256 << 10
# After an error a demuxer mostly goes on behind the damage; where it does not, it says the same for ever.
_MAX_ERRORS_IN_A_ROW = 20
_MAX_ERRORS_KEPT = 20


class ErrorNotes:
    """What decoders and demuxers said, each different thing once, and never more than a few of them."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        """Notes `text`, unless it was noted before or there are enough of them."""
        if len(self._texts) < _MAX_ERRORS_KEPT:
            self._texts[text] = None

    @property
    def texts(self) -> list[str]:
        """In the order of their first occurrence."""
        return list(self._texts)


def open_source(file: BinaryIO, name: str) -> InputContainer:
    """Opens `file`, from its current content alone; whoever calls closes both.

    Raises:
        MediaError: It is no media file that can be read, with `name` as where.
    """
    if not file.seek(0, os.SEEK_END):
        raise MediaError("the file is empty", where=name, next_step="get the file again")
    file.seek(0)
    try:
        container = av.open(
            file,
            "r",
            options=_DECODER_OPTIONS,
            container_options=_OPTIONS,
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
        )
    except (av.FFmpegError, UnicodeError) as error:
        other_kind = _other_kind(file)
        raise MediaError(
            "the file cannot be read as a video",
            where=name,
            got=other_kind or _demuxer_reason(error),
            expected="a complete mp4, mov, mkv, webm, ts, avi, mpg or flv file",
            next_step=f"check that it is {'the file that is meant' if other_kind else 'complete and plays'}",
        ) from error
    if len(container.streams) > _MAX_STREAMS:
        container.close()
        raise MediaError(
            "the file has too many streams",
            where=name,
            got=f"more than {_MAX_STREAMS}",
            expected=f"{_MAX_STREAMS} at most",
        )
    return container


def _other_kind(file: BinaryIO) -> str:
    """Which sound or picture `file` is, in FFmpeg's words; empty if none that is known."""
    file.seek(0)
    options = {**_OPTIONS, "format_whitelist": _OTHER_FORMATS}
    try:
        with av.open(file, "r", container_options=options, metadata_errors="replace") as container:
            if not container.streams:
                return ""
            is_picture = container.format.name.endswith("_pipe")
            return (
                f"a picture, {codec_name(container.streams[0])}"
                if is_picture
                else (f"sound without video, {container.format.long_name}")
            )
    except (av.FFmpegError, UnicodeError):
        return ""


def check_size(width: int, height: int, name: str) -> None:
    """Raises a MediaError, with `name` as where, if frames of that size in px are too large to be handled."""
    if width * height > MAX_PIXELS or max(width, height) > _MAX_EDGE_PX:
        raise MediaError(
            "the frames are too large",
            where=name,
            got=f"{width}x{height}",
            expected=f"{MAX_PIXELS} pixels and edges of {_MAX_EDGE_PX} at most",
        )


def read_packets(
    container: InputContainer, streams: Sequence[Any], notes: ErrorNotes
) -> Iterator[av.Packet[Any]]:
    """The packets with data of `streams` (never empty) from the current position on, also behind damage.

    Raises:
        MemoryError: This machine has no memory left.
    """
    num_errors = 0
    while streams and num_errors < _MAX_ERRORS_IN_A_ROW:  # PyAV takes no stream for all streams
        try:
            for packet in container.demux(*streams):
                if packet.size:
                    num_errors = 0
                    yield packet
            return
        except MemoryError:  # that is no damage
            raise
        except av.FFmpegError as error:
            notes.add(f"reading: {_demuxer_reason(error)}")
            num_errors += 1


def only(container: InputContainer, streams: Sequence[Any]) -> None:
    """Makes the demuxer skip what is not in `streams`, where it can without even reading it."""
    wanted = {stream.index for stream in streams}
    for stream in container.streams:
        if stream.index not in wanted:
            stream.discard = av.stream.Discard.all


def codec_name(stream: Any) -> str:
    """FFmpeg's name of the stream's codec; empty where no decoder knows it."""
    if stream.codec_context is not None:
        return str(stream.codec_context.codec.canonical_name)
    return str(getattr(stream, "name", None) or "") if stream.type == "data" else ""


def new_decoder(stream: Any, threads: int) -> VideoCodecContext:
    """A new decoder for `stream`.

    A decoder that was used remembers what it learned, as how deep frames are reordered, also behind a flush;
    PyAV makes a new one only with a new container, so it is taken from one that is never written.
    """
    decoder = alpha_decoder(stream)
    if decoder is None:
        with av.open(io.BytesIO(), "w", format="null") as container:
            try:
                copied: Any = container.add_stream_from_template(stream, opaque=True)
            except ValueError as error:
                raise MediaError("this codec is not supported", got=codec_name(stream)) from error
            decoder = copied.codec_context
            assert isinstance(decoder, VideoCodecContext)
            decoder.codec_tag = stream.codec_context.codec_tag
    decoder.thread_type = av.codec.context.ThreadType.AUTO
    decoder.thread_count = threads
    limit_decoder(decoder)
    return decoder


def alpha_decoder(stream: Any) -> VideoCodecContext | None:
    """A new decoder that gives alpha too, where `stream` has some and its usual decoder leaves it out."""
    says_alpha = {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"
    codec = _ALPHA_DECODERS.get(codec_name(stream)) if says_alpha else None
    if codec is None:
        return None
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = stream.codec_context.extradata
    return decoder


def limit_decoder(decoder: VideoCodecContext) -> None:
    """Lets `decoder`, which is not open yet, refuse frames that are too large."""
    decoder.options = dict(_DECODER_OPTIONS)


def header_of(stream: Any) -> bytes:
    """The header of a Matroska file that holds nothing but `stream`.

    It says what PyAV has no getter for. Empty where Matroska cannot hold the codec.
    """
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska", options={"fflags": "+bitexact"}) as output:
            output.add_stream_from_template(stream, opaque=True)
            output.start_encoding()
    except (av.FFmpegError, ValueError):
        return b""
    return file.getvalue()


def reason(error: Exception) -> str:
    """What FFmpeg says of `error`, without the names of Python's classes and files."""
    return str(getattr(error, "strerror", None) or error)


def _demuxer_reason(error: Exception) -> str:
    """As `reason`, of an error in reading what was opened already.

    Some demuxers, as that of DV, say -1 of anything, which is the number of an operation not permitted.
    """
    is_unnamed = getattr(error, "errno", None) == errno.EPERM
    return "data are incomplete or damaged" if is_unnamed else reason(error)


def write_error(what: str, path: Path, error: Exception) -> FrameliftError:
    """Why `path` could not be written: the disk is full or cannot be written, or else we are at fault."""
    if getattr(error, "errno", None) in DISK_ERRNOS:
        return disk_error(OSError(error.errno, reason(error)), str(path))  # type: ignore[attr-defined]
    return OutputError(what, where=str(path), got=reason(error))
