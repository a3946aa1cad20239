"""Planning from the index of MP4 and QuickTime files finds what reading every packet finds."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video import probe as probing
from cluster.video.boxes import is_wholly_indexed
from cluster.video.corpus.cases import CASES
from cluster.video.info import SourceInfo
from cluster.video.opening import opening_encoder
from cluster.video.probe import probe
from sr_core.errors import MediaError
from tests.cluster.video.clips import LATE_FIELDS, SHARED, SOFT_TELECINE, write_clip

SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp")
NUM_FRAMES = 150
SIZE = (192, 128)
X264 = {"preset": "ultrafast", "qp": "8", "g": "20", "bf": "2"}
INDEXED = {
    "h264.mp4": ("libx264", "yuv420p", SIZE, X264),
    "h264_open.mp4": ("libx264", "yuv420p", SIZE, {**X264, "x264-params": "open-gop=1"}),
    "hevc.mp4": (
        "libx265",
        "yuv420p",
        SIZE,
        {"preset": "ultrafast", "x265-params": "qp=8:keyint=20:bframes=2:pools=none:log-level=none"},
    ),
    "av1.mp4": ("libsvtav1", "yuv420p", SIZE, {"preset": "12", "crf": "4", "g": "20"}),
    "mpeg4.mp4": ("mpeg4", "yuv420p", SIZE, {"qmin": "1", "qmax": "1", "g": "20", "bf": "2"}),
    "mpeg2.mov": ("mpeg2video", "yuv420p", SIZE, {"qmin": "1", "qmax": "1", "g": "20", "bf": "2"}),
    "h263.mov": ("h263", "yuv420p", (176, 144), {"qmin": "1", "qmax": "1", "g": "20"}),
    "prores.mov": ("prores_ks", "yuv422p10le", SIZE, {}),
    "mjpeg.mov": ("mjpeg", "yuvj420p", SIZE, {"qmin": "1", "qmax": "1"}),
    "jpeg2000.mov": ("jpeg2000", "yuv420p", SIZE, {"compression_level": "4"}),
    "cfhd.mov": ("cfhd", "yuv422p10le", SIZE, {}),
    "dnxhr.mov": ("dnxhd", "yuv422p", (256, 128), {"profile": "dnxhr_hq"}),
    "dv.mov": ("dvvideo", "yuv420p", (720, 576), {}),
    "png.mov": ("png", "rgb24", SIZE, {}),
    "qtrle.mov": ("qtrle", "rgb24", SIZE, {}),
    "raw.mov": ("rawvideo", "uyvy422", SIZE, {}),
    "v210.mov": ("v210", "yuv422p10le", SIZE, {}),
}
PARSED = {
    "mpeg1.mp4": ("mpeg1video", "yuv420p", SIZE, {"qmin": "1", "qmax": "1", "g": "20"}),
    "vp9.mp4": ("libvpx-vp9", "yuv420p", SIZE, {"deadline": "realtime", "cpu-used": "8", "crf": "4"}),
}

Found = tuple[SourceInfo, list[int], list[int], int, str] | str


class CountingFile(io.BytesIO):
    """Counts the bytes that are read of it."""

    num_read = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.num_read += len(content)
        return content


def found(file: io.BytesIO) -> Found:
    """All that planning takes from a source, or the error that it ends in."""
    try:
        info, timeline = probe(file, "film")
    except MediaError as error:
        return str(error)
    keyframes = timeline.keyframe_pts.tolist()
    return info, timeline.pts.tolist(), keyframes, timeline.end_pts, timeline.problem


def found_by_reading(file: io.BytesIO) -> Found:
    """The same, from a pass over every packet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "is_wholly_indexed", lambda file: False)
        return found(file)


def both(content: bytes) -> tuple[Found, Found]:
    return found(io.BytesIO(content)), found_by_reading(io.BytesIO(content))


def copied(source: Path, target: Path, **options: str) -> bytes:
    """The bytes of `target`, into which the video of `source` is copied."""
    with av.open(str(source)) as container, av.open(str(target), "w", container_options=options) as output:
        stream = output.add_stream_from_template(container.streams.video[0], opaque=True)
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return target.read_bytes()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The bytes of a film of noise, by its name in `INDEXED` or `PARSED`."""
    folder = tmp_path_factory.mktemp("films")

    def content_of(name: str) -> bytes:
        path = folder / name
        if not path.exists():
            write_film(path, *{**INDEXED, **PARSED}[name])
        return path.read_bytes()

    return content_of


def write_film(
    path: Path,
    encoder: str,
    pixels: str,
    size: tuple[int, int],
    options: dict[str, str],
    num_frames: int = NUM_FRAMES,
) -> None:
    noise = np.random.default_rng(0)
    with opening_encoder(), av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        if encoder == "rawvideo":
            stream.codec_context.codec_tag = "2vuy"
        pictures = [noise.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(4)]
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(pictures[number % 4], "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.parametrize("name", INDEXED)
def test_a_film_is_planned_from_its_index_alone(name: str, film: Callable[[str], bytes]) -> None:
    file, whole = CountingFile(film(name)), CountingFile(film(name))

    planned, read = found(file), found_by_reading(whole)

    assert planned == read
    assert not isinstance(planned, str)
    assert planned[0].video.num_frames == NUM_FRAMES
    assert whole.num_read >= len(film(name))
    assert file.num_read < 0.6 * whole.num_read


@pytest.mark.parametrize("name", PARSED)
def test_what_the_demuxer_cuts_into_packets_itself_is_read(name: str, film: Callable[[str], bytes]) -> None:
    file = CountingFile(film(name))

    assert found(file) == found_by_reading(io.BytesIO(film(name)))
    assert file.num_read >= len(film(name))


def test_every_film_of_the_corpus_is_planned_as_if_it_were_read(tmp_path: Path) -> None:
    cases = [case for case in CASES if Path(case.name).suffix in SUFFIXES]
    for case in cases:
        case.make(tmp_path / case.name)
        planned, read = both((tmp_path / case.name).read_bytes())
        assert planned == read, case.name
    assert len(cases) > 50


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared clips")
def test_every_real_film_is_planned_as_if_it_were_read() -> None:
    paths = [path for path in sorted(SHARED.iterdir()) if path.suffix in SUFFIXES]
    for path in paths:
        planned, read = both(path.read_bytes())
        assert planned == read, path.name
    assert len(paths) > 20


def damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The same file damaged in ways that leave its `moov` box behind `mdat`, or cut it."""
    index, payload = content.rindex(b"moov") - 4, content.index(b"mdat") + 4
    middle = (payload + index) // 2
    yield "cut in the middle", content[:middle]
    yield "its index cut", content[: index + (len(content) - index) // 2]
    yield "its index gone", content[:index]
    yield "its last byte gone", content[:-1]
    yield "all packets zeros", content[:payload] + bytes(index - payload) + content[index:]
    yield "half of the packets zeros", content[:middle] + bytes(index - middle) + content[index:]
    for box in (b"stss", b"ctts", b"stts", b"stsz", b"stco", b"edts"):
        yield f"no {box.decode()}", content[:index] + content[index:].replace(box, b"free")


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4", "prores.mov"])
def test_damage_ends_as_if_the_film_were_read(name: str, film: Callable[[str], bytes]) -> None:
    for what, content in damages(film(name)):
        planned, read = both(content)
        assert planned == read, what


def test_an_index_of_more_than_the_file_holds_is_not_followed(
    film: Callable[[str], bytes], tmp_path: Path
) -> None:
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(film("h264.mp4"))
    content = copied(whole, tmp_path / "index_first.mp4", movflags="+faststart")
    planned, read = both(content)
    payload = content.index(b"mdat")
    endless = content[: payload - 4] + bytes(4) + content[payload:]  # a box that goes on to the file's end

    assert planned == read
    for broken in (content[: len(content) * 6 // 10], endless[: len(content) * 6 // 10]):
        cut, cut_read = both(broken)
        assert cut == cut_read
        assert not isinstance(cut, str)
        assert cut[0].video.promised_num_frames == NUM_FRAMES
        assert cut[0].video.num_frames < NUM_FRAMES


def test_an_index_that_calls_every_packet_a_keyframe_is_not_believed(tmp_path: Path) -> None:
    """Also where the film is too short for a second look."""
    path = tmp_path / "short.mp4"
    write_film(path, *INDEXED["h264.mp4"], num_frames=50)
    planned, read = both(path.read_bytes().replace(b"stss", b"free"))

    assert planned == read
    assert not isinstance(planned, str)
    assert len(planned[2]) == 3


def test_random_damage_to_packets_ends_as_if_the_film_were_read(film: Callable[[str], bytes]) -> None:
    content = film("hevc.mp4")
    index, payload = content.rindex(b"moov"), content.index(b"mdat") + 4
    chance = random.Random(0)
    for _ in range(5):
        spoiled = bytearray(content)
        for _ in range(300):
            spoiled[chance.randrange(payload, index)] = chance.randrange(256)
        planned, read = both(bytes(spoiled))
        assert planned == read


@pytest.mark.parametrize("clip", [LATE_FIELDS, SOFT_TELECINE], ids=lambda clip: clip.name)
def test_interlacing_and_flags_of_fields_are_found_without_reading_all(clip, tmp_path: Path) -> None:
    path = write_clip(
        tmp_path, replace(clip, width=960, height=544, options=clip.options | {"qmin": "1", "qmax": "1"})
    )
    content = copied(path, tmp_path / "copied.mov")
    file = CountingFile(content)

    planned, read = found(file), found_by_reading(io.BytesIO(content))

    assert planned == read
    assert clip is SOFT_TELECINE or file.num_read < 0.6 * len(content)
    assert not isinstance(planned, str)
    assert planned[0].video.is_interlaced is (clip is LATE_FIELDS)
    assert planned[0].video.has_repeat_flags is (clip is SOFT_TELECINE)


def box(kind: bytes, content: bytes, *, is_long: bool = False) -> bytes:
    if is_long:
        return (1).to_bytes(4, "big") + kind + (16 + len(content)).to_bytes(8, "big") + content
    return (8 + len(content)).to_bytes(4, "big") + kind + content


MOOV = box(b"moov", box(b"mvhd", bytes(100)) + box(b"trak", bytes(50)))
MDAT = box(b"mdat", bytes(1000))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (box(b"ftyp", b"isom") + MOOV + MDAT, True),
        (box(b"ftyp", b"isom") + box(b"mdat", bytes(1000), is_long=True) + MOOV, True),
        (MOOV + bytes(4) + b"mdat" + bytes(1000), True),  # goes on to the end
        (MOOV + MDAT + box(b"sefd", bytes(50)), True),  # of a phone's own
        (MOOV + MDAT + box(b"moof", bytes(50)) + MDAT, False),
        (box(b"moov", box(b"mvhd", bytes(100)) + box(b"trak", b"") + box(b"mvex", b"")) + MDAT, False),
        (box(b"moov", box(b"cmov", bytes(100))) + MDAT, False),
        (MOOV + MOOV + MDAT, False),
        (MDAT, False),
        (MOOV + MDAT[:-1], False),
        (MOOV + MDAT + b"\0\0\0", False),
        (MOOV + MDAT + (4).to_bytes(4, "big") + b"free", False),
        (MOOV + 1000 * box(b"free", b""), False),
        (b"", False),
        (b"\x1a\x45\xdf\xa3" + bytes(1000), False),
    ],
)
def test_only_a_whole_file_with_one_index_is_wholly_indexed(content: bytes, expected: bool) -> None:
    assert is_wholly_indexed(io.BytesIO(content)) is expected
