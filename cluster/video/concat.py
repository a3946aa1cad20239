"""Parts and the source's other streams become one file."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import av
import numpy as np
from av.container import InputContainer, OutputContainer

from cluster.video.carry import Carried, StreamDigest, carried_metadata, stream_metadata
from cluster.video.clock import has_broadcast_clock
from cluster.video.codecs import EncodeSettings
from cluster.video.containers import INT32_MAX, MUXERS, Container, muxer_options, track_timescale
from cluster.video.encode import set_color
from cluster.video.info import VideoInfo
from cluster.video.source import open_source, reason, write_error
from cluster.video.timeline import PtsArray, global_dts, packet_durations
from sr_core.errors import MediaError, OutputError

# With the index in front a player can start before it has the whole file. Moving it there takes another pass
# over the file and twice the index's size in memory, which a film of many hours does not get.
_MANY_PACKETS = 1_000_000
_OWN_KEYS = "com."  # reverse domain names, as of com.apple.quicktime.make and com.android.version

_Packets: TypeAlias = "Iterator[av.Packet[Any]]"


@dataclass(frozen=True)
class JoinSettings:
    """What becomes of one source.

    Attributes:
        video: Its main video stream, in whose place the parts go.
        encode: How the parts were encoded.
        container: Of the output.
        carried: Indexes of the source's other streams that go into the output.
    """

    video: VideoInfo
    encode: EncodeSettings
    container: Container
    carried: tuple[int, ...]


@dataclass(frozen=True)
class JoinResult:
    """What was written.

    Attributes:
        video_position: Of the video among the output's streams.
        carried: The other streams, in the output's order.
        metadata_keys: Of the whole file, in lower case.
        told: What the user must know of the other streams, and of repaired times.
        zero_pts: What is zero in the output, in ticks of what was encoded: all streams were moved by it. The
            digests of `carried` are on the source's clock, as is everything else but the output.
    """

    video_position: int
    carried: tuple[StreamDigest, ...]
    metadata_keys: frozenset[str]
    told: tuple[str, ...]
    zero_pts: int = 0


def join(
    parts: Iterable[Path],
    packet_pts: Sequence[PtsArray],
    settings: JoinSettings,
    source: BinaryIO | None,
    name: str,
    out_path: Path,
) -> JoinResult:
    """Writes the output: the parts' video by stream copy, and all that is carried of the source.

    Args:
        parts: In the order of their segments. Each is opened when the one before is through.
        packet_pts: Of each part's packets in decoding order, in ticks of what was encoded, which may be half
            the source's. These times are written, whatever the parts' own clocks say.
        source: None for a sequence of images, which has nothing beside its frames.
        name: Names the source in errors.

    Raises:
        MediaError: The source cannot be read any more, or the container cannot hold its times.
        OutputError: The parts do not fit each other or their times, or the muxer fails.
    """
    with (
        _writing(out_path, settings) as output,
        tempfile.TemporaryFile(dir=out_path.parent) as spool_file,
    ):
        video = _Parts(parts, packet_pts, settings)
        with open_source(source, name) if source is not None else video.open_first() as container:
            carried = Carried(container, settings.video, settings.carried, settings.container, spool_file)
            position = _add_streams(output, container, video, carried, settings)
            metadata = carried_metadata(container.metadata, settings.container)
            output.metadata.update(metadata)
            output.set_chapters(container.chapters())
            zero_pts = _zero_pts(video, carried, settings) if has_broadcast_clock(container) else 0
        is_long = carried.num_packets + video.num_packets >= _MANY_PACKETS
        output.container_options.update(_flags(settings.container, metadata, is_long, carried.has_covers))
        output.start_encoding()
        for packet in _holdable(_merged(video, carried, zero_pts), settings.container, name):
            output.mux(packet)
    return JoinResult(
        video_position=position,
        carried=carried.digests(),
        metadata_keys=frozenset(key.lower() for key in metadata),
        told=(
            *carried.repaired,
            *_zero_told(zero_pts * settings.encode.time_base),
            *(f"of the other streams: {text}" for text in carried.notes.texts),
        ),
        zero_pts=zero_pts,
    )


@contextlib.contextmanager
def _writing(path: Path, settings: JoinSettings) -> Iterator[OutputContainer]:
    """An output that is complete after the block, or gone if the block fails."""
    options = muxer_options(settings.container, settings.encode.time_base)
    output: OutputContainer | None = None
    try:
        output = av.open(str(path), "w", format=MUXERS[settings.container], container_options=options)
        yield output
        output.close()
    except BaseException as error:
        with contextlib.suppress(av.FFmpegError):
            if output is not None:
                output.close()
        path.unlink(missing_ok=True)
        if isinstance(error, av.FFmpegError | ValueError | OSError):
            raise write_error("the output cannot be written", path, error) from error
        raise


def _flags(
    container: Container, metadata: Mapping[str, str], is_long: bool, has_covers: bool
) -> dict[str, str]:
    """The muxer's options that depend on what goes into the file."""
    if container not in ("mp4", "mov"):
        return {}
    flags = [] if is_long else ["faststart"]
    # QuickTime's own keys, as phones and cameras write them, need another table, which then holds all tags.
    # Where covers are, that has no place for them.
    if not has_covers and any(key.lower().startswith(_OWN_KEYS) for key in metadata):
        flags.append("use_metadata_tags")
    return {"movflags": "".join(f"+{flag}" for flag in flags)} if flags else {}


def _add_streams(
    output: OutputContainer, source: InputContainer, video: _Parts, carried: Carried, settings: JoinSettings
) -> int:
    """Makes the output's streams in the source's order; returns the video's position."""
    source_video = source.streams[settings.video.stream_index]
    tracks = sorted([*carried.tracks, source_video], key=lambda stream: stream.index)
    for stream in tracks:
        if stream.index == source_video.index:
            _add_video(output, video, stream, settings)
        else:
            carried.add_track(output, stream)
    carried.add_stills(output)
    return [stream.index for stream in tracks].index(source_video.index)


class _Parts:
    """The packets of all parts, with the times that they have in the output."""

    def __init__(self, parts: Iterable[Path], packet_pts: Sequence[PtsArray], settings: JoinSettings) -> None:
        self._paths = iter(parts)
        self._pts = packet_pts
        self._settings = settings
        self._stream: Any = None
        self.time_base = settings.encode.time_base
        self._first_path = next(self._paths)
        with _open_part(self._first_path) as part:
            self._format = _format_of(part)

    @property
    def num_packets(self) -> int:
        """Of all parts."""
        return sum(len(pts) for pts in self._pts)

    def open_first(self) -> InputContainer:
        """The first part."""
        return _open_part(self._first_path)

    def add_stream(self, output: OutputContainer) -> Any:
        """Makes the stream of `output` that takes the packets."""
        with self.open_first() as part:
            template = part.streams.video[0]
            self._stream = output.add_stream_from_template(template, opaque=True)
            if template.codec_context.name == "prores":  # whose tag says which of its kinds it is
                self._stream.codec_context.codec_tag = template.codec_context.codec_tag
        return self._stream

    @property
    def start_pts(self) -> int:
        """When the first frame is shown."""
        return min(int(pts.min()) for pts in self._pts)

    def packets(self, zero_pts: int) -> _Packets:
        """In decoding order, with what is at `zero_pts` on the source's clock at zero."""
        all_pts = np.concatenate(self._pts) - zero_pts
        if all_pts.min() < 0:
            raise OutputError("no container holds frames before zero", got=f"pts {all_pts.min()}")
        dts = global_dts(all_pts)
        starts = [int(pts.min()) for pts in self._pts]
        ends = [*starts[1:], self._end_pts(int(self._pts[-1].max()))]
        first = 0
        for path, pts, end_pts in zip(self._all_paths(), self._pts, ends, strict=True):
            durations = packet_durations(pts, end_pts)
            yield from self._packets_of(path, pts - zero_pts, dts[first : first + len(pts)], durations)
            first += len(pts)

    def _end_pts(self, last_pts: int) -> int:
        """Where the last frame ends, in the output's ticks: where the source's last one does."""
        video, encode = self._settings.video, self._settings.encode
        end_pts = round(video.end_pts * video.time_base / encode.time_base)
        return max(end_pts, last_pts + 1)

    def _all_paths(self) -> Iterator[Path]:
        yield self._first_path
        yield from self._paths

    def _packets_of(self, path: Path, pts: PtsArray, dts: PtsArray, durations: PtsArray) -> _Packets:
        num = 0
        with _open_part(path) as part:
            if _format_of(part) != self._format:
                raise OutputError("a part was encoded in another way than the first", where=str(path))
            for packet in part.demux(part.streams.video[0]):
                if not packet.size:
                    continue
                if num == len(pts) or (num == 0 and not packet.is_keyframe):
                    break
                packet.pts = int(pts[num])
                packet.dts = int(dts[num])
                packet.duration = int(durations[num])
                packet.time_base = self.time_base
                packet.stream = self._stream
                num += 1
                yield packet
            else:
                if num == len(pts):
                    return
        raise OutputError(
            "a part is not what its receipt says",
            where=str(path),
            got=f"{num} packets" if num < len(pts) else "more packets" if num else "no keyframe at its start",
            expected=f"{len(pts)} packets, of which the first is a keyframe",
        )


def _open_part(path: Path) -> InputContainer:
    try:
        part = av.open(str(path), "r")
    except av.FFmpegError as error:
        raise OutputError("a part cannot be read", where=str(path), got=reason(error)) from error
    if len(part.streams) != 1 or not part.streams.video:
        raise OutputError("a part is no video", where=str(path))
    return part


def _format_of(part: InputContainer) -> tuple[object, ...]:
    """What must be the same in all parts of a stream."""
    context = part.streams.video[0].codec_context
    return context.name, context.extradata, context.width, context.height, context.pix_fmt


def _add_video(output: OutputContainer, parts: _Parts, source_stream: Any, settings: JoinSettings) -> None:
    encode = settings.encode
    stream = parts.add_stream(output)
    stream.time_base = encode.time_base
    stream.disposition = source_stream.disposition
    stream.metadata.update(stream_metadata(source_stream, settings.container))
    if encode.codec == "vp9" and encode.pixel_format.startswith("yuva"):
        stream.metadata["alpha_mode"] = "1"  # players look for alpha only where this stands
    if settings.video.display_matrix is not None:
        stream.set_display_matrix(settings.video.display_matrix)
    context = stream.codec_context
    context.framerate = encode.frame_rate
    context.sample_aspect_ratio = encode.sample_aspect_ratio or Fraction(0)
    context.bit_rate = 0  # the first part's; the muxer counts by itself
    set_color(context, encode.color)
    if encode.codec == "hevc" and settings.container in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # Apple's players take no other


def _zero_pts(video: _Parts, carried: Carried, settings: JoinSettings) -> int:
    """When the first of all streams starts, in ticks of what was encoded: what becomes zero.

    A film that starts before zero stays where it is. Where its first frames do not decode, it starts there
    all the same.
    """
    time_base, source = settings.encode.time_base, settings.video
    first_s = min(source.start_pts * source.time_base, video.start_pts * time_base)
    if carried.start_s is not None:
        first_s = min(first_s, carried.start_s)
    return max(0, math.floor(first_s / time_base))


def _zero_told(zero_s: Fraction) -> tuple[str, ...]:
    if not zero_s:
        return ()
    minutes, milliseconds = divmod(round(zero_s * 1000), 60_000)
    clock = f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds / 1000:06.3f}"
    return (f"the broadcast clock started at {clock}; all times are moved so that the output starts at 0",)


def _merged(parts: _Parts, carried: Carried, zero_pts: int) -> _Packets:
    """All packets, by their decoding times: each file's order stays, and of equal times video comes first."""
    yield from carried.cover_packets()
    videos = parts.packets(zero_pts)
    video = next(videos, None)
    for packet in carried.packets(zero_pts * parts.time_base):
        while video is not None and _seconds(video) <= _seconds(packet):
            yield video
            video = next(videos, None)
        yield packet
    if video is not None:
        yield video
    yield from videos


def _holdable(packets: _Packets, container: Container, name: str) -> _Packets:
    """The same packets, as long as `container` can say how far they are apart."""
    last_dts: dict[int, int] = {}
    most: dict[int, int] = {}
    for packet in packets:
        index = packet.stream.index
        assert packet.dts is not None
        if container in ("mp4", "mov"):
            if index not in most:
                most[index] = _most_ticks(packet)
            gap = max(packet.dts - last_dts.get(index, packet.dts), packet.duration or 0)
            if gap > most[index]:
                raise MediaError(
                    f"its packets are farther apart than {container} can say",
                    where=name,
                    got=f"{float(gap * packet.time_base):.0f} s in stream {index}",
                    expected=f"{float(most[index] * packet.time_base):.0f} s at most",
                    next_step="choose mkv as the container",
                )
            last_dts[index] = packet.dts
        yield packet


def _most_ticks(packet: av.Packet[Any]) -> int:
    """How far apart a track of MP4 can have packets: 31 bits of the clock that the muxer gives it."""
    timescale = track_timescale(packet.time_base)
    if packet.stream.type == "audio":
        timescale = max(timescale, packet.stream.codec_context.sample_rate)
    return int(Fraction(INT32_MAX, timescale) / packet.time_base)


def _seconds(packet: av.Packet[Any]) -> float:
    assert packet.dts is not None
    return float(packet.dts * packet.time_base)
