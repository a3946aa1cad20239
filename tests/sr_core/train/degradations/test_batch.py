from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.shrink import rounded, shrink
from sr_core.train.crops import item_generator
from sr_core.train.degradations.batch import Degradation, DrawnDegradation, degraded
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.bsrgan import Bsrgan
from sr_core.train.degradations.kernels import gaussian_kernel
from sr_core.train.degradations.real_esrgan import FIRST_ORDER, SECOND_ORDER, RealEsrgan, StageSettings
from sr_core.train.degradations.sheet import sheet
from sr_core.train.degradations.steps import (
    Blur,
    CorrelatedNoise,
    Decimate,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Resize,
    Resizer,
    Step,
)
from tests.sr_core.test_shrink import slopes

BLIND: dict[str, DrawnDegradation] = {"first": FIRST_ORDER, "second": SECOND_ORDER, "bsrgan": Bsrgan()}
ALL: dict[str, Degradation] = {"bicubic": Bicubic(), **BLIND}


def scene(batch: int, height: int, width: int) -> Tensor:
    """Smooth noise, 0..1."""
    frames = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernel(9, 1.5, 1.5, 0.3)
    return torch.cat([Blur(kernel)(frame[None]) for frame in frames]).sub(0.5).mul(4).add(0.5).clamp(0, 1)


def generators(*numbers: int) -> list[torch.Generator]:
    return [item_generator(1, 0, number, "degrade") for number in numbers]


def drawn(degradation: DrawnDegradation, scale: int = 4, num: int = 400) -> list[tuple[Step, ...]]:
    return [degradation.steps(each, (128, 192), scale) for each in generators(*range(num))]


@pytest.mark.parametrize("degradation", ALL.values(), ids=ALL)
def test_items_do_not_depend_on_their_batch(degradation: Degradation) -> None:
    hr_frames = scene(4, 48, 72)

    together = degraded(hr_frames, 4, degradation, generators(0, 1, 2, 3))
    alone = [degraded(hr_frames[n : n + 1], 4, degradation, generators(n)) for n in range(4)]

    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("degradation", ALL.values(), ids=ALL)
def test_what_comes_out_is_of_the_lr_size_and_of_8_bits(degradation: Degradation, scale: int) -> None:
    hr_frames = scene(6, 12 * scale, 15 * scale)

    lr_frames = degraded(hr_frames, scale, degradation, generators(*range(6)))

    assert lr_frames.shape == (6, 3, 12, 15)
    assert (lr_frames.min() >= 0) & (lr_frames.max() <= 1)
    torch.testing.assert_close(lr_frames, (lr_frames * 255).round() / 255)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bicubic_is_the_protocol_of_papers_up_to_the_edges(scale: int) -> None:
    hr_frames = scene(3, 7 * scale, 12 * scale)

    shrunk = Bicubic().shrunk(hr_frames, scale)

    torch.testing.assert_close(shrunk, shrink(hr_frames, scale), atol=2e-6, rtol=0)
    assert torch.equal(degraded(hr_frames, scale, Bicubic(), generators(0, 1, 2)), rounded(shrunk))


@pytest.mark.parametrize("degradation", BLIND.values(), ids=BLIND)
def test_drawing_does_not_look_at_the_pixels(degradation: DrawnDegradation) -> None:
    first, second = generators(5, 5)

    degraded(torch.zeros(1, 3, 32, 32), 2, degradation, [first])
    degraded(scene(1, 32, 32), 2, degradation, [second])

    assert torch.equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("degradation", BLIND.values(), ids=BLIND)
def test_pictures_stay_in_place(degradation: Degradation) -> None:
    """The mean over many degradations of a slope lies where the middles of LR pixels do."""
    frame = slopes(96, 96)
    numbers = range(40)

    made = degraded(frame.expand(len(numbers), -1, -1, -1), 4, degradation, generators(*numbers)).mean(0)

    expected = frame[0].unflatten(-1, (24, 4)).mean(-1).unflatten(-2, (24, 4)).mean(-2)
    step_px = 0.8 / 95 * 4
    inner = slice(8, -8)
    assert (made - expected)[:2, inner, inner].mean((1, 2)).abs().max() < 0.15 * step_px


def test_the_second_order_draws_the_published_ranges() -> None:
    stage = {"sigma": [], "poisson": [], "quality": [], "kernel": []}
    heights: list[float] = []
    for steps in drawn(SECOND_ORDER):
        assert sum(isinstance(step, Jpeg) for step in steps) == 2
        resizes = [step for step in steps if isinstance(step, Resize)]
        assert len(resizes) == 3
        assert 0.15 * 128 - 1 <= resizes[0].size[0] <= 1.5 * 128
        assert 0.3 * 32 - 1 <= resizes[1].size[0] <= 1.2 * 32
        assert resizes[2].size == (32, 48)
        heights.append(resizes[0].size[0] / 128)
        stage["sigma"] += [step.sigma for step in steps if isinstance(step, GaussianNoise)]
        stage["poisson"] += [step.strength for step in steps if isinstance(step, PoissonNoise)]
        stage["quality"] += [step.quality for step in steps if isinstance(step, Jpeg)]
        stage["kernel"] += [step.kernel.shape[0] for step in steps if isinstance(step, Blur)]
    assert 1 <= min(stage["sigma"]) < 2
    assert 28 < max(stage["sigma"]) <= 30
    assert 0.05 <= min(stage["poisson"]) < 0.15
    assert 2.8 < max(stage["poisson"]) <= 3
    assert (min(stage["quality"]), max(stage["quality"])) == (30, 95)
    assert (min(stage["kernel"]), max(stage["kernel"])) == (7, 21)
    shares = [sum(h > 1 for h in heights), sum(h < 1 for h in heights), sum(h == 1 for h in heights)]
    assert [share / len(heights) for share in shares] == pytest.approx([0.2, 0.7, 0.1], abs=0.07)


def test_the_last_jpeg_comes_before_or_after_the_lr_size_as_often() -> None:
    is_last = [isinstance(steps[-1], Jpeg) for steps in drawn(SECOND_ORDER)]

    assert sum(is_last) / len(is_last) == pytest.approx(0.5, abs=0.08)


def test_the_final_sinc_comes_right_after_the_lr_size_in_four_of_five() -> None:
    endings = [
        any(isinstance(after, Blur) for before, after in pairwise(steps[-3:]) if isinstance(before, Resize))
        for steps in drawn(SECOND_ORDER)
    ]

    assert sum(endings) / len(endings) == pytest.approx(0.8, abs=0.06)


def test_the_first_order_has_one_round() -> None:
    for steps in drawn(FIRST_ORDER, num=50):
        assert sum(isinstance(step, Jpeg) for step in steps) == 1
        assert sum(isinstance(step, GaussianNoise | PoissonNoise) for step in steps) == 1
        assert sum(isinstance(step, Resize) for step in steps) == 2


def test_bsrgan_shuffles_everything_but_the_order_of_its_shrinkings() -> None:
    orders: set[tuple[str, ...]] = set()
    num_halved = num_coded = num_decimated = 0
    for steps in drawn(Bsrgan(), num=600):
        assert isinstance(steps[-1], Jpeg)
        shrinks = [step for step in steps if isinstance(step, Resize | Decimate)]
        assert isinstance(shrinks[-1], Resize)
        assert shrinks[-1].size == (32, 48)
        num_halved += len(shrinks) == 3
        num_coded += sum(isinstance(step, Jpeg) for step in steps) == 2
        num_decimated += sum(isinstance(step, Decimate) for step in steps)
        assert sum(isinstance(step, Blur) for step in steps) == 2
        assert sum(isinstance(step, GaussianNoise | CorrelatedNoise) for step in steps) == 1
        orders.add(tuple(type(step).__name__[0] for step in steps))
    assert len(orders) > 60
    shares = [num_halved / 600, num_coded / 600, num_decimated / 600]
    assert shares == pytest.approx([0.25, 0.9, 0.25], abs=0.06)


def test_sides_that_are_no_whole_lr_pixels_are_refused() -> None:
    with pytest.raises(SpecError, match=r"50x48.*multiples of the scale, 4"):
        degraded(torch.zeros(1, 3, 48, 50), 4, Bicubic(), generators(0))
    with pytest.raises(SpecError, match=r"48x4.*8x8 or more"):
        degraded(torch.zeros(1, 3, 4, 48), 4, Bicubic(), generators(0))


def test_settings_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(SpecError, match="probability"):
        RealEsrgan(final_sinc_probability=1.5)
    with pytest.raises(SpecError, match="resize"):
        StageSettings(resize=(0.0, 1.5))
    with pytest.raises(SpecError, match="sum to 1"):
        StageSettings(resize_probabilities=(0.5, 0.5, 0.5))
    with pytest.raises(SpecError, match="jpeg_quality"):
        Bsrgan(jpeg_quality=(0, 95))


def test_a_sheet_shows_truth_and_lr_pixels_side_by_side() -> None:
    hr_frames = scene(3, 8, 12)
    lr_frames = degraded(hr_frames, 4, Bicubic(), generators(0, 1, 2))

    shown = sheet(hr_frames, lr_frames, num_across=2)

    assert shown.shape == (3, 2 * 12 + 4, 2 * 28 + 4)
    assert torch.equal(shown[:, 4:12, 4:16], (hr_frames[0] * 255).round().byte())
    lr_codes = (lr_frames[2] * 255).round().byte()
    pixels = lr_codes.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(shown[:, 16:24, 16:28], pixels)


@pytest.mark.parametrize("degradation", ALL.values(), ids=ALL)
def test_a_clip_of_one_frame_is_degraded_as_that_frame(degradation: Degradation) -> None:
    hr_frames = scene(2, 48, 72)

    clips = degraded(hr_frames.unsqueeze(1), 4, degradation, generators(3, 4))

    assert torch.equal(clips.squeeze(1), degraded(hr_frames, 4, degradation, generators(3, 4)))


def test_frames_of_a_clip_share_all_but_their_noise() -> None:
    frame = scene(1, 48, 72)[0]
    clip = frame.expand(1, 3, -1, -1, -1)
    noisy = GaussianNoise(20.0, is_grey=False, seed=1)
    without_noise = (
        Decimate(4, 1.6),
        Blur(gaussian_kernel(7, 2.0, 1.0, 0.5)),
        Resize((12, 18), Resizer.AREA),
    )

    class Fixed:
        def __init__(self, *steps: Step) -> None:
            self.own = steps

        def steps(self, *_: object) -> tuple[Step, ...]:
            return self.own

    clean = degraded(clip, 4, Fixed(*without_noise), generators(0))[0]
    noises = degraded(clip, 4, Fixed(*without_noise, noisy), generators(0))[0] - clean

    assert torch.equal(clean[0], clean[1])
    assert torch.equal(clean[0], clean[2])
    assert not torch.equal(noises[0], noises[1])
    assert float(noises.std(dim=(1, 2, 3)).max()) < 1.2 * float(noises.std(dim=(1, 2, 3)).min())


def test_clips_are_degraded_each_in_its_own_way_and_in_their_order() -> None:
    clips = scene(6, 48, 72).unflatten(0, (2, 3))

    together = degraded(clips, 2, SECOND_ORDER, generators(0, 1))

    assert torch.equal(together[1:], degraded(clips[1:], 2, SECOND_ORDER, generators(1)))
    coarse = [torch.nn.functional.avg_pool2d(each.flatten(0, 1), 8) for each in (clips, together)]
    coarse[0] = torch.nn.functional.avg_pool2d(coarse[0], 2)
    distances = torch.cdist(coarse[0].flatten(1), coarse[1].flatten(1))
    assert distances.argmin(1).tolist() == list(range(6))
