"""The source's other streams on their way into an output: copied packet by packet, with proof.

Sound that the output cannot hold as it is comes anew coded.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from cluster.video import spool
from cluster.video.clock import with_signs
from cluster.video.containers import Container, SoundEncoder, language_in, sound_encoder
from cluster.video.field_pairs import whole_frames
from cluster.video.frame_times import FrameTimes
from cluster.video.info import VideoInfo
from cluster.video.repair import Repair
from cluster.video.sound import SoundConverter
from cluster.video.source import ErrorNotes, codec_name, only, read_packets

_MAX_WAITING = 256
_EMPTY_TEXT = b"\0\0"  # a gap between subtitles in MP4, which the muxer writes itself
_LEAST_ADTS_HEADER_BYTES = 7
_PICTURE_KINDS = {"mjpeg": "jpeg"}  # others have one name as a codec and as a file

# What a file says of itself, its writer or its bytes: not true of a new file.
_OF_THE_FILE = {
    *("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "duration"),
    *("bps", "filename", "mimetype", "alpha_mode"),
}
_STATISTICS = re.compile(r"(number_of_\w+|_statistics_\w+)")
_LANGUAGE_SUFFIX = re.compile(r"-[a-z]{3}$")
_PCM_BITS = re.compile(r"pcm_[suf](\d+)(?:le|be)?")
_PCM_BYTE = ("pcm_alaw", "pcm_mulaw")


@dataclass(frozen=True)
class StreamDigest:
    """What was written of one stream.

    Attributes:
        source_index: The stream's index in the source.
        num_packets: None where containers cut the same payload into packets as they like (PCM).
        sha256: Of all payloads, one after the other; empty where the container rewrites them.
        is_empty: Whether the stream has no packet at all.
        start_s: pts of the first packet, in seconds; None where there is none.
        end_s: The highest pts, in seconds; None where there is none.
    """

    source_index: int
    num_packets: int | None
    sha256: str
    is_empty: bool
    start_s: float | None = field(default=None, compare=False)
    end_s: float | None = field(default=None, compare=False)


class DigestMaker:
    """Makes a `StreamDigest` that is the same for the same payload in any container."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._is_pcm = codec.startswith("pcm_")
        self._is_text = codec == "mov_text"
        self._has_adts = codec == "aac" and not extradata
        self._hash = hashlib.sha256()
        self._num_packets = 0
        self._start_s: float | None = None
        self._end_s: float | None = None

    def add(self, packet: av.Packet[Any]) -> None:
        """Takes the next packet of the stream."""
        if self._is_text and bytes(packet) == _EMPTY_TEXT:
            return
        self._num_packets += 1
        if packet.pts is not None:
            time_s = float(packet.pts * packet.time_base)
            self._start_s = time_s if self._start_s is None else self._start_s
            self._end_s = time_s if self._end_s is None else max(self._end_s, time_s)
        self._hash.update(_without_adts(bytes(packet)) if self._has_adts else memoryview(packet))

    def digest(self, source_index: int, is_rewritten: bool) -> StreamDigest:
        """Of all packets so far.

        Args:
            is_rewritten: Whether the payload changes its form between containers.
        """
        return StreamDigest(
            source_index=source_index,
            num_packets=None if self._is_pcm else self._num_packets,
            sha256="" if is_rewritten else self._hash.hexdigest(),
            is_empty=not self._num_packets,
            start_s=self._start_s,
            end_s=self._end_s,
        )


def digest_of_attachment(source_index: int, data: bytes) -> StreamDigest:
    """As `DigestMaker` makes it of a stream with one packet."""
    return StreamDigest(source_index, 1, hashlib.sha256(data).hexdigest(), is_empty=False)


def is_rewritten(stream: Any) -> bool:
    """Whether MP4 and Matroska store the packets of `stream` in another form: start codes become lengths."""
    extradata = stream.codec_context.extradata or b""
    return codec_name(stream) in ("h264", "hevc") and extradata[:1] != b"\1"


class Carried:
    """The carried streams of one source, and their counterparts in one output.

    Attributes:
        tracks: The source's streams that are carried, less covers, attachments and sound that has nothing
            that could be coded anew.
        num_packets: Of all tracks.
        start_s: The earliest pts of all tracks, in seconds; None where there is none.
        notes: What was wrong in the source.
        repaired: What was done to its times, where those of its video need repair.
    """

    def __init__(
        self,
        source: InputContainer,
        video: VideoInfo,
        indexes: Sequence[int],
        container: Container,
        spool_file: BinaryIO,
    ) -> None:
        """Reads all packets of `source` that are carried; what is no cover goes to `spool_file`.

        Args:
            source: May be closed when the counterparts were added.
            video: The stream that is not carried. Where its times need repair, the others go with it.
            indexes: Of the streams that are carried.
            container: Of the output.
            spool_file: An empty file to write and to read.
        """
        self.notes = ErrorNotes()
        self.repaired: tuple[str, ...] = ()
        self.num_packets = 0
        self.start_s: Fraction | None = None
        self._spool = spool_file
        self._container = container
        streams: list[Any] = [source.streams[index] for index in indexes]
        self._covers = [stream for stream in streams if stream.disposition & Disposition.attached_pic]
        attachments = [stream for stream in streams if stream.type == "attachment"]
        self._stills = sorted([*self._covers, *attachments], key=lambda stream: stream.index)
        self._still_indexes = [stream.index for stream in self._stills]
        self.tracks = [stream for stream in streams if stream.index not in self._still_indexes]
        self._cover_packets: dict[int, av.Packet[Any]] = {}
        self._outputs: dict[int, Any] = {}
        self._digests: dict[int, StreamDigest] = {}
        self._converters = self._new_converters()
        self._read(self._repaired(source, video) if video.timestamp_problem else self._as_it_is(source))
        self.tracks = [stream for stream in self.tracks if self._template_of(stream) is not None]
        self._time_bases = {stream.index: self._template_of(stream).time_base for stream in self.tracks}

    @property
    def has_covers(self) -> bool:
        """Whether a cover is among what is carried."""
        return bool(self._covers)

    def add_track(self, output: OutputContainer, stream: Any) -> None:
        """Makes the counterpart of `stream`, one of `tracks`."""
        self._outputs[stream.index] = _copy_of(output, stream, self._container, self._template_of(stream))

    def add_stills(self, output: OutputContainer) -> None:
        """Makes the counterparts of covers and attachments, which come after all tracks."""
        for stream in self._stills:
            packet = self._cover_packets.get(stream.index)
            if stream.type == "attachment":
                self._attach(output, stream, stream.data, "attachment", "application/octet-stream")
            elif packet is None:
                self.notes.add(f"cover {stream.index} has no data")
            elif self._container == "mkv":
                kind = _PICTURE_KINDS.get(codec_name(stream), codec_name(stream))
                self._attach(output, stream, bytes(packet), f"cover.{kind}", f"image/{kind}")
            else:
                self._outputs[stream.index] = _copy_of(output, stream, self._container, stream)
                self._digests[stream.index] = digest_of_attachment(stream.index, bytes(packet))

    def cover_packets(self) -> Iterator[av.Packet[Any]]:
        """The packets of those covers that are streams of the output."""
        for index, packet in self._cover_packets.items():
            if index in self._outputs:
                packet.pts = packet.dts = 0
                packet.stream = self._outputs[index]
                yield packet

    def packets(self, zero_s: Fraction = Fraction(0)) -> Iterator[av.Packet[Any]]:
        """All packets of the tracks, in the source's order, each ready for the output.

        Args:
            zero_s: The time on the source's clock that is zero in the output.
        """
        zeros = {index: round(zero_s / time_base) for index, time_base in self._time_bases.items()}
        self._spool.seek(0)
        for index, packet in spool.read_packets(self._spool):
            packet.time_base = self._time_bases[index]
            packet.pts = None if packet.pts is None else packet.pts - zeros[index]
            packet.dts = None if packet.dts is None else packet.dts - zeros[index]
            packet.stream = self._outputs[index]
            yield packet

    def digests(self) -> tuple[StreamDigest, ...]:
        """Of what was copied, in the order of the output's streams."""
        order = (*self._time_bases, *self._still_indexes)
        return tuple(self._digests[index] for index in order if index in self._digests)

    def _new_converters(self) -> dict[int, SoundConverter]:
        """By index of the stream, for those tracks that the container cannot hold."""
        encoders = [(stream, self._encoder_of(stream)) for stream in self.tracks]
        return {
            stream.index: SoundConverter(stream, encoder, self.notes)
            for stream, encoder in encoders
            if encoder is not None
        }

    def _new_maker(self, stream: Any) -> DigestMaker:
        encoder = self._encoder_of(stream)
        if encoder is not None:
            return DigestMaker(encoder, None)
        return DigestMaker(codec_name(stream), stream.codec_context.extradata)

    def _encoder_of(self, stream: Any) -> SoundEncoder | None:
        return sound_encoder(self._container, codec_name(stream)) if stream.type == "audio" else None

    def _template_of(self, stream: Any) -> Any:
        """What describes the packets of a track: it itself, or its converter's stream; None without any."""
        converter = self._converters.get(stream.index)
        return converter.template if converter is not None else stream

    def _as_it_is(self, source: InputContainer) -> Iterator[av.Packet[Any]]:
        only(source, [*self._covers, *self.tracks])
        return self._packets_of(source, [*self._covers, *self.tracks])

    def _repaired(self, source: InputContainer, video: VideoInfo) -> Iterator[av.Packet[Any]]:
        """The packets that are carried, on the clock that the video was put on; tells what was done."""
        repair = Repair(source)
        stream = source.streams[video.stream_index]
        times = FrameTimes(stream, video.timestamp_problem)
        wanted = {stream.index for stream in (*self._covers, *self.tracks)}
        others: deque[av.Packet[Any]] = deque()

        def of_video() -> Iterator[av.Packet[Any]]:
            for packet in repair.repaired(self._packets_of(source, tuple(source.streams))):
                if packet.stream.index == video.stream_index:
                    yield packet
                elif packet.stream.index in wanted:
                    others.append(packet)

        for packet in whole_frames(of_video(), stream):
            times.add(packet)
            while others:
                yield others.popleft()
        yield from others
        times.finish()
        self.repaired = (*repair.notes, *times.notes)

    def _packets_of(self, source: InputContainer, streams: Sequence[Any]) -> Iterator[av.Packet[Any]]:
        """All packets of `streams`."""
        return with_signs(read_packets(source, streams, self.notes), source, self.notes)

    def _read(self, packets: Iterator[av.Packet[Any]]) -> None:
        """Keeps the covers, puts the tracks' packets on the spool, and makes the tracks' digests."""
        makers = {stream.index: self._new_maker(stream) for stream in self.tracks}
        ordered = _Ascending(self._container)
        holdable = self._with_sound_anew(self._of_whole_samples(self._without_covers(packets)))
        for packet in ordered.packets(_with_durations(_with_dts(holdable))):
            makers[packet.stream.index].add(packet)
            self.num_packets += 1
            if packet.pts is not None:
                start_s = packet.pts * packet.time_base
                self.start_s = start_s if self.start_s is None else min(self.start_s, start_s)
            spool.write_packet(self._spool, packet)
        for stream in self.tracks:
            if self._template_of(stream) is None:
                self.notes.add(f"stream {stream.index} is dropped, as none of its sound can be decoded")
                continue
            self._digests[stream.index] = makers[stream.index].digest(stream.index, is_rewritten(stream))
        for note in ordered.notes:
            self.notes.add(note)

    def _without_covers(self, packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        covers = {stream.index for stream in self._covers}
        for packet in packets:
            if packet.stream.index in covers:
                self._cover_packets.setdefault(packet.stream.index, packet)
            else:
                yield packet

    def _of_whole_samples(self, packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        """The same packets; PCM that breaks off within a sample, as in cut files, loses the rest of it."""
        sizes = {stream.index: _pcm_sample_bytes(stream) for stream in self.tracks}
        for packet in packets:
            size = sizes[packet.stream.index]
            too_many = packet.size % size if size else 0
            if not too_many:
                yield packet
                continue
            self.notes.add(f"stream {packet.stream.index}: a sample of sound that breaks off is left out")
            if packet.size > too_many:
                yield _shortened(packet, packet.size - too_many)

    def _with_sound_anew(self, packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        """The same packets, with those of converters in place of what these took."""
        for packet in packets:
            converter = self._converters.get(packet.stream.index)
            if converter is None:
                yield packet
            else:
                yield from converter.add(packet)
        for converter in self._converters.values():
            yield from converter.finish()

    def _attach(self, output: OutputContainer, stream: Any, data: bytes, name: str, mimetype: str) -> None:
        said = {key.lower(): value for key, value in stream.metadata.items()}
        attachment = output.add_attachment(said.get("filename", name), said.get("mimetype", mimetype), data)
        attachment.metadata.update(carried_metadata(stream.metadata, self._container))
        self._digests[stream.index] = digest_of_attachment(stream.index, data)


def carried_metadata(metadata: Mapping[str, str], container: Container) -> dict[str, str]:
    """What of a file's or a stream's `metadata` is as true of a copy in `container`."""
    kept = {}
    for key, value in metadata.items():
        name = _LANGUAGE_SUFFIX.sub("", key.lower())
        is_no_date = name == "creation_time" and value.startswith("1970-01-01T00:00:00")
        if name not in _OF_THE_FILE and not _STATISTICS.fullmatch(name) and not is_no_date:
            kept[key] = value
    return kept


def stream_metadata(stream: Any, container: Container) -> dict[str, str]:
    """As `carried_metadata`, of a stream, whose language is spelled as `container` keeps it."""
    kept = carried_metadata(stream.metadata, container)
    for key in [key for key in kept if key.lower() == "language"]:
        kept[key] = language_in(container, kept[key])
        if not kept[key]:
            del kept[key]
    return kept


def _copy_of(output: OutputContainer, stream: Any, container: Container, template: Any) -> Any:
    """The counterpart of `stream`, for packets as `template` describes them."""
    target = output.add_stream_from_template(template, opaque=True)
    target.time_base = template.time_base
    target.disposition = stream.disposition
    target.metadata.update(stream_metadata(stream, container))
    if stream.type == "video":
        if stream.average_rate:
            target.codec_context.framerate = stream.average_rate
        if codec_name(stream) == "hevc" and container in ("mp4", "mov"):
            target.codec_context.codec_tag = "hvc1"
        if codec_name(stream) == "prores":
            target.codec_context.codec_tag = stream.codec_context.codec_tag
        if "alpha_mode" in stream.metadata:
            target.metadata["alpha_mode"] = stream.metadata["alpha_mode"]
    return target


def _with_dts(packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    """The same packets, with dts where there are times: what has none gets the next one less its duration."""
    waiting: list[av.Packet[Any]] = []
    for packet in packets:
        if packet.dts is None and packet.stream.type != "video":
            packet.dts = packet.pts
        waiting.append(packet)
        if packet.dts is not None:
            _fill_dts(waiting)
        if len(waiting) > _MAX_WAITING or all(packet.dts is not None for packet in waiting):
            yield from _timed(waiting)
            waiting = []
    yield from _timed(waiting)


def _with_durations(packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    """The same packets; audio and video that lasts nothing gets the length of what came before it.

    MP4 would end the track before a last packet without length, and players would not play it.
    """
    last: dict[int, tuple[int, int]] = {}
    for packet in packets:
        if packet.stream.type in ("audio", "video") and packet.dts is not None:
            before, length = last.get(packet.stream.index, (packet.dts - 1, 1))
            if not packet.duration:
                packet.duration = length if packet.dts <= before else packet.dts - before
            last[packet.stream.index] = (packet.dts, packet.duration)
        yield packet


def _fill_dts(waiting: list[av.Packet[Any]]) -> None:
    """Gives a dts to the packets before the last one that belong to its stream."""
    following = waiting[-1]
    for packet in reversed(waiting[:-1]):
        if packet.stream.index == following.stream.index and packet.dts is None:
            assert following.dts is not None
            packet.dts = following.dts - (packet.duration or 1)
            following = packet


def _timed(packets: list[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
    for packet in packets:
        if packet.dts is None:
            packet.dts = packet.pts
        yield packet


class _Ascending:
    """Makes decoding times such that muxers take them.

    Packets without any time get that of their stream's last one plus its duration. Those that are not behind
    the last one are moved there by a tick, or to its very time where the container takes equal times.
    """

    def __init__(self, container: Container) -> None:
        self._is_strict = container in ("mp4", "mov")
        self._last: dict[int, tuple[int, int]] = {}  # dts and duration, by stream
        self._num_missing: Counter[int] = Counter()
        self._num_moved: Counter[int] = Counter()

    @property
    def notes(self) -> list[str]:
        """What was changed so far, in words."""
        return [
            f"stream {index}: {num} packets {what}"
            for counts, what in (
                (self._num_missing, "had no time and got the one that follows"),
                (self._num_moved, "were not behind the one before and were moved there"),
            )
            for index, num in sorted(counts.items())
        ]

    def packets(self, packets: Iterator[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        """The same packets."""
        for packet in packets:
            index = packet.stream.index
            last = self._last.get(index)
            if packet.dts is None:
                packet.pts = packet.dts = sum(last) if last else 0
                self._num_missing[index] += 1
            if last is not None:
                least = last[0] + self._least_step(packet)
                if packet.dts < least:
                    packet.dts = least
                    self._num_moved[index] += 1
            if packet.pts is not None and packet.pts < packet.dts:
                packet.pts = packet.dts
            self._last[index] = (packet.dts, packet.duration or 0)
            yield packet

    def _least_step(self, packet: av.Packet[Any]) -> int:
        """How far a packet must be behind the one before: a tick in MP4, of the sample rate for sound."""
        kind = packet.stream.type
        if not self._is_strict or kind not in ("audio", "video"):
            return 0
        sample_rate = packet.stream.codec_context.sample_rate if kind == "audio" else 0
        return math.ceil(1 / (sample_rate * packet.time_base)) if sample_rate else 1


def _pcm_sample_bytes(stream: Any) -> int:
    """The size of one sample of all channels of PCM; 0 of any other stream."""
    codec = codec_name(stream)
    bits = _PCM_BITS.fullmatch(codec)
    num_bytes = int(bits[1]) // 8 if bits else int(codec in _PCM_BYTE)
    return num_bytes * int(stream.codec_context.channels) if num_bytes else 0


def _shortened(packet: av.Packet[Any], num_bytes: int) -> av.Packet[Any]:
    """The first bytes of PCM, with the times of `packet`."""
    shortened: av.Packet[Any] = av.Packet(bytes(memoryview(packet)[:num_bytes]))
    shortened.stream, shortened.time_base = packet.stream, packet.time_base
    shortened.pts, shortened.dts = packet.pts, packet.dts
    shortened.duration = (packet.duration or 0) * num_bytes // packet.size
    shortened.is_keyframe = packet.is_keyframe
    return shortened


def _without_adts(payload: bytes) -> bytes:
    """An AAC frame without the header that stands before it in transport streams (ISO 14496-3, 1.A.2.2)."""
    if len(payload) < _LEAST_ADTS_HEADER_BYTES or payload[0] != 0xFF or payload[1] & 0xF0 != 0xF0:
        return payload
    has_checksum = not payload[1] & 1
    return payload[_LEAST_ADTS_HEADER_BYTES + 2 * has_checksum :]
