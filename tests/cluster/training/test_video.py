"""Clips that networks learn from which see several frames at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cluster.training import PixelStage, TrainJob
from cluster.training.data import DataSettings
from cluster.training.recoding import RecodedShare
from cluster.training.run import refuse_misfits
from cluster.training.tasks.video import VideoSettings
from cluster.video.recode import RecodingSettings
from sr_core.archs.arch import ColorMode
from sr_core.archs.early_fusion import EARLY_FUSION, EarlyFusionConfig
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.color import Matrix, rgb_to_yuv
from sr_core.errors import SpecError
from sr_core.train.adversarial import AdversarialSettings
from sr_core.train.adversarial_stage import AdversarialStage
from sr_core.train.crops import Pictures
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.real_esrgan import FIRST_ORDER
from sr_core.train.group import Group
from sr_core.train.motion import MotionSettings
from sr_core.train.step import Batch
from sr_core.train.trainer import Stage
from tests.cluster.training.test_data import packed, scene

PLAIN = VideoSettings(EARLY_FUSION, EarlyFusionConfig(3, ColorMode.RGB, 8, 1), lr_crop_px=16)
STANDING = MotionSettings(pan_px=(0.0, 0.0), zoom=0.0, turn_degrees=0.0, sway_px=0.0)
H264 = RecodedShare(1.0, RecodingSettings(probabilities=(1.0, 0.0, 0.0, 0.0), h264=(30, 30)))


def footage() -> Pictures:
    """A still, and a real clip of three frames."""
    return packed(scene(1, 70, 80), torch.cat([scene(2, 60, 64), scene(3, 60, 64), scene(4, 60, 64)]))


def job(settings: VideoSettings) -> TrainJob:
    return TrainJob("output", settings, DataSettings(("pictures",), 32), (PixelStage(Stage(64, 8)),), seed=4)


def batch(settings: VideoSettings, number: int = 0, group: Group | None = None) -> Batch:
    task = settings.open(job(settings), group or Group(), footage(), footage().only([]))
    batches = task.make_batches(0, number)
    made = next(batches)
    batches.close()
    assert isinstance(made, Batch)
    return made


def codes(frames: Tensor) -> Tensor:
    return (frames * 255).round()


def test_the_truth_is_what_the_middle_frame_was_made_of() -> None:
    made = batch(PLAIN)

    (clips,) = made.inputs
    shrunk = Bicubic().shrunk(made.truth, 2).clamp(0, 1)
    assert clips.shape == (8, 3, 3, 16, 16)
    assert torch.equal(codes(clips[:, 1]), codes(shrunk))
    assert all(not torch.equal(clip[0], clip[1]) and not torch.equal(clip[1], clip[2]) for clip in clips)


def test_a_luma_network_sees_the_luma_of_the_same_clips() -> None:
    luma = replace(PLAIN, config=EarlyFusionConfig(3, ColorMode.LUMA, 8, 1))

    made, expected = batch(luma), batch(PLAIN)

    (clips,), (colors,) = made.inputs, expected.inputs
    assert clips.shape == (8, 3, 1, 16, 16)
    assert torch.equal(clips.flatten(0, 1), rgb_to_yuv(colors.flatten(0, 1), Matrix.BT601)[0])
    assert torch.equal(made.truth, rgb_to_yuv(expected.truth, Matrix.BT601)[0])


def test_workers_share_a_batch() -> None:
    whole = batch(PLAIN, 1)

    shares = [batch(PLAIN, 1, Group(rank, 2)) for rank in range(2)]

    assert torch.equal(whole.truth, torch.cat([share.truth for share in shares]))
    assert torch.equal(whole.inputs[0], torch.cat([share.inputs[0] for share in shares]))


def test_frames_go_through_the_codec_together() -> None:
    standing = replace(PLAIN, motion=STANDING, recoding=H264)

    (clips,) = batch(standing).inputs
    (again,) = batch(standing).inputs
    (uncoded,) = batch(replace(standing, recoding=None)).inputs

    stills = [n for n in range(8) if torch.equal(uncoded[n, 0], uncoded[n, 1])]
    assert stills
    assert torch.equal(clips, again)
    assert all(not torch.equal(clips[n], uncoded[n]) for n in range(8))
    # The frames of a scene at rest are predicted from the first one, each as a keyframe would be coded anew.
    errors = (clips - uncoded)[stills]
    alone = torch.stack([H264.coded(uncoded[n, 1:2], torch.Generator()) - uncoded[n, 1:2] for n in stills])
    assert float((errors[:, 1] - errors[:, 0]).abs().mean()) < 0.5 * float((alone[:, 0]).abs().mean())


def test_blind_degradations_are_drawn_once_for_a_clip() -> None:
    blind = replace(PLAIN, motion=STANDING, degradation=FIRST_ORDER)

    (clips,) = batch(blind).inputs
    (clean,) = batch(replace(blind, degradation=Bicubic())).inputs

    stills = [n for n in range(8) if torch.equal(clean[n, 0], clean[n, 1])]
    means = clips[stills].mean((-1, -2))
    assert float((means[:, 0] - means[:, 2]).abs().max()) < 0.02
    assert all(not torch.equal(clips[n, 0], clips[n, 1]) for n in stills)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(PLAIN, arch=ESPCN, config=EspcnConfig()), "clips do not train such a network"),
        (replace(PLAIN, config=EarlyFusionConfig(3, ColorMode.YUV420)), "expected rgb or luma"),
    ],
)
def test_networks_that_clips_do_not_train_are_refused(settings: VideoSettings, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        refuse_misfits(job(settings), Group())


def test_clips_are_measured_against_their_middle_frames(tmp_path: Path) -> None:
    data = footage()
    task = PLAIN.open(job(PLAIN), Group(), data, data)

    class Middle(torch.nn.Module):
        def forward(self, clips: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(clips[:, 1], scale_factor=2, mode="bicubic")

    class First(Middle):
        def forward(self, clips: Tensor) -> Tensor:
            return super().forward(clips[:, [0, 0]])

    assert task.measure(Middle())["psnr_y"] > task.measure(First())["psnr_y"] + 1
    assert task.measure(Middle()) == PLAIN.open(job(PLAIN), Group(), data, data).measure(Middle())
    assert [cell.title for cell in task.rows(Middle())[0]] == ["bicubic", "SR", "HR"]


def test_a_conditional_discriminator_sees_the_middle_frame() -> None:
    settings = AdversarialSettings(discriminator="patch", num_feat=4, is_conditional=True)
    asked = replace(job(PLAIN), stages=(AdversarialStage(Stage(64, 8), adversarial=settings),))
    task = PLAIN.open(asked, Group(), footage(), footage().only([]))
    (clips,) = batch(PLAIN).inputs

    def played(spoiled: int) -> dict[str, float]:
        torch.manual_seed(0)
        step = task.make_step(0, PLAIN.build())
        changed = clips.clone()
        changed[:, spoiled] = 0
        log = step(replace(batch(PLAIN), inputs=(changed,)), 1.0)
        return dict(log.figures)

    # The truth is judged beside the LR frame that belongs to it, whatever its neighbours are.
    assert played(0)["true_logit"] == played(2)["true_logit"] != played(1)["true_logit"]
