from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cluster.video.recode import LossyCodec, Recoding, RecodingSettings, recoded
from sr_core.errors import SpecError
from sr_core.train.motion import MotionSettings, drawn_path, filmed

FINE = {LossyCodec.H264: 12, LossyCodec.HEVC: 12, LossyCodec.AV1: 12, LossyCodec.MPEG2: 2}
COARSE = {LossyCodec.H264: 40, LossyCodec.HEVC: 42, LossyCodec.AV1: 60, LossyCodec.MPEG2: 24}


def clip(num_frames: int = 6, height: int = 64, width: int = 96) -> Tensor:
    """A moving picture, (T, 3, H, W) uint8."""
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(200.0), indexing="ij")
    waves = [(x / 5 + y / 9).sin(), (x / 11 - y / 7).cos(), (x * y / 900).sin()]
    still = torch.stack(waves) * 0.3 + 0.5
    path = drawn_path(torch.Generator().manual_seed(2), MotionSettings(), num_frames)
    return (filmed(still, path, (height, width)) * 255).round().byte()


def error(made: Tensor, frames: Tensor) -> float:
    return float((made.float() - frames.float()).abs().mean())


@pytest.mark.parametrize("codec", LossyCodec)
def test_frames_come_back_in_their_order_and_worse_at_coarser_quality(codec: LossyCodec) -> None:
    frames = clip()

    fine, coarse = (recoded(frames, Recoding(codec, quality[codec])) for quality in (FINE, COARSE))

    assert fine.shape == frames.shape
    assert fine.dtype == torch.uint8
    assert error(fine, frames) < 4 < 6 < error(coarse, frames)
    for number, frame in enumerate(fine):
        assert min(range(len(frames)), key=lambda other: error(frame, frames[other])) == number


@pytest.mark.parametrize("codec", LossyCodec)
def test_equal_clips_and_settings_give_equal_frames(codec: LossyCodec) -> None:
    frames, recoding = clip(), Recoding(codec, COARSE[codec])

    made = [recoded(frames, recoding) for _ in range(3)]

    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


@pytest.mark.parametrize("codec", LossyCodec)
@pytest.mark.parametrize("size", [(47, 61), (5, 3), (16, 16)])
def test_odd_and_tiny_frames_keep_their_size(codec: LossyCodec, size: tuple[int, int]) -> None:
    frames = clip(2, *size)

    made = recoded(frames, Recoding(codec, FINE[codec]))

    assert made.shape == frames.shape
    assert error(made, frames) < 8


@pytest.mark.parametrize("codec", LossyCodec)
def test_flat_colours_keep_their_hue(codec: LossyCodec) -> None:
    colors = torch.tensor([[200, 40, 60], [30, 160, 80]], dtype=torch.uint8)
    frames = colors[:, :, None, None].repeat(1, 1, 32, 32)

    made = recoded(frames, Recoding(codec, FINE[codec]))

    assert (made.float() - frames.float()).abs().max() <= 6


def test_every_codec_and_rate_is_drawn_as_often_as_asked() -> None:
    settings = RecodingSettings()
    drawn = [settings.drawn(torch.Generator().manual_seed(seed)) for seed in range(2000)]

    for codec, probability in zip(LossyCodec, settings.probabilities, strict=True):
        qualities = [each.quality for each in drawn if each.codec is codec]
        assert len(qualities) / 2000 == pytest.approx(probability, abs=0.04)
        assert (min(qualities), max(qualities)) == settings.qualities[codec]


def test_what_no_encoder_takes_is_refused() -> None:
    with pytest.raises(SpecError, match="mpeg2video"):
        Recoding(LossyCodec.MPEG2, 40)
    with pytest.raises(SpecError, match="av1"):
        RecodingSettings(av1=(20, 64))
    with pytest.raises(SpecError, match="clip"):
        recoded(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), Recoding(LossyCodec.H264, 20))
