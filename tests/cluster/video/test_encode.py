from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.video.decode import planes_of
from cluster.video.encode import PartWriter
from cluster.video.pixels import pixel_format
from cluster.video.timeline import rescale
from cluster.video.verify import check_part
from sr_core.errors import OutputError
from tests.cluster.video.clips import VFR, numbered_planes
from tests.cluster.video.joining import FASTEST, settings_for, write_part
from tests.cluster.video.test_codecs import VIDEO, choose

CODECS = ("h264", "hevc", "av1", "vp9", "ffv1")
PTS = [pts + 135_000 for pts in VFR.pts[:12]]


def frames_at(
    times: list[int], width: int = 128, height: int = 96
) -> list[tuple[int, tuple[np.ndarray, ...]]]:
    return [
        (pts, tuple(numbered_planes(number, "yuv420p", width, height))) for number, pts in enumerate(times)
    ]


def fast(codec: str) -> dict[str, object]:
    container = "mkv" if codec in ("vp9", "ffv1") else "mp4"
    return {"codec": codec, "preset": FASTEST[codec], "container": container}


@pytest.mark.parametrize("codec", CODECS)
def test_times_come_back_exactly_and_the_first_packet_is_a_keyframe(codec: str, tmp_path: Path) -> None:
    settings = replace(choose(**fast(codec)), time_base=Fraction(1, 90_000))  # type: ignore[arg-type]
    path = tmp_path / f"part.{settings.part_container}"

    packet_pts = write_part(path, settings, frames_at(PTS))

    assert sorted(packet_pts.tolist()) == PTS
    with av.open(str(path)) as part:
        stream = part.streams.video[0]
        packets = [packet for packet in part.demux(stream) if packet.size]
        expected = rescale(packet_pts, settings.time_base, stream.time_base)
        assert [packet.pts for packet in packets] == expected.tolist()
    assert packets[0].is_keyframe
    check_part(path, settings, len(PTS))


@pytest.mark.parametrize("codec", CODECS)
def test_equal_frames_give_equal_bytes(codec: str, tmp_path: Path) -> None:
    settings = replace(choose(**fast(codec)), time_base=Fraction(1, 90_000))  # type: ignore[arg-type]
    contents = set()
    for number in range(2):
        path = tmp_path / f"{number}.{settings.part_container}"
        write_part(path, settings, frames_at(PTS))
        contents.add(path.read_bytes())

    assert len(contents) == 1


def test_planes_with_gaps_and_odd_sizes_are_taken(tmp_path: Path) -> None:
    settings = choose(codec="ffv1", container="mkv", width=97, height=65)
    wide = numbered_planes(5, "yuv420p", 128, 96)
    planes = (wide[0][:65, :97], wide[1][:33, :49], wide[2][:33, :49])

    with PartWriter(tmp_path / "part.mkv", settings) as writer:
        writer.write(planes, 0)
        writer.close()

    pixels = pixel_format("yuv420p")
    assert pixels is not None
    with av.open(str(tmp_path / "part.mkv")) as part:
        decoded = planes_of(next(part.decode(video=0)), pixels)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, planes, strict=True))


@pytest.mark.parametrize(
    "planes",
    [
        numbered_planes(0, "yuv420p", 64, 48),
        numbered_planes(0, "yuv420p10le", 128, 96),
        numbered_planes(0, "yuv444p", 128, 96),
        numbered_planes(0, "yuv420p", 128, 96)[:1],
    ],
    ids=["size", "depth", "sampling", "number"],
)
def test_planes_that_do_not_fit_are_refused(planes: list[np.ndarray], tmp_path: Path) -> None:
    with (
        PartWriter(tmp_path / "part.mp4", choose()) as writer,
        pytest.raises(OutputError, match="do not fit"),
    ):
        writer.write(planes, 0)


def test_nothing_is_left_of_a_part_that_was_given_up(tmp_path: Path) -> None:
    path = tmp_path / "part.mp4"
    with PartWriter(path, choose()) as writer:
        writer.write(numbered_planes(0, "yuv420p", 128, 96), 0)

    assert not path.exists()


def test_a_part_without_frames_is_an_error(tmp_path: Path) -> None:
    with PartWriter(tmp_path / "part.mp4", choose()) as writer, pytest.raises(OutputError):
        writer.close()


def test_an_encoder_that_refuses_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="libx264"):
        PartWriter(tmp_path / "part.mp4", replace(choose(), options=(("preset", "nonsense"),)))

    assert not list(tmp_path.iterdir())


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _empty])
def test_a_part_that_is_not_whole_does_not_pass_the_gate(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    settings = settings_for(replace(VIDEO, width=128, height=96), "mp4")
    path = tmp_path / "part.mp4"
    write_part(path, settings, frames_at([0, 512, 1024]))
    damage(path)

    with pytest.raises(OutputError):
        check_part(path, settings, 3)


def test_a_part_with_other_frames_does_not_pass_the_gate(tmp_path: Path) -> None:
    settings = settings_for(replace(VIDEO, width=128, height=96), "mp4")
    path = tmp_path / "part.mp4"
    write_part(path, settings, frames_at([0, 512, 1024]))

    with pytest.raises(OutputError, match="number of frames"):
        check_part(path, settings, 4)
    with pytest.raises(OutputError, match="size"):
        check_part(path, replace(settings, width=130), 3)
