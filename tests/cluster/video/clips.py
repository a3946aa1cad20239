"""Small clips made with PyAV alone, whose frames carry their own number in their pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cluster.video.pixels import pixel_format

NUM_BITS = 8
SHARED = Path(__file__).parents[4] / "shared" / "data" / "video"


@dataclass(frozen=True)
class Clip:
    """What a test clip is made of.

    With `field_order`, `tff` or `bff`, it shows no numbers but a bar that moves to the right from field to
    field, and says that it is interlaced, but for the frames in `progressive` (MPEG-2 alone). `metadata` is
    of the video stream.
    """

    name: str
    encoder: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast", "crf": "10"})
    pixel_format: str = "yuv420p"
    width: int = 96
    height: int = 64
    time_base: Fraction = Fraction(1, 12800)
    pts: Sequence[int] = tuple(range(0, 30 * 512, 512))
    num_audio: int = 0
    audio_codec: str = ""
    has_extras: bool = False
    full_range: bool = False
    field_order: str = ""
    progressive: tuple[int, ...] = ()
    has_repeat_flags: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


def numbered_planes(number: int, pixel_name: str, width: int, height: int) -> list[np.ndarray]:
    """Planes of a frame with `number` as bright and dark columns, and some chroma that depends on it."""
    pixels = pixel_format(pixel_name)
    assert pixels is not None
    dtype = np.uint8 if pixels.bit_depth == 8 else np.uint16
    unit = 1 << (pixels.bit_depth - 8)
    planes = []
    for index, size in enumerate(pixels.plane_sizes(width, height)):
        plane = np.full(size, (120 + number % 7 * index) * unit, dtype)
        if index == 0:
            for bit in range(NUM_BITS):
                plane[:, _column(bit, width)] = (200 if number >> bit & 1 else 50) * unit
        planes.append(plane)
    return planes


def number_of(luma: np.ndarray) -> int:
    """The number that `numbered_planes` put there, also after lossy coding."""
    unit = 1 if luma.dtype == np.uint8 else 1 << (2 if luma.max() < 1024 else 4)
    columns = [luma[:, _column(bit, luma.shape[1])].mean() / unit for bit in range(NUM_BITS)]
    return sum((mean > 125) << bit for bit, mean in enumerate(columns))


def write_clip(folder: Path, clip: Clip) -> Path:
    """Writes `clip` below `folder`."""
    path = folder / clip.name
    with av.open(str(path), "w") as output:
        video = output.add_stream(clip.encoder, rate=25, options=clip.options)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, clip.pixel_format
        video.time_base = video.codec_context.time_base = clip.time_base
        video.codec_context.thread_count = 1
        video.metadata.update(clip.metadata)
        if clip.full_range:
            video.codec_context.color_range = 2
        audio = [_add_audio(output, index, clip.audio_codec) for index in range(clip.num_audio)]
        subtitles = _add_extras(output) if clip.has_extras else None
        packets = [
            packet
            for number, pts in enumerate(clip.pts)
            for packet in video.encode(_frame(clip, number, pts))
        ]
        packets += video.encode(None)
        packets = [_said_progressive(packet, clip) for packet in packets]
        end_s = float((clip.pts[-1] + 1) * clip.time_base)
        for index, stream in enumerate(audio):
            packets += _audio_packets(stream, index, end_s)
        if subtitles is not None:
            packets += _subtitle_packets(subtitles)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        output.mux(packets)
    return path


def png_bytes() -> bytes:
    """A picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as output:
        stream = output.add_stream("png", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb24"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 3), 90, np.uint8), "rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()


def _column(bit: int, width: int) -> slice:
    return slice(bit * width // NUM_BITS, (bit + 1) * width // NUM_BITS)


def _frame(clip: Clip, number: int, pts: int) -> av.VideoFrame:
    if not pixel_format(clip.pixel_format).is_planar:
        return _packed(clip, number, pts)
    frame = av.VideoFrame(clip.width, clip.height, clip.pixel_format)
    planes = numbered_planes(number, clip.pixel_format, clip.width, clip.height)
    if clip.field_order:
        planes[0] = _woven_luma(clip, number)
    for plane, target in zip(planes, frame.planes, strict=True):
        strides = (target.line_size, plane.itemsize)
        np.ndarray(plane.shape, plane.dtype, buffer=target, strides=strides)[:] = plane
    frame.pts, frame.time_base = pts, clip.time_base
    return flagged(frame, clip.field_order) if clip.field_order else frame


def _packed(clip: Clip, number: int, pts: int) -> av.VideoFrame:
    planar = pixel_format(clip.pixel_format).planar
    frame = _frame(replace(clip, pixel_format=planar), number, pts)
    frame = frame.reformat(format=clip.pixel_format, threads=1)
    frame.pts, frame.time_base = pts, clip.time_base
    return frame


def _woven_luma(clip: Clip, number: int) -> np.ndarray:
    """Two fields, in each of which the bar is two columns further than in the one before."""
    luma = np.full((clip.height, clip.width), 50, np.uint8)
    for field_index in range(2):
        is_top = (field_index == 0) == (clip.field_order == "tff")
        left = 4 + 2 * (2 * number + field_index)
        luma[0 if is_top else 1 :: 2, left : left + 16] = 200
    return luma


def flagged(frame: av.VideoFrame, field_order: str) -> av.VideoFrame:
    """`frame`, saying that it is interlaced, for which PyAV has no setter."""
    graph = av.filter.Graph()
    source = graph.add_buffer(template=frame, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("setfield", field_order), graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()


def _said_progressive(packet: av.Packet, clip: Clip) -> av.Packet:
    """`packet` with the flags that the clip asks for in its picture coding extension (ISO/IEC 13818-2)."""
    is_progressive = packet.pts in {clip.pts[number] for number in clip.progressive}
    if not is_progressive and not clip.has_repeat_flags:
        return packet
    content = bytearray(bytes(packet))
    at = _coding_extension(content)
    content[at + 7] |= 0x02 * clip.has_repeat_flags  # repeat_first_field
    content[at + 8] |= 0x80  # progressive_frame
    return _with_content(packet, content)


def _coding_extension(content: bytes) -> int:
    is_found = (
        content[at : at + 4] == b"\0\0\1\xb5" and content[at + 4] >> 4 == 8 for at in range(len(content))
    )
    return list(is_found).index(True)


def _with_content(packet: av.Packet, content: bytes) -> av.Packet:
    changed = av.Packet(bytes(content))
    for field_ in ("pts", "dts", "duration", "time_base", "stream", "is_keyframe"):
        setattr(changed, field_, getattr(packet, field_))
    return changed


def write_changing(
    path: Path, parts: Sequence[tuple[int, int, str]], codec: str = "mpeg2video", num: int = 5
) -> None:
    """Writes a stream in which `num` frames of each (width, height, pixel format) follow each other."""
    with av.open(str(path), "w") as output:
        stream = None
        for index, (width, height, name) in enumerate(parts):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, name
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.options = {"g": "5", "bf": "2", "sc_threshold": "1000000000"}
            if codec.startswith("lib"):
                encoder.options = WEBM.options if "vp9" in codec else X264_B
            stream = stream or _stream_like(output, width, height, name, codec)
            clip = Clip("", width=width, height=height, pixel_format=name, time_base=Fraction(1, 25))
            frames = [_frame(clip, at, at) for at in range(index * num, (index + 1) * num)]
            for packet in [packet for frame in [*frames, None] for packet in encoder.encode(frame)]:
                packet.stream = stream
                output.mux(packet)


def _stream_like(output, width: int, height: int, name: str, codec: str = "mpeg2video"):
    stream = output.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = width, height, name
    stream.time_base = Fraction(1, 25)
    return stream


CAPTION = bytes.fromhex("fc9420fc9452")  # two pairs of CEA-608 bytes as in CEA-708 cc_data


def write_captioned(path: Path, with_captions: set[int], num: int = 6) -> None:
    """Writes MPEG-2 in Matroska whose frames have captions, as ATSC A/53 puts them, where asked for."""
    user_data = b"\0\0\1\xb2GA94\3" + bytes([0x40 | len(CAPTION) // 3, 0xFF]) + CAPTION + b"\xff"
    clip = Clip("", width=96, time_base=Fraction(1, 25))
    with av.open(str(path), "w") as output:
        stream = _stream_like(output, clip.width, clip.height, clip.pixel_format)
        frames = [_frame(clip, number, number) for number in range(num)]
        for packet in [packet for frame in [*frames, None] for packet in stream.encode(frame)]:
            content = bytes(packet)
            at = _coding_extension(content) + 9
            if packet.pts in with_captions:
                content = content[:at] + user_data + content[at:]
            output.mux(_with_content(packet, content))


def _add_audio(output, index: int, codec: str):
    is_open = "matroska" in output.format.name or "webm" in output.format.name
    codec = codec or ("libopus" if is_open else "mp2" if "mpegts" in output.format.name else "aac")
    stream = output.add_stream(codec, rate=48_000, layout="mono")
    stream.metadata["language"] = ("eng", "deu")[index % 2]
    return stream


def _audio_packets(stream, index: int, end_s: float):
    packets = []
    times = np.arange(int(end_s * 48_000)) / 48_000
    samples = (8000 * np.sin(times * 2 * np.pi * (440 + 110 * index))).astype(np.int16)
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48_000)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, start
        for converted in resampler.resample(frame):
            packets += stream.encode(converted)
    return packets + stream.encode(None)


def _add_extras(output):
    """Chapters, titles, and in Matroska a subtitle track, a font and a cover."""
    output.metadata["title"] = "a clip"
    output.set_chapters(
        [
            {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
            {
                "id": 2,
                "start": 500,
                "end": 1200,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": "two"},
            },
        ]
    )
    if "matroska" not in output.format.name:
        return None
    output.add_attachment("cover.png", "image/png", png_bytes())
    output.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font")
    stream = output.add_mux_stream("subrip")
    stream.time_base = Fraction(1, 1000)
    stream.metadata["language"] = "fra"
    return stream


def _subtitle_packets(stream):
    packets = []
    for start, text in ((100, b"bonjour"), (600, b"au revoir")):
        packet = av.Packet(text)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = 300, Fraction(1, 1000), stream
        packets.append(packet)
    return packets


X264_B = {"preset": "ultrafast", "crf": "10", "bf": "3", "g": "10"}
X264_OPEN = {**X264_B, "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0", "refs": "4"}
VFR_PTS = tuple(number * 2800 + 900 * (number * number % 5) for number in range(30))

CFR = Clip("cfr.mp4")
B_FRAMES = Clip("b_frames.mp4", options=X264_B)
OPEN_GOP = Clip("open_gop.mkv", options=X264_OPEN, time_base=Fraction(1, 1000), pts=tuple(range(0, 1200, 40)))
VFR = Clip("vfr.mp4", options=X264_B, time_base=Fraction(1, 90_000), pts=VFR_PTS)
LATE_TS = Clip(
    "late.ts",
    options=X264_B,
    time_base=Fraction(1, 90_000),
    pts=tuple(range(135_000, 243_000, 3600)),
    num_audio=1,
)
WEBM = Clip(
    "plain.webm",
    encoder="libvpx-vp9",
    options={"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "0", "g": "10"},
    time_base=Fraction(1, 1000),
    pts=tuple(range(0, 1200, 40)),
    num_audio=1,
)
TEN_BIT = Clip("ten_bit.mp4", options=X264_B, pixel_format="yuv420p10le")
FULL_CHROMA = Clip("full_chroma.mp4", options=X264_B, pixel_format="yuv444p")
ODD = Clip(
    "odd.mkv",
    encoder="ffv1",
    options={},
    width=97,
    height=65,
    time_base=Fraction(1, 1000),
    pts=range(0, 600, 40),
)
FULL_RANGE = Clip("full_range.mp4", full_range=True, pixel_format="yuv420p")
MANY_STREAMS = Clip(
    "many.mkv",
    options=X264_B,
    time_base=Fraction(1, 1000),
    pts=range(0, 1200, 40),
    num_audio=2,
    has_extras=True,
)
MP4_EXTRAS = Clip("extras.mp4", options=X264_B, num_audio=2, has_extras=True)
MPEG2_FIELDS = {"flags": "+ildct+ilme", "bf": "2", "g": "9", "b": "4000000", "sc_threshold": "1000000000"}
FIELDS = tuple(
    Clip(
        f"{encoder}_{order}.{ending}",
        encoder=encoder,
        options=options,
        width=160,
        time_base=Fraction(1, 25),
        pts=tuple(range(30)),
        field_order=order,
    )
    for encoder, ending, options in (
        ("mpeg2video", "mkv", MPEG2_FIELDS),
        ("libx264", "mp4", {**X264_B, "flags": "+ildct"}),
    )
    for order in ("tff", "bff")
)
MIXED_FIELDS = Clip(
    "mixed_fields.mkv",
    encoder="mpeg2video",
    options=MPEG2_FIELDS,
    width=160,
    time_base=Fraction(1, 25),
    pts=tuple(range(30)),
    field_order="tff",
    progressive=(*range(8), 10, 12, 13, *range(20, 28)),
)
SOFT_TELECINE = replace(
    MIXED_FIELDS, name="soft_telecine.mkv", progressive=tuple(range(30)), has_repeat_flags=True
)
LATE_FIELDS = replace(
    MIXED_FIELDS, name="late_fields.mkv", pts=tuple(range(90)), progressive=tuple(range(66))
)
VP9_ALPHA = replace(
    WEBM,
    name="vp9_alpha.webm",
    pixel_format="yuva420p",
    options={**WEBM.options, "auto-alt-ref": "0"},
    metadata={"alpha_mode": "1"},
    num_audio=0,
)
VP8_ALPHA = replace(
    VP9_ALPHA,
    name="vp8_alpha.webm",
    encoder="libvpx",
    options={"deadline": "realtime", "cpu-used": "8", "b": "2000000", "g": "10", "auto-alt-ref": "0"},
)
PRORES_ALPHA = Clip("prores_4444.mov", encoder="prores_ks", options={}, pixel_format="yuva444p10le")
ANIMATION = Clip("animation.mov", encoder="qtrle", options={}, pixel_format="argb")
CLIPS = (CFR, B_FRAMES, OPEN_GOP, VFR, LATE_TS, WEBM, TEN_BIT, FULL_CHROMA, ODD, MANY_STREAMS, MP4_EXTRAS)


def caption_of(number: int) -> bytes:
    """Closed captions (CEA-708 `cc_data`) that say which frame they belong to."""
    return bytes([0xFC, 0x80 | number, 0x80 | number * 3 & 0x7F, 0xFD, 0x41, 0x42 + number])


def captioned_frames(num: int, x264_params: str = "") -> list[av.VideoFrame]:
    """Decoded frames of 96x64 with B-frames between them, each with `caption_of` its number."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 96, 64, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"preset": "veryfast", "bf": "2", "x264-params": x264_params}
    clip, packets = Clip(""), []
    for number in range(num):
        frame = _frame(clip, number, number)
        frame.time_base = encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder, frames = av.CodecContext.create("h264", "r"), []
    for packet in packets:
        said = av.Packet(_caption_sei(caption_of(packet.pts)) + bytes(packet))
        said.pts, said.dts, said.time_base = packet.pts, packet.dts, encoder.time_base
        frames += decoder.decode(said)
    return frames + decoder.decode(None)


def _caption_sei(caption: bytes) -> bytes:
    """An SEI unit of H.264 with user data as in ATSC A/53, Part 4, 6.2.3."""
    count = 0x40 | len(caption) // 3
    payload = b"\xb5\0\x31GA94" + bytes([3, count, 0xFF]) + caption + b"\xff"
    unit = bytearray()
    for byte in bytes([4, len(payload)]) + payload + b"\x80":
        if unit[-2:] == b"\0\0" and byte <= 3:
            unit.append(3)
        unit.append(byte)
    return b"\0\0\0\1\6" + bytes(unit)
