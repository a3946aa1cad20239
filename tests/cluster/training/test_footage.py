"""Pairs that are made of footage."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from cluster.images.jpeg import luma_steps
from cluster.training.coding import Measured, video_coding
from cluster.training.footage import (
    FootageSettings,
    clip_starts,
    packed_pair,
    read_footage,
    unpacked_pairs,
)
from cluster.video.cost import coded_bytes
from cluster.video.probe import probe
from cluster.video.recode import LossyCodec, Recoding, recoded, recoded_bytes
from cluster.video.timeline import Timeline
from sr_core.jpeg import nearest_quality
from sr_core.train.degradations.bicubic import Bicubic
from tests.cluster.training.filmed import view, write_film
from tests.sr_core.threads import one_thread

SMALL = FootageSettings((), scale=2, least_lr_px=16, num_pairs=24)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("footage") / "film.mp4")


def timeline(num_frames: int, keyframes: range) -> Timeline:
    pts = np.arange(num_frames, dtype=np.int64) * 10
    return Timeline(pts, pts[list(keyframes)], num_frames * 10)


def clip(scene: int = 0, num_frames: int = 8) -> torch.Tensor:
    picture = torch.from_numpy(view(scene)).permute(2, 0, 1)
    return torch.stack([picture[:, at : at + 96, at : at + 128] for at in range(num_frames)])


def test_a_part_of_a_packed_pair_is_a_pair() -> None:
    hr_codes = torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8)
    lr_codes = torch.randint(0, 256, (3, 12, 16), dtype=torch.uint8)
    packed = packed_pair(lr_codes, hr_codes)[:, 2:9, 5:11]
    lr_part, hr_part = unpacked_pairs(packed[None], 2)
    assert torch.equal(lr_part[0], lr_codes[:, 2:9, 5:11])
    assert torch.equal(hr_part[0], hr_codes[:, 4:18, 10:22])


def test_clips_begin_at_keyframes_where_these_are_near() -> None:
    assert clip_starts(timeline(1000, range(0, 1000, 50)), 10, 8) == [
        50, 150, 250, 350, 450, 550, 650, 750, 850, 950
    ]  # fmt: skip


def test_clips_of_a_video_with_one_keyframe_are_spread_over_all_of_it() -> None:
    starts = clip_starts(timeline(240, range(1)), 100, 8)
    assert len(starts) == 20
    assert starts[-1] >= 220
    assert min(after - before for before, after in pairwise(starts)) >= 8


@pytest.mark.parametrize(("num_frames", "num_starts"), [(7, 0), (8, 1), (20, 1), (24, 2)])
def test_short_videos_give_few_clips(num_frames: int, num_starts: int) -> None:
    assert len(clip_starts(timeline(num_frames, range(1)), 100, 8)) == num_starts


@one_thread()
@pytest.mark.parametrize(
    ("recoding", "tolerance"),
    [
        (Recoding(LossyCodec.H264, 22), 5),
        (Recoding(LossyCodec.H264, 36), 5),
        (Recoding(LossyCodec.MPEG2, 6), 1),
    ],
)
def test_how_strongly_a_source_was_coded_is_found_from_what_it_takes(
    recoding: Recoding, tolerance: int
) -> None:
    original = clip()
    found = video_coding(
        recoding.codec, [Measured(recoded(original, recoding), recoded_bytes(original, recoding))]
    )
    assert found.recoding.codec is recoding.codec
    assert abs(found.recoding.quality - recoding.quality) <= tolerance


@one_thread()
def test_a_codec_without_an_encoder_here_is_told_with_what_takes_its_place() -> None:
    coding = video_coding("vp9", [Measured(clip(num_frames=2), 4000)])
    assert coding.recoding.codec is LossyCodec.HEVC
    assert str(coding).startswith("vp9, about as coded by hevc at CRF ")


def test_what_a_range_takes_is_what_its_packets_take(film: Path) -> None:
    with av.open(str(film)) as container:
        sizes = {packet.pts: packet.size for packet in container.demux(video=0) if packet.size}
    with film.open("rb") as file:
        info, times = probe(file, "film")
        start, end = int(times.pts[24]), int(times.pts[48])
        assert coded_bytes(file, info.video, start, end, "film") == sum(
            size for pts, size in sizes.items() if start <= pts < end
        )


@pytest.mark.parametrize("quality", [30, 75, 92])
def test_the_quality_of_a_jpeg_is_read_from_its_steps(quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(view(0)).save(file, "JPEG", quality=quality)
    assert nearest_quality(luma_steps(file.getvalue())) == quality


@one_thread()
def test_hr_is_a_frame_that_was_shrunk_and_lr_is_it_shrunk_and_coded(film: Path) -> None:
    told: list[str] = []
    footage = read_footage(replace(SMALL, sources=(str(film),)), told.append)
    assert told == [f"{film}: {told[0].removeprefix(f'{film}: ')}"]
    assert "h264 at CRF" in told[0]
    lr_frames, hr_frames = unpacked_pairs(footage.pairs[0][None], 2)
    assert hr_frames.shape[-2:] == (100, 144)
    shrunk = (Bicubic().shrunk(hr_frames.float(), 2)).round()
    difference = (shrunk - lr_frames.float()).abs().mean()
    assert 0.5 < difference < 12, "coded, but the same picture"


@one_thread()
def test_what_was_coded_without_losses_is_neither_shrunk_nor_coded(tmp_path: Path) -> None:
    for number in range(24):
        Image.fromarray(view(number)).save(tmp_path / f"{number:02}.png")
    footage = read_footage(replace(SMALL, sources=(str(tmp_path),)), lambda sentence: None)
    lr_frames, hr_frames = unpacked_pairs(footage.pairs[3][None], 2)
    assert torch.equal(hr_frames[0], torch.from_numpy(view(3)).permute(2, 0, 1))
    shrunk = (Bicubic().shrunk(hr_frames.float() / 255, 2) * 255).round().clamp(0, 255)
    assert torch.equal(lr_frames.float(), shrunk)


@one_thread()
def test_what_cannot_be_learnt_from_is_left_out_and_told(tmp_path: Path, film: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(film.read_bytes())
    write_film(tmp_path / "small.mp4", num_scenes=1, size=(64, 64), options={"crf": "20"})
    write_film(tmp_path / "woven.mp4", num_scenes=1, options={"x264-params": "interlaced=1"})
    (tmp_path / "text.mp4").write_bytes(b"no video")
    told: list[str] = []
    settings = FootageSettings((str(tmp_path),), scale=2, least_lr_px=48, num_pairs=80)
    footage = read_footage(settings, told.append)
    reasons = {Path(each.name).name: each.reason for each in footage.left_out}
    assert set(reasons) == {"small.mp4", "woven.mp4", "text.mp4"}
    assert "64x64" in reasons["small.mp4"]
    assert "interlaced" in reasons["woven.mp4"]
    assert len(told) == 4


@one_thread()
def test_frames_to_confirm_on_are_no_part_of_what_a_run_gets(film: Path) -> None:
    footage = read_footage(replace(SMALL, sources=(str(film),)), lambda sentence: None)
    data = footage.data
    assert data.parts is not None
    confirming = {footage.pairs.digests[at] for at in footage.parts.confirming}
    assert confirming
    assert not confirming & set(data.pictures.digests)
    assert len(data.parts.validation) == len(footage.parts.choosing)
