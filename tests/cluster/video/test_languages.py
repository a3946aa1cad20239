"""Languages in outputs, read back from files that FFmpeg's muxers wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from cluster.video import languages
from cluster.video.carry import stream_metadata
from cluster.video.containers import Container, language_in
from cluster.video.languages import is_same_language, iso_code, quicktime_name
from tests.cluster.video.clips import Clip, write_clip
from tests.cluster.video.joining import split_and_join

PAIRS = languages._PAIRS
CLIP = Clip("sound.mkv", num_audio=2)


def read_back(path: Path, container: Container, codes: list[str]) -> list[str]:
    """The languages of the tracks of a file in `container` whose tracks were to be in `codes`."""
    with av.open(str(path), "w", format=container.replace("mkv", "matroska")) as output:
        tracks = [output.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in codes]
        for track, code in zip(tracks, codes, strict=True):
            track.metadata["language"] = code
            track.metadata.update(stream_metadata(track, container))
        output.start_encoding()
        for track in tracks:
            packet = av.Packet(bytes(400))
            packet.stream, packet.pts, packet.dts, packet.duration = track, 0, 0, 200
            output.mux(packet)
    with av.open(str(path)) as written:
        return [track.metadata.get("language", "") for track in written.streams]


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_both_codes_of_a_language_come_back_as_that_language(container: Container, tmp_path: Path) -> None:
    codes = [code for pair in PAIRS for code in pair if quicktime_name(code) or container != "mov"]
    assert len(codes) >= 38

    found = read_back(tmp_path / "pairs", container, codes)

    assert [
        (code, got) for code, got in zip(codes, found, strict=True) if not is_same_language(code, got)
    ] == []


def test_every_language_that_quicktime_is_said_to_know_comes_back(tmp_path: Path) -> None:
    codes = sorted(iso_code(name) for name in languages._QUICKTIME)

    found = read_back(tmp_path / "all.mov", "mov", codes)

    assert [iso_code(name) for name in found] == [iso_code(quicktime_name(code) or "") for code in codes]


def test_a_language_that_quicktime_does_not_know_is_not_taken_for_another(tmp_path: Path) -> None:
    assert read_back(tmp_path / "lost.mov", "mov", ["glg", "eng"])[0] == ""


def test_there_are_twenty_languages_with_two_codes() -> None:
    assert len({code for pair in PAIRS for code in pair}) == 2 * len(PAIRS) == 40


def test_ffmpegs_own_names_do_not_leave_quicktime() -> None:
    assert language_in("mov", "swe") == "sve"
    assert [language_in(container, "sve") for container in ("mp4", "mkv")] == ["swe", "swe"]


@pytest.mark.parametrize("container", ["mov", "mp4"])
def test_copied_sound_and_the_picture_keep_their_languages(container: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path, replace(CLIP, audio_codec="aac", metadata={"language": "fre"}))

    joined = split_and_join(source, tmp_path, container)

    with av.open(str(joined.path)) as output:
        found = [stream.metadata.get("language", "") for stream in output.streams]
    assert all(is_same_language(*both) for both in zip(found, ("fre", "eng", "deu"), strict=True))
    assert joined.result.told == ()
