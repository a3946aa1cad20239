"""A published network on a real clip: what reaches the encoder is what a plain forward pass gives."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from cluster.frames import color_space_of, known_format, plane_format_of, upscaled_frames
from cluster.video.decode import VideoReader
from cluster.video.probe import probe
from sr_core.color import planes_to_rgb, rgb_to_planes
from sr_core.model import load_model
from sr_core.upscale import Upscaler
from tests.cluster.plans import treatment_of
from tests.end_to_end.conftest import SHARED, Framelift

CLIP = SHARED / "data" / "video" / "bbb_480x360_24fps_h264_aac.mp4"
WEIGHTS = SHARED / "data" / "checkpoints" / "realesr-animevideov3.pth"
NUM_FRAMES = 4

pytestmark = pytest.mark.skipif(not CLIP.exists(), reason="needs the shared data")

Planes = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the clip, copied."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(CLIP)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in islice(source.demux(source.streams.video[0]), NUM_FRAMES):
            packet.stream = stream
            output.mux(packet)
    return path


@pytest.fixture(scope="module")
def plain(clip: Path) -> list[Planes]:
    """Planes of every frame from a whole-frame forward pass that is written out here, in fp32."""
    weights = torch.load(WEIGHTS, weights_only=True, map_location="cpu")["params"]
    treatment = treatment_of(clip)
    stored = known_format(treatment.video.pixel_format)
    plane_format, color_space = plane_format_of(stored), color_space_of(stored, treatment.assumed_color)
    frames = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            planes = tuple(torch.from_numpy(_plane(frame, index)) for index in range(3))
            rgb = planes_to_rgb(planes, plane_format, color_space)
            within = rgb.clamp(0, 1)  # what lies beyond is no colour that a network knows
            beyond = F.interpolate(rgb - within, scale_factor=4, mode="bilinear", align_corners=False)
            sr_rgb = _forward(within, weights) + beyond
            frames.append([plane.numpy() for plane in rgb_to_planes(sr_rgb, plane_format, color_space)])
    assert len(frames) == NUM_FRAMES
    return frames


def _forward(rgb: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """SRVGGNetCompact: convolutions with PReLU between, pixel shuffle, plus the nearest neighbour."""
    features, last = rgb, max(int(name.split(".")[1]) for name in weights)
    for index in range(0, last + 1, 2):
        features = F.conv2d(
            features, weights[f"body.{index}.weight"], weights[f"body.{index}.bias"], padding=1
        )
        if index < last:
            features = F.prelu(features, weights[f"body.{index + 1}.weight"])
    return F.pixel_shuffle(features, 4) + F.interpolate(rgb, scale_factor=4, mode="nearest")


def _plane(frame: av.VideoFrame, index: int) -> npt.NDArray[np.uint8]:
    plane = frame.planes[index]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].copy()


def _engine(clip: Path, tile_px: int) -> list[Planes]:
    """Planes as they are handed to the encoder."""
    upscaler = Upscaler(load_model(str(WEIGHTS)), "cpu", "fp32", tile_px, 1)
    treatment = treatment_of(clip, str(WEIGHTS))
    with clip.open("rb") as file:
        info, _ = probe(file, "clip")
        with VideoReader(file, info.video, 1) as reader:
            decoded = reader.frames(None, None)
            return [list(planes) for _, planes in upscaled_frames(decoded, treatment, upscaler)]


@pytest.mark.slow
def test_planes_for_the_encoder_are_those_of_a_plain_forward_pass_and_tiles_change_nothing(
    clip: Path, plain: list[Planes]
) -> None:
    whole = _engine(clip, 8192)
    differences = [
        int(np.max(np.abs(ours.astype(int) - theirs.astype(int))))
        for frame, expected in zip(whole, plain, strict=True)
        for ours, theirs in zip(frame, expected, strict=True)
    ]
    assert max(differences) <= 1
    for tile_px in (64, 256):
        for frame, expected in zip(_engine(clip, tile_px), whole, strict=True):
            for ours, theirs in zip(frame, expected, strict=True):
                assert np.array_equal(ours, theirs), tile_px


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "name"), [("h264", "out.mp4"), ("ffv1", "out.mkv")])
def test_a_lossless_job_holds_the_planes_of_a_plain_forward_pass(
    framelift: Framelift, clip: Path, plain: list[Planes], codec: str, name: str
) -> None:
    out = framelift.folder / name
    framelift("upscale", clip, out, "--model", WEIGHTS, "--codec", codec, "--quality", "lossless")
    with av.open(str(out)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == NUM_FRAMES
    for frame, expected in zip(frames, plain, strict=True):
        for index, theirs in enumerate(expected):
            assert np.max(np.abs(_plane(frame, index).astype(int) - theirs.astype(int))) <= 1
