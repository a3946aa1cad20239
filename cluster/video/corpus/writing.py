"""Clips written with PyAV: numbered pictures, tones and texts, the same bytes on every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.stream import Disposition

from cluster.video.corpus.clips import Clip, Edit, Packet, Text, Tone
from cluster.video.corpus.pictures import numbered_planes, textured, woven
from cluster.video.info import UNSPECIFIED, ColorTags
from cluster.video.opening import opening_encoder
from cluster.video.pixels import pixel_format

_BLOCK_SAMPLES = 1152  # every encoder here takes blocks of this size, but those that say their own
_FULL_RANGE, _LIMITED_RANGE = 2, 1  # AVColorRange
_MS = Fraction(1, 1000)
_MPEG_CLOCK = Fraction(90_000)


def write_clip(path: Path, clip: Clip) -> None:
    """Writes `clip` to `path`."""
    # Else what starts before 0, as most sounds do by their encoder's delay, would move all the others.
    options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled", **clip.muxer_options}
    with av.open(str(path), "w", format=clip.muxer or None, options=options) as output:
        output.metadata.update(clip.metadata)
        tones = [_add_tone(output, tone) for tone in clip.audio] if clip.is_audio_first else []
        videos = [_add_video(output, video) for video in (clip, *clip.other_videos)]
        tones = tones or [_add_tone(output, tone) for tone in clip.audio]
        texts = [_add_text(output, text) for text in clip.texts]
        videos += [_add_cover(output, cover) for cover in clip.covers]
        _add_files(output, clip)
        packets = [packet for video in videos for packet in video]
        for tone, stream in zip(clip.audio, tones, strict=True):
            packets += _tone_packets(tone, stream)
        for text, stream in zip(clip.texts, texts, strict=True):
            packets += _text_packets(text, stream)
        packets += _data_packets(output, clip)
        output.start_encoding()
        for packet in sorted(packets, key=_decoding_time):
            output.mux_one(packet)


def write_tones(path: Path, tones: Sequence[Tone]) -> None:
    """Writes audio streams alone to `path`."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as output:
        streams = [_add_tone(output, tone) for tone in tones]
        for tone, stream in zip(tones, streams, strict=True):
            output.mux(_tone_packets(tone, stream))


def frames_of(clip: Clip) -> Iterator[av.VideoFrame]:
    """The pictures of `clip`, with their times."""
    for index, (number, pts) in enumerate(zip(clip.numbers, clip.pts, strict=True)):
        frame = _frame(clip, number, clip.is_woven(index))
        frame.pts, frame.time_base = pts, clip.time_base
        yield frame


def with_payload(packet: Packet, payload: bytes) -> Packet:
    """`packet` with other bytes."""
    changed: Packet = av.Packet(payload)
    changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
    changed.duration = packet.duration
    changed.is_keyframe = packet.is_keyframe
    changed.stream = packet.stream
    return changed


def edit_payloads(change: Callable[[int, bytes], bytes]) -> Edit:
    """An edit that changes every packet's bytes, from its place in decoding order and what they were."""
    return lambda packets: [
        with_payload(packet, change(index, bytes(packet))) for index, packet in enumerate(packets)
    ]


def _add_video(output: OutputContainer, clip: Clip) -> list[Packet]:
    """Adds the video stream of `clip`, and returns its packets."""
    stream: Any = output.add_stream(clip.encoder, rate=clip.rate, options=clip.options)
    context = stream.codec_context
    stream.width, stream.height = clip.size
    stream.pix_fmt = clip.pixel_format
    stream.time_base = context.time_base = clip.time_base
    context.thread_count = 1
    context.flags |= Flags.bitexact
    if clip.sample_aspect_ratio:
        context.sample_aspect_ratio = clip.sample_aspect_ratio
    if clip.display_matrix:
        stream.set_display_matrix(clip.display_matrix)
    stream.metadata.update(clip.stream_metadata)
    if clip.is_cover:
        stream.disposition = Disposition.attached_pic
    _set_color(context, clip.color)
    with opening_encoder():
        packets = [packet for frame in _flagged(clip) for packet in stream.encode(frame)]
        packets += stream.encode(None)
    _fill_durations(packets)
    if clip.retimed:
        _retime(packets, clip.retimed)
    return clip.edit(packets) if clip.edit else packets


def _set_color(context: Any, color: ColorTags) -> None:
    if color.primaries != UNSPECIFIED:
        context.color_primaries = color.primaries
    if color.transfer != UNSPECIFIED:
        context.color_trc = color.transfer
    if color.matrix != UNSPECIFIED:
        context.colorspace = color.matrix
    if color.full_range is not None:
        context.color_range = _FULL_RANGE if color.full_range else _LIMITED_RANGE


def _flagged(clip: Clip) -> Iterator[av.VideoFrame]:
    """The pictures, which say that they are interlaced where they are."""
    if not clip.field_order:
        yield from frames_of(clip)
        return
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=clip.size[0],
        height=clip.size[1],
        format=av.VideoFormat(clip.pixel_format),
        time_base=clip.time_base,
    )
    flags, sink = graph.add("setfield", clip.field_order), graph.add("buffersink")
    source.link_to(flags)
    flags.link_to(sink)
    graph.configure()
    for frame in frames_of(clip):
        graph.vpush(frame)
        yield graph.vpull()


def _frame(clip: Clip, number: int, is_woven: bool) -> av.VideoFrame:
    pixels = pixel_format(clip.pixel_format)
    assert pixels is not None, clip.pixel_format
    width, height = clip.size
    planes = numbered_planes(number, pixels, width, height)
    if is_woven:
        second = numbered_planes(number + 1, pixels, width, height)
        planes = woven(planes, second, clip.field_order == "tff")
    if clip.is_textured:
        planes[0] = textured(planes[0], number)
    if clip.pixel_format == "pal8":
        return _palette_frame(planes)
    frame = av.VideoFrame(width, height, pixels.planar)
    for plane, target in zip(planes, frame.planes, strict=True):
        line: Any = target
        strides = (target.line_size, plane.itemsize)
        np.ndarray(plane.shape, plane.dtype, buffer=line, strides=strides)[:] = plane
    return frame if pixels.is_planar else frame.reformat(format=clip.pixel_format)


def _palette_frame(planes: Sequence[Any]) -> av.VideoFrame:
    """A picture whose colours are taken from a table; alpha is left out."""
    green, blue, red = planes[:3]
    colors, indexes = np.unique(
        np.stack([np.full_like(green, 255), red, green, blue], axis=-1).reshape(-1, 4),
        axis=0,
        return_inverse=True,
    )
    palette = np.zeros((256, 4), np.uint8)
    palette[: len(colors)] = colors
    indexed: Any = (indexes.reshape(green.shape).astype(np.uint8), palette)
    return av.VideoFrame.from_ndarray(indexed, format="pal8")


def _fill_durations(packets: list[Packet]) -> None:
    """Says how long frames are shown, where encoders do not; the last as long as the one before it."""
    ordered = sorted((p for p in packets if p.pts is not None), key=lambda packet: packet.pts or 0)
    for packet, following in pairwise(ordered):
        packet.duration = packet.duration or (following.pts or 0) - (packet.pts or 0)
    if len(ordered) > 1:
        ordered[-1].duration = ordered[-1].duration or ordered[-2].duration


def _retime(packets: list[Packet], times_s: Sequence[Fraction]) -> None:
    """Gives packets in the order of display other times."""
    for packet, time_s in zip(packets, times_s, strict=True):
        packet.pts = packet.dts = round(time_s * _MPEG_CLOCK)
        packet.time_base = 1 / _MPEG_CLOCK
        packet.duration = 0


def _add_tone(output: OutputContainer, tone: Tone) -> Any:
    stream: Any = output.add_stream(tone.encoder, rate=tone.rate, layout="mono", options=tone.options)
    stream.codec_context.flags |= Flags.bitexact
    stream.metadata["language"] = tone.language
    if tone.title:
        stream.metadata["title"] = tone.title
    return stream


def _tone_packets(tone: Tone, stream: Any) -> list[Packet]:
    num_samples = int(tone.seconds * tone.rate)
    if not num_samples:
        return []
    times_s = np.arange(num_samples) / tone.rate
    samples = (8000 * np.sin(2 * np.pi * 440 * times_s)).astype(np.int16)
    to_encoder = av.AudioResampler(
        format=stream.codec_context.format, layout="mono", rate=tone.rate, frame_size=_frame_samples(stream)
    )
    packets: list[Packet] = []
    block = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    block.sample_rate, block.pts, block.time_base = tone.rate, 0, Fraction(1, tone.rate)
    for frame in (*to_encoder.resample(block), *to_encoder.resample(None)):
        packets += stream.encode(frame)
    packets += stream.encode(None)
    for packet in packets:
        offset = int(tone.start_s / packet.time_base)
        packet.pts, packet.dts = (packet.pts or 0) + offset, (packet.dts or 0) + offset
    return packets


def _frame_samples(stream: Any) -> int:
    return stream.codec_context.frame_size or _BLOCK_SAMPLES


_ASS_HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    b"Style: Default,Arial,16\n\n[Events]\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)


def _add_text(output: OutputContainer, text: Text) -> Any:
    stream: Any = output.add_stream(text.codec)
    stream.time_base = stream.codec_context.time_base = _MS
    stream.codec_context.subtitle_header = _ASS_HEADER
    stream.metadata["language"] = text.language
    return stream


def _text_packets(text: Text, stream: Any) -> list[Packet]:
    packets = []
    for index, line in enumerate(text.lines):
        packet: Packet = av.Packet(_payload(text.codec, index, line.encode()))
        packet.pts = packet.dts = index * 200
        packet.duration, packet.time_base, packet.stream = 100, _MS, stream
        packets.append(packet)
    return packets


def _payload(codec: str, index: int, line: bytes) -> bytes:
    match codec:
        case "ass":
            return b"%d,0,Default,,0,0,0,,%s" % (index, line)
        case "mov_text":
            return len(line).to_bytes(2, "big") + line
    return line


def _data_packets(output: OutputContainer, clip: Clip) -> list[Packet]:
    """Adds a data stream, where there is one, and returns its packets."""
    if not clip.data:
        return []
    stream: Any = output.add_data_stream("klv")
    packets = []
    for index, payload in enumerate(clip.data):
        packet: Packet = av.Packet(payload)
        packet.pts = packet.dts = round(clip.pts[0] * clip.time_base * _MPEG_CLOCK) + 3600 * index
        packet.time_base, packet.stream = 1 / _MPEG_CLOCK, stream
        packets.append(packet)
    return packets


def _add_cover(output: OutputContainer, cover: Clip) -> list[Packet]:
    """Adds a cover: in Matroska as an attached file, elsewhere as a stream, whose packet it returns."""
    if "matroska" not in output.format.name:
        return _add_video(output, cover)
    encoder: Any = av.CodecContext.create(cover.encoder, "w")
    encoder.width, encoder.height = cover.size
    encoder.pix_fmt, encoder.time_base = cover.pixel_format, cover.time_base
    packets = [packet for frame in (*frames_of(cover), None) for packet in encoder.encode(frame)]
    output.add_attachment(f"cover.{cover.encoder}", f"image/{cover.encoder}", bytes(packets[0]))
    return []


def _add_files(output: OutputContainer, clip: Clip) -> None:
    """Adds chapters and attached files."""
    if clip.chapters:
        output.set_chapters([_chapter(index, title) for index, title in enumerate(clip.chapters)])
    for name, mimetype, content in clip.attachments:
        output.add_attachment(name, mimetype, content)


def _chapter(index: int, title: str) -> Any:
    start = index * 200
    times = {"start": start, "end": start + 200, "time_base": _MS}
    return {"id": index + 1, **times, "metadata": {"title": title}}


def _decoding_time(packet: Packet) -> Fraction:
    time = packet.pts if packet.dts is None else packet.dts
    assert time is not None
    assert packet.time_base is not None
    return time * packet.time_base
