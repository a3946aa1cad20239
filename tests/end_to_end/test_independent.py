"""The independent check is itself checked: it passes good outputs and names each fault that is built in."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end import independent
from tests.end_to_end.independent import (
    Film,
    check_output,
    compare,
    content,
    measure,
    read_film,
    thumbnail_size,
    times,
)

pytestmark = pytest.mark.skipif(not independent.have_ffmpeg(), reason="ffmpeg and ffprobe are not installed")

NUM_FRAMES = 50
DOUBLE = "scale=2*iw:2*ih:flags=bicubic"
TAGS = "setparams=range=tv:color_primaries=smpte170m:color_trc=smpte170m:colorspace=smpte170m"
X264 = ("-c:v:0", "libx264", "-preset", "ultrafast", "-crf", "18", "-threads:v:0", "1")
EXACT_TIMES = (
    *("-fps_mode", "passthrough", "-enc_time_base", "-1"),
    *("-video_track_timescale", "90000", "-movie_timescale", "90000"),
)
DATE = "2024-05-06T07:08:09Z"
IN_ORDER = list(range(NUM_FRAMES))


def ffmpeg(*arguments: object) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def reordered(order: Sequence[int]) -> str:
    """A filter that shows frame `order[n]` at the time of frame n."""
    return f"shuffleframes={' '.join(map(str, order))}"


def swapped(first: int, second: int) -> str:
    order = IN_ORDER.copy()
    order[first], order[second] = order[second], order[first]
    return reordered(order)


@dataclass(frozen=True)
class Recipe:
    """How ffmpeg makes an output from the source; the default makes a good one.

    `second_input` may name the source as `{source}`; `rewrite` are options of a second run, which copies.
    """

    frames: str = "null"
    size: str = DOUBLE
    maps: tuple[str, ...] = ("-map", "0")
    second_input: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    date: str = DATE
    rewrite: tuple[str, ...] = ()

    def make(self, source: Path, output: Path) -> Path:
        second = [part.format(source=source) for part in self.second_input]
        made = output.with_stem("first") if self.rewrite else output
        ffmpeg(
            *("-noautorotate", "-i", source, *second, *self.maps, "-c", "copy"),
            *(*X264, "-filter:v:0", f"{self.frames},{self.size}", *EXACT_TIMES),
            *("-metadata", f"creation_time={self.date}", *self.options, made),
        )
        if self.rewrite:
            keep = ("-map", "0", "-c", "copy", *EXACT_TIMES, "-metadata", f"creation_time={self.date}")
            ffmpeg("-i", made, *keep, *self.rewrite, output)
        return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("independent")


@pytest.fixture(scope="module")
def chapters_file(folder: Path) -> Path:
    path = folder / "chapters.txt"
    chapter = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={}\n"
    text = chapter.format(0, 900, "One") + chapter.format(900, 2000, "Two")
    path.write_text(";FFMETADATA1\ntitle=A film\ncomment=Made for a test\n" + text)
    return path


@pytest.fixture(scope="module")
def subtitles_file(folder: Path) -> Path:
    path = folder / "subtitles.srt"
    path.write_text("1\n00:00:00,200 --> 00:00:00,800\nHello\n\n2\n00:00:01,000 --> 00:00:01,500\nBye\n")
    return path


@pytest.fixture(scope="module")
def source(folder: Path, chapters_file: Path, subtitles_file: Path) -> Path:
    """An MP4 with much to lose: irregular frame times, tags, rotation, SAR, AAC, text, chapters, metadata."""
    plain = folder / "plain.mp4"
    times = "settb=1/90000,setpts='N*3600+mod(N*N,7)*300'"
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=s=160x120:r=25,{times},setsar=4/3,format=yuv420p"),
        *("-f", "lavfi", "-i", "sine=f=440:r=44100", "-i", subtitles_file, "-i", chapters_file),
        *("-map", "0", "-map", "1", "-map", "2", "-map_metadata", "3", "-frames:v", str(NUM_FRAMES)),
        *(*X264, "-vf", TAGS, "-bf", "2", "-c:a", "aac", "-t", "2.2", "-c:s", "mov_text", *EXACT_TIMES),
        *("-metadata:s:a:0", "language=eng", plain),
    )
    rotated = folder / "source.mp4"
    more = ("-metadata:s:v:0", "rotate=90", "-metadata", f"creation_time={DATE}", *EXACT_TIMES)
    ffmpeg("-i", plain, "-map", "0", "-c", "copy", *more, rotated)
    return rotated


@pytest.fixture(scope="module")
def deep_source(folder: Path, chapters_file: Path, subtitles_file: Path) -> Path:
    """A Matroska of 10 bits with two sound tracks, subtitles, chapters and a cover."""
    cover = folder / "cover.jpg"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=32x32", "-frames:v", "1", cover)
    path = folder / "deep.mkv"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25,format=yuv420p10le"),
        *("-f", "lavfi", "-i", "sine=f=440:r=48000", "-f", "lavfi", "-i", "sine=f=880:r=48000"),
        *("-i", subtitles_file, "-i", chapters_file, "-map", "0", "-map", "1", "-map", "2", "-map", "3"),
        *("-map_metadata", "4", "-frames:v", str(NUM_FRAMES), "-t", "2", "-vf", TAGS, *X264),
        *("-c:a:0", "ac3", "-c:a:1", "flac", "-c:s", "srt"),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra"),
        *("-attach", cover, "-metadata:s:t", "mimetype=image/jpeg", path),
    )
    return path


def deep_recipe(
    maps: Sequence[str] = ("0:v:0", "0:a", "0:s"), options: Sequence[str] = (), size: str = DOUBLE
) -> Recipe:
    """ffmpeg 5.1 copies a cover as a film, and marks default tracks by itself, unless told otherwise."""
    listed = tuple(word for part in maps for word in ("-map", part))
    return Recipe(maps=listed, options=("-default_mode", "passthrough", *options), size=size)


def attach_cover(folder: Path) -> tuple[str, ...]:
    cover = ("-metadata:s:t", "mimetype=image/jpeg", "-metadata:s:t", "filename=cover.jpg")
    return ("-attach", str(folder / "cover.jpg"), *cover)


@cache
def film_of(source: Path) -> Film:
    return read_film(source)


def fault_keys(source: Path, output: Path, scale: int = 2) -> set[str]:
    mine = film_of(source)
    theirs = read_film(output, thumbnail_size(*mine.size))
    return {fault.key for fault in compare(mine, theirs, scale).faults}


def test_good_output_has_no_faults(source: Path, tmp_path: Path) -> None:
    output = Recipe().make(source, tmp_path / "good.mp4")

    verdict = measure(source, output, 2)

    assert verdict.faults == []
    assert verdict.figures["frames"] == (NUM_FRAMES, NUM_FRAMES)
    assert verdict.figures["max_pts_error_ticks"] == 0
    assert verdict.figures["av_offset_change_ms"] == {"audio:0": 0}
    assert verdict.figures["chapters"] == (2, 2)
    assert verdict.figures["rotation"][0] != (65536, 0, 0, 65536), "the source must have something to lose"
    assert verdict.figures["color"]["range"] == ("tv", "tv")
    assert verdict.figures["sar"] == ("4/3", "4/3")
    assert verdict.figures["worst_margin"] > 0


def test_good_matroska_output_has_no_faults(deep_source: Path, folder: Path, tmp_path: Path) -> None:
    output = deep_recipe(options=attach_cover(folder)).make(deep_source, tmp_path / "good.mkv")

    verdict = measure(deep_source, output, 2)

    assert verdict.faults == []
    assert set(verdict.figures["packets"]) == {"audio", "cover", "subtitle"}


def test_moving_to_matroska_may_shift_the_film_but_not_its_sound(source: Path, tmp_path: Path) -> None:
    recipe = Recipe(maps=("-map", "0:v:0", "-map", "0:a"), options=("-default_mode", "passthrough"))
    output = recipe.make(source, tmp_path / "moved.mkv")

    verdict = measure(source, output, 2, expect_missing=["subtitle:0", "rotation"])

    assert verdict.faults == []
    assert verdict.figures["max_pts_error_ms"] > 0
    assert abs(verdict.figures["av_offset_change_ms"]["audio:0"]) <= 1


FAULTY = {
    "dropped frame": (Recipe("select='not(eq(n,20))'"), {"frames", "pts", "order"}),
    "doubled frame": (Recipe("loop=1:1:20"), {"frames", "pts", "order"}),
    "first frame lost": (
        Recipe("select='gt(n,0)'"),
        {"frames", "pts", "order", "audio:0", "subtitle:0", "chapters"},
    ),
    "last frame lost": (Recipe(f"select='lt(n,{NUM_FRAMES - 1})'"), {"frames", "pts"}),
    "one frame dropped and another doubled": (
        Recipe(reordered([*IN_ORDER[:20], 19, *IN_ORDER[21:]])),
        {"order"},
    ),
    "film shifted by one frame": (Recipe(reordered([0, *IN_ORDER[:-1]])), {"order"}),
    "part of the film shifted by one frame": (
        Recipe(reordered([*IN_ORDER[:25], *IN_ORDER[24:-1]])),
        {"order"},
    ),
    "two frames swapped": (Recipe(swapped(20, 21)), {"order"}),
    "black film": (Recipe("lutyuv=y=16:u=128:v=128"), {"content"}),
    "one black frame": (Recipe("lutyuv=y=16:enable='eq(n,20)'"), {"content"}),
    "one tile missing in one frame": (
        Recipe("drawbox=64:32:24:24:black:fill:enable='eq(n,20)'"),
        {"content"},
    ),
    "upside down": (Recipe("vflip"), {"content"}),
    "chroma planes swapped": (Recipe("swapuv"), {"content"}),
    "range stretched": (Recipe(f"scale=in_range=tv:out_range=pc,{TAGS}"), {"content"}),
    "wrong matrix used": (
        Recipe(f"scale=in_color_matrix=bt601:out_color_matrix=bt709,{TAGS}"),
        {"content"},
    ),
    "one frame late by 10 ms": (Recipe("setpts='PTS+900*eq(N,20)'"), {"pts"}),
    "one frame late by one tick": (Recipe("setpts='PTS+eq(N,20)'"), {"pts"}),
    "constant frame rate": (Recipe("setpts='N*3600'"), {"pts"}),
    "wrong width": (Recipe(size="scale=322:240,setsar=4/3"), {"size"}),
    "lost colour tags": (
        Recipe(size=f"{DOUBLE},setparams=color_primaries=unknown:color_trc=unknown:colorspace=unknown"),
        {"color"},
    ),
    "wrong colour tag": (Recipe(size=f"{DOUBLE},setparams=color_primaries=bt2020"), {"color"}),
    "wrong range tag": (Recipe(size=f"{DOUBLE},setparams=range=pc"), {"color"}),
    "lost rotation": (Recipe(rewrite=("-metadata:s:v:0", "rotate=0")), {"rotation"}),
    "lost pixel aspect": (Recipe(size=f"{DOUBLE},setsar=1"), {"sar"}),
    "lost audio": (Recipe(maps=("-map", "0:v", "-map", "0:s")), {"audio:0"}),
    "lost audio packet": (Recipe(options=("-bsf:a", r"noise=drop=eq(n\,10)")), {"audio:0"}),
    "changed audio payload": (Recipe(options=("-bsf:a", r"noise=amount=100*eq(n\,10)")), {"audio:0"}),
    "encoded audio": (Recipe(options=("-c:a", "aac")), {"audio:0"}),
    "audio 50 ms late": (
        Recipe(
            maps=("-map", "0:v", "-map", "1:a", "-map", "0:s"),
            second_input=("-itsoffset", "0.05", "-i", "{source}"),
        ),
        {"audio:0"},
    ),
    "lost language": (Recipe(options=("-metadata:s:a:0", "language=und")), {"audio:0"}),
    "changed disposition": (Recipe(options=("-disposition:a:0", "default+dub")), {"audio:0"}),
    "extra audio": (Recipe(maps=("-map", "0", "-map", "0:a")), {"audio:1"}),
    "lost subtitle": (Recipe(maps=("-map", "0:v", "-map", "0:a")), {"subtitle:0"}),
    "lost title, date and chapters": (
        Recipe(date="", options=("-metadata", "title=", "-map_chapters", "-1")),
        {"metadata:title", "metadata:creation_time", "chapters"},
    ),
}


@pytest.mark.parametrize("name", FAULTY)
def test_fault_is_named_and_nothing_else_is(name: str, source: Path, tmp_path: Path) -> None:
    recipe, expected = FAULTY[name]
    output = recipe.make(source, tmp_path / "bad.mp4")

    assert fault_keys(source, output) == expected


def test_fault_in_matroska_is_named(deep_source: Path, folder: Path, tmp_path: Path) -> None:
    cover = attach_cover(folder)
    recipes = {
        "cover:0": deep_recipe(),
        "audio:1": deep_recipe(maps=["0:v:0", "0:a:0", "0:s"], options=cover),
        "pix_fmt": deep_recipe(options=cover, size=f"{DOUBLE},format=yuv420p"),
    }

    for key, recipe in recipes.items():
        assert fault_keys(deep_source, recipe.make(deep_source, tmp_path / "bad.mkv")) == {key}


def test_sound_tracks_in_another_order_are_a_fault(deep_source: Path, folder: Path, tmp_path: Path) -> None:
    recipe = deep_recipe(maps=["0:v:0", "0:a:1", "0:a:0", "0:s"], options=attach_cover(folder))

    assert fault_keys(deep_source, recipe.make(deep_source, tmp_path / "bad.mkv")) == {"audio:0", "audio:1"}


def test_whole_film_moved_against_its_sound_is_a_fault(source: Path, tmp_path: Path) -> None:
    late = Recipe("setpts=PTS+4500").make(source, tmp_path / "late.mp4")

    verdict = measure(source, late, 2)

    assert {fault.key for fault in verdict.faults} >= {"shift", "audio:0"}
    assert verdict.figures["shift_ms"] == 50


def test_one_moved_chapter_is_a_fault(source: Path, chapters_file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.txt"
    moved.write_text(chapters_file.read_text().replace("900", "925"))
    recipe = Recipe(second_input=("-i", str(moved)), maps=("-map", "0", "-map_chapters", "1"))

    faults = check_output(source, recipe.make(source, tmp_path / "bad.mp4"), 2)

    assert faults == [
        "chapters: chapter 0: end is 0.925 s, source has 0.900 s",
        "chapters: chapter 1: start is 0.925 s, source has 0.900 s",
    ]


def test_still_film_that_turns_black_is_a_fault(tmp_path: Path) -> None:
    still, black = tmp_path / "still.mp4", tmp_path / "black.mp4"
    ffmpeg("-f", "lavfi", "-i", "smptebars=s=160x120:d=1", "-vf", f"format=yuv420p,{TAGS}", *X264, still)
    good = Recipe().make(still, tmp_path / "good.mp4")
    Recipe("lutyuv=y=16").make(still, black)

    assert check_output(still, good, 2) == []
    assert fault_keys(still, black) == {"content"}


def test_slow_film_shifted_by_one_frame_is_a_fault(tmp_path: Path) -> None:
    """The picture moves by a fiftieth of a pixel per frame: one frame hardly tells, a run of frames does."""
    rng = np.random.default_rng(0)
    squares = np.kron(rng.integers(40, 210, (16, 24)), np.ones((10, 10)))
    picture = (squares + np.roll(squares, 3, 0) + np.roll(squares, 3, 1)) / 3
    frames = [(1 - n / 50) * picture + n / 50 * np.roll(picture, 1, 1) for n in range(NUM_FRAMES)]
    raw = b"".join(np.round(frame).astype(np.uint8).tobytes() for frame in frames)
    (tmp_path / "slow.raw").write_bytes(raw)
    slow = tmp_path / "slow.mp4"
    shape = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", "240x160", "-r", "25")
    ffmpeg(*shape, "-i", tmp_path / "slow.raw", "-vf", "format=yuv420p", *X264, "-qp", "0", slow)

    good = Recipe().make(slow, tmp_path / "good.mp4")
    shifted = Recipe(reordered([0, *IN_ORDER[:-1]])).make(slow, tmp_path / "shifted.mp4")

    assert check_output(slow, good, 2) == []
    assert fault_keys(slow, shifted) == {"order"}


def test_lost_hdr_metadata_is_a_fault(tmp_path: Path) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    tags = "color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc:range=tv"
    source, good, bad = (tmp_path / name for name in ("hdr.mp4", "good.mp4", "bad.mp4"))
    x265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
    hdr = f"log-level=none:pools=none:master-display={display}:max-cll=1000,400"
    size = "testsrc2=s=96x64:r=25:d=0.3,format=yuv420p10le"
    for path, params in ((source, hdr), (good, hdr), (bad, "log-level=none:pools=none")):
        ffmpeg("-f", "lavfi", "-i", f"{size},setparams={tags}", *x265, params, path)

    assert check_output(source, good, 1) == []
    assert {fault.key for fault in measure(source, bad, 1).faults} == {"hdr"}


def test_undecodable_and_unreadable_outputs_are_faults(source: Path, tmp_path: Path) -> None:
    damaged = Recipe().make(source, tmp_path / "damaged.mp4")
    content = bytearray(damaged.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    damaged.write_bytes(content)
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"not a film")

    assert "decode" in fault_keys(source, damaged)
    assert [fault.key for fault in measure(source, junk, 2).faults] == ["unreadable"]


def test_untagged_source_needs_the_expected_tags(tmp_path: Path) -> None:
    untagged = tmp_path / "untagged.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4,format=yuv420p", *X264, untagged)
    tagged = Recipe(size=f"{DOUBLE},{TAGS}").make(untagged, tmp_path / "tagged.mp4")
    expected = {"matrix": "smpte170m", "primaries": "smpte170m"}

    assert check_output(untagged, tagged, 2) == []
    assert check_output(untagged, tagged, 2, expected_color=expected) == []
    assert check_output(untagged, tagged, 2, expected_color={"matrix": "bt709"}) == [
        "color: matrix is smpte170m, expected bt709"
    ]


def test_what_is_told_to_be_missing_must_be_missing(source: Path, tmp_path: Path) -> None:
    without_text = Recipe(maps=("-map", "0:v", "-map", "0:a")).make(source, tmp_path / "out.mp4")

    assert check_output(source, without_text, 2, expect_missing=["subtitle:0"]) == []
    assert check_output(source, without_text, 2, expect_missing=["subtitle:0", "audio:0"]) == [
        "audio:0: audio:0 was expected to be missing or changed, but is not"
    ]


def test_command_line_pairs_by_stem_and_fails_on_any_fault(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, outputs = tmp_path / "in" / "sub", tmp_path / "out" / "sub"
    sources.mkdir(parents=True)
    outputs.mkdir(parents=True)
    (sources / "film.mp4").symlink_to(source)
    Recipe(options=("-f", "mp4")).make(source, outputs / "film.m4v")
    folders = [str(sources.parent), str(outputs.parent)]

    assert independent.main([*folders, "--scale", "2"]) == 0
    assert "50/50" in capsys.readouterr().out

    (sources / "forgotten.mp4").symlink_to(source)
    assert independent.main([*folders, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [fault["key"] for verdict in told for fault in verdict["faults"]] == ["missing"]

    assert independent.main([*folders, "--scale", "3", "--only", "film"]) == 1
    assert "FAULT size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pts", "expected"), [(1, 33), (2, 67), (3, 100), (-1, -33), (-2, -67), (15, 500), (-15, -500)]
)
def test_rescale_rounds_as_muxers_do(pts: int, expected: int) -> None:
    assert times.rescale(pts, Fraction(1, 30), Fraction(1, 1000)) == expected


def test_rescale_rounds_halves_away_from_zero() -> None:
    assert [times.rescale(pts, Fraction(1, 2), Fraction(1)) for pts in (1, -1, 3, -3)] == [1, -1, 2, -2]


def test_block_means_reach_every_pixel() -> None:
    frames = np.zeros((1, 21, 19), np.float32)
    frames[0, 20, 18] = 8 * 8

    means = content.block_means(frames)

    assert means.shape == (1, 2, 2)
    assert means[0, 1, 1] > 0
