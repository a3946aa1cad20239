"""Sound that a container cannot hold as it is, coded anew: without loss where the container has a way."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import Flags

from cluster.video.containers import SoundEncoder
from cluster.video.source import ErrorNotes, reason

# What is nearer to the end of the sound before follows it at once: clocks round, and players do not care.
_MAX_DRIFT_S = Fraction(1, 25)
_MAX_DRIFT_BEHIND_DAMAGE_S = Fraction(1, 500)
_MAX_OVERLAP_S = 1  # what starts further back than this is no overlap but a clock that was set anew

_MONO_TO_7_1 = ("mono", "stereo", "3.0", "quad", "5.0", "5.0(side)", "5.1", "5.1(side)", "6.1", "7.1")
# In the order of their channels: those that the codec's specification can name (RFC 9639, 9.1.3; Apple
# Lossless Audio Codec Format Description; RFC 7845, 5.1.1.2).
_LAYOUTS: dict[SoundEncoder, tuple[str, ...]] = {
    "flac": _MONO_TO_7_1,
    "alac": ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1(back)", "7.1(wide)"),
    "libopus": ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"),
}
# Samples lie packed until the encoder takes them: PyAV (18.1) reads behind the planes of frames with eight.
_DTYPES: dict[str, type[np.generic]] = {"s16": np.int16, "s32": np.int32, "flt": np.float32}
_OPUS_RATE = 48_000
_FLAC_ANY_RATE = 65_535  # RFC 9639, 9.1.2: Hz up to here, and tens of Hz up to the next
_FLAC_MAX_RATE = 655_350
_FLAC_USUAL_RATE = 192_000
# For each channel, and once more: for stereo half more than the most that RFC 6716, 2.1.1, names for music,
# as what is coded twice loses twice.
_OPUS_BIT_RATE = 64_000


@dataclass
class _Run:
    """Sound without a gap, in one form.

    Attributes:
        form: Its frames' sample format, channel layout and sample rate.
        start_s: Of its first sample, on the source's clock.
        packer: To the format of `resampler` and no further, for channels without names.
    """

    form: tuple[str, str, int]
    start_s: Fraction
    packer: av.AudioResampler
    resampler: av.AudioResampler
    num_samples: int = 0

    @property
    def end_s(self) -> Fraction:
        return self.start_s + Fraction(self.num_samples, self.form[2])


class SoundConverter:
    """Decodes the packets of one stream and encodes what they give, in the same order.

    The output has the sample rate and the channels of the first frame, as far as the encoder takes them. Its
    clock has a tick for every sample. Where frames follow each other, so do the samples; a gap or an overlap
    of more than 40 ms moves what follows to its own time. A gap stays one, but for silence up to the end of a
    packet; of an overlap the sound that came first is kept. What does not decode leaves a gap.
    """

    def __init__(self, stream: Any, encoder: SoundEncoder, notes: ErrorNotes) -> None:
        """Starts empty.

        Args:
            stream: Of the source; nothing of it was decoded yet.
            notes: Takes what went wrong and what could not be kept.
        """
        self._stream = stream
        self._encoder = encoder
        self._notes = notes
        self._writer: _Writer | None = None
        self._run: _Run | None = None
        self._shift_s = Fraction(0)
        self._is_damaged = False
        decoder = stream.codec_context
        decoder.thread_count = 1
        decoder.flags |= Flags.bitexact

    @property
    def template(self) -> Any:
        """A stream that says all that a muxer must know of the packets; None if there are none."""
        return self._writer.stream if self._writer is not None and self._writer.has_packets else None

    def add(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """Decodes the stream's next packet; gives the packets that are complete by now."""
        yield from self._converted(packet)

    def finish(self) -> Iterator[av.Packet[Any]]:
        """Gives the rest, after the last packet."""
        yield from self._converted(None)
        if self._writer is not None:
            if self._run is not None:
                self._write(None)
            self._writer.finish()
            yield from self._take_packets()

    def _converted(self, packet: av.Packet[Any] | None) -> Iterator[av.Packet[Any]]:
        if packet is not None and packet.pts is None:
            packet.pts = packet.dts  # decoders of sound reorder nothing
        try:
            for frame in self._stream.codec_context.decode(packet):
                self._add_frame(frame)
        except (av.FFmpegError, ValueError) as error:  # PyAV raises both for what it cannot convert
            self._note(f"sound that does not decode is left out ({reason(error)})")
            self._is_damaged = True
        yield from self._take_packets()

    def _take_packets(self) -> Iterator[av.Packet[Any]]:
        for packet in self._writer.take_packets() if self._writer else ():
            packet.stream = self._stream
            yield packet

    def _add_frame(self, frame: av.AudioFrame) -> None:
        if not frame.samples:
            return
        if self._writer is None:
            self._writer = self._new_writer(frame)
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        time_s = None if frame.pts is None else frame.pts * self._stream.time_base
        is_apart = self._is_apart(time_s)
        if self._run is None or is_apart or form != self._run.form:
            self._start_run(form, time_s, is_apart)
        self._is_damaged = self._is_damaged and time_s is None
        assert self._run is not None
        self._run.num_samples += frame.samples
        self._write(self._named(frame) if _is_unnamed(frame.layout) else frame)

    def _is_apart(self, time_s: Fraction | None) -> bool:
        """Whether a frame at `time_s` does not follow the one before at once."""
        if self._run is None or time_s is None:
            return False
        least_s = _MAX_DRIFT_BEHIND_DAMAGE_S if self._is_damaged else _MAX_DRIFT_S
        drift_s = abs(time_s - self._run.end_s)
        return bool(drift_s > max(least_s, self._stream.time_base))

    def _start_run(self, form: tuple[str, str, int], time_s: Fraction | None, is_apart: bool) -> None:
        writer, before = self._writer, self._run
        assert writer is not None
        if before is not None:
            self._write(None)
        if time_s is None or not (is_apart or before is None):
            time_s = before.end_s if before else Fraction(0)
        elif before is not None and before.end_s - time_s > _MAX_OVERLAP_S:
            self._shift_s += before.end_s - time_s
            self._note("its times go back, and its sound goes on where it was")
        if before is None and time_s < 0:
            self._note("its sound before the start of the film is left out")
        if before is None or is_apart:
            writer.go_to(round((time_s + self._shift_s) * writer.rate))
        packer = av.AudioResampler(writer.format, form[1], form[2])
        resampler = av.AudioResampler(writer.format, writer.layout, writer.rate)
        self._run = _Run(form, time_s, packer, resampler)

    def _named(self, frame: av.AudioFrame) -> av.AudioFrame:
        """`frame` with names for its channels, less those that the encoder has no room for."""
        assert self._run is not None
        assert self._writer is not None
        layout = nearest_layout(self._encoder, frame.layout)
        samples = _rows(self._run.packer.resample(frame)[0])[:, : av.AudioLayout(layout).nb_channels]
        return _frame_of(samples, self._writer.format, layout, frame.sample_rate)

    def _write(self, frame: av.AudioFrame | None) -> None:
        """Hands `frame` to the encoder, or what its resampler still has."""
        assert self._run is not None
        assert self._writer is not None
        for converted in self._run.resampler.resample(frame):
            if converted is not None:  # a resampler with nothing to do hands on what it gets
                self._writer.write(converted)

    def _new_writer(self, frame: av.AudioFrame) -> _Writer:
        rate = _nearest_rate(self._encoder, frame.sample_rate)
        layout = nearest_layout(self._encoder, frame.layout)
        lossless_format = "s16" if frame.format.bytes <= 2 else "s32"  # of which the encoders keep 24 bits
        sample_format = "flt" if self._encoder == "libopus" else lossless_format
        writer = _Writer(self._encoder, sample_format, layout, rate)
        if rate != frame.sample_rate and self._encoder != "libopus":  # which has one rate for all
            self._note(f"its sound of {frame.sample_rate} Hz has {rate} Hz in the output")
        if not _is_unnamed(frame.layout) and layout != frame.layout.name:
            self._note(f"its channels ({frame.layout.name}) become {layout}")
        elif frame.layout.nb_channels > writer.num_channels:
            self._note(f"of its {frame.layout.nb_channels} channels the first {writer.num_channels} are kept")
        return writer

    def _note(self, text: str) -> None:
        self._notes.add(f"stream {self._stream.index}: {text}")


class _Writer:
    """An encoder, and when each of its samples is heard.

    Attributes:
        stream: Describes the packets.
        num_channels: Of `layout`.
        has_packets: Whether there was one so far.
    """

    def __init__(self, encoder: SoundEncoder, sample_format: str, layout: str, rate: int) -> None:
        self.format, self.layout, self.rate = sample_format, layout, rate
        self.num_channels = av.AudioLayout(layout).nb_channels
        self._holder = av.open(io.BytesIO(), "w", format="null")  # streams live in containers alone
        self.stream: Any = self._holder.add_stream(encoder, rate=rate, layout=layout)
        self._context: AudioCodecContext = self.stream.codec_context
        is_planar = encoder == "alac"
        self._context.format = sample_format + "p" * is_planar
        self._context.time_base = Fraction(1, rate)
        self._context.thread_count = 1
        self._context.flags |= Flags.bitexact
        if encoder == "libopus":
            self._context.bit_rate = _OPUS_BIT_RATE * (1 + self.num_channels)
        self._holder.start_encoding()
        self.stream.time_base = Fraction(1, rate)
        header = self._context.extradata or b""
        self._delay = int.from_bytes(header[10:12], "little") if encoder == "libopus" else 0  # RFC 7845, 5.1
        self._fifo = av.AudioFifo()
        self._position: int | None = None  # tick of the next sample to be written
        self._num_to_skip = 0
        self._starts: list[int] = []  # ticks of the frames whose packets did not come yet
        self._next_start = 0  # tick of a packet behind the last frame's, of what the encoder held back
        self._has_begun = False
        self._packets: list[av.Packet[Any]] = []
        self.has_packets = False

    def take_packets(self) -> list[av.Packet[Any]]:
        """The packets that came since the last call."""
        packets, self._packets = self._packets, []
        return packets

    def go_to(self, tick: int) -> None:
        """Lets the next samples be heard at `tick`, or leaves out those of them that would be heard before.

        Packets are of one length, but for the last. So silence fills the one that is begun, and one more
        where the encoder holds samples back; what is left of the gap is in no packet.
        """
        if self._position is None:
            self._position = max(tick, 0)  # no player plays what is before zero
        gap = tick - self._position
        self._num_to_skip = max(-gap, 0)
        size = self._context.frame_size
        filling = -self._num_waiting % size
        if self._has_begun and filling < self._delay:
            filling += size
        self._write_silence(min(max(gap, 0), filling))
        self._position = max(tick, self._position)

    def write(self, frame: av.AudioFrame) -> None:
        """Takes samples in the encoder's format, layout and rate."""
        assert self._position is not None
        num_skipped = min(self._num_to_skip, frame.samples)
        self._num_to_skip -= num_skipped
        if num_skipped:
            frame = _frame_of(_rows(frame)[num_skipped:], self.format, self.layout, self.rate)
        if not frame.samples:
            return
        frame.pts, frame.time_base = None, Fraction(1, self.rate)
        self._fifo.write(frame)
        self._position += frame.samples
        self._has_begun = True
        while self._num_waiting >= self._context.frame_size:
            self._encode(self._context.frame_size)

    def finish(self) -> None:
        """Encodes what is left."""
        if self._num_waiting:
            self._encode(self._num_waiting)
        if self._has_begun:
            self._keep(self._context.encode(None))
        self._holder.close()

    @property
    def _num_waiting(self) -> int:
        """Samples that fill no frame yet."""
        return self._fifo.samples

    def _write_silence(self, num_samples: int) -> None:
        if num_samples:
            silence = np.zeros((num_samples, self.num_channels), _DTYPES[self.format])
            self.write(_frame_of(silence, self.format, self.layout, self.rate))

    def _encode(self, num_samples: int) -> None:
        assert self._position is not None
        start = self._position - self._num_waiting
        frame = self._fifo.read(num_samples)
        assert frame is not None
        frame.pts, frame.time_base = start, Fraction(1, self.rate)
        self._starts.append(start)
        self._next_start = start + self._context.frame_size
        self._keep(self._context.encode(frame))

    def _keep(self, packets: list[av.Packet[Any]]) -> None:
        """Keeps the packets with data, each at the time of its frame: encoders forget gaps."""
        for packet in packets:
            if packet.size:
                start = self._starts.pop(0) if self._starts else self._next_start
                packet.pts = packet.dts = start - self._delay
                packet.time_base = Fraction(1, self.rate)
                self._packets.append(packet)
                self.has_packets = True


def nearest_layout(encoder: SoundEncoder, layout: av.AudioLayout) -> str:
    """The channels that sound in `layout` gets: its own, else those with most of them and the fewest more.

    Channels without names get the usual ones.
    """
    known = _LAYOUTS[encoder]
    if layout.name in known:
        return layout.name
    if _is_unnamed(layout):
        sizes = (av.AudioLayout(name).nb_channels for name in known)
        return next(
            (name for name, size in zip(known, sizes, strict=True) if size == layout.nb_channels), known[-1]
        )
    names = _channels(layout)
    others = {name: _channels(av.AudioLayout(name)) for name in known}
    return min(known, key=lambda name: (len(names - others[name]), len(others[name] - names)))


def _channels(layout: av.AudioLayout) -> set[str]:
    """Their names; where a layout has none behind the listener, those beside count as such."""
    names = {channel.name for channel in layout.channels}
    behind = {} if {"BL", "BR"} & names else {"SL": "BL", "SR": "BR"}
    usual = {"DL": "FL", "DR": "FR", **behind}  # a stereo downmix
    return {usual.get(name, name) for name in names}


def _is_unnamed(layout: av.AudioLayout) -> bool:
    """Whether nothing is known but how many channels there are."""
    return layout.name == f"{layout.nb_channels} channels"


def _nearest_rate(encoder: SoundEncoder, rate: int) -> int:
    """In Hz."""
    if encoder == "libopus":
        return _OPUS_RATE
    is_known = rate <= _FLAC_ANY_RATE or (rate <= _FLAC_MAX_RATE and rate % 10 == 0)
    return rate if encoder == "alac" or is_known else _FLAC_USUAL_RATE


def _rows(frame: av.AudioFrame) -> np.ndarray[Any, Any]:
    """The samples of a packed `frame`, of shape (samples, channels)."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels)


def _frame_of(rows: np.ndarray[Any, Any], sample_format: str, layout: str, sample_rate: int) -> av.AudioFrame:
    """A packed frame of samples of shape (samples, channels)."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(rows).reshape(1, -1), sample_format, layout)
    frame.sample_rate = sample_rate
    return frame
