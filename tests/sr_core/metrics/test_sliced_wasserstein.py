"""The sliced Wasserstein distance: what it sees, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.errors import SpecError
from sr_core.metrics.sliced_wasserstein import SlicedWasserstein
from tests.sr_core.threads import one_thread

NUM_IMAGES = 48


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def images(seed: int, side_px: int = 32) -> Tensor:
    """Smooth random colours, all of one distribution."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(NUM_IMAGES, 3, 8, 8, generator=random)
    return F.interpolate(coarse, (side_px, side_px), mode="bicubic").clamp(0, 1)


def test_it_is_zero_for_the_true_images_and_the_same_every_time() -> None:
    distance = SlicedWasserstein(images(0), seed=1)

    assert distance(images(0)) == 0
    assert distance(images(1)) == distance(images(1)) == SlicedWasserstein(images(0), seed=1)(images(1))


@pytest.mark.parametrize("side_px", [32, 64])
def test_images_of_one_distribution_are_nearer_than_any_others(side_px: int) -> None:
    distance = SlicedWasserstein(images(0, side_px), seed=1)
    alike = images(1, side_px)
    noise = 0.1 * torch.randn(alike.shape, generator=torch.Generator().manual_seed(2))
    others = {
        "blurred": F.avg_pool2d(alike, 7, 1, 3),
        "noisy": (alike + noise).clamp(0, 1),
        "pale": alike / 2 + 0.25,
        "tinted": (alike + torch.tensor([0.15, 0.0, 0.0])[:, None, None]).clamp(0, 1),
        "one alone": alike[:1].expand_as(alike),
    }

    nearest = distance(alike)
    assert {name for name, other in others.items() if distance(other) < 1.5 * nearest} == set()


def test_it_is_the_mean_difference_of_sorted_values() -> None:
    grey = torch.full((NUM_IMAGES, 1, 8, 8), 0.5)
    true = grey + torch.linspace(-0.2, 0.2, NUM_IMAGES)[:, None, None, None]
    moved = SlicedWasserstein(true, seed=0)(true + 0.1)

    # Patches are flat: along a direction, each moves by a tenth over their deviation times its sum.
    directions = F.normalize(torch.randn(128, 49, generator=torch.Generator().manual_seed(0)), dim=1)
    expected = 1000 * 0.1 / float(true.std()) * float(directions.sum(1).abs().mean())
    assert moved == pytest.approx(expected, rel=0.01)


def test_sets_of_two_sizes_do_not_compare() -> None:
    with pytest.raises(SpecError, match=r"of one size.*got 47 images"):
        SlicedWasserstein(images(0), seed=1)(images(1)[:47])
