from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_core.discriminators import DISCRIMINATORS
from sr_core.discriminators.discriminator import Discriminator
from sr_core.discriminators.patch import PATCH, PatchConfig
from sr_core.discriminators.strided import STRIDED, StridedConfig
from sr_core.discriminators.unet import UNET, UnetConfig
from sr_core.discriminators.vgg import VGG, VggConfig
from sr_core.family import Family
from sr_core.train.losses.penalty import gradient_penalty

KINDS: list[tuple[Family[Discriminator], Any]] = [
    (VGG, VggConfig(32, 4, 8)),
    (PATCH, PatchConfig(num_feat=4)),
    (UNET, UnetConfig(num_feat=4)),
    (STRIDED, StridedConfig((4, 6, 8))),
]


def images(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num_images", [1, 4])
def test_a_linear_discriminator_pays_half_gamma_times_its_squared_weights(num_images: int) -> None:
    weights = images(0, 3 * 4 * 5, 1).requires_grad_()
    batch = images(1, num_images, 3, 4, 5).requires_grad_()

    penalty = gradient_penalty(batch, batch.flatten(1) @ weights, gamma=10.0)
    penalty.backward()

    assert penalty.item() == pytest.approx(5 * float(weights.detach().square().sum()), rel=1e-6)
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, 10 * weights.detach())


def test_patches_that_are_judged_alone_pay_as_images_of_their_own() -> None:
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.Softplus(), nn.Conv2d(6, 1, 1))
    batch = images(0, 2, 3, 8, 12)
    patches = batch.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(12, 3, 4, 4)

    of_maps, of_patches = (
        gradient_penalty(each.requires_grad_(), discriminator(each), gamma=1.0) for each in (batch, patches)
    )

    torch.testing.assert_close(of_maps, of_patches)


def test_the_penalty_is_the_slope_that_finite_differences_see() -> None:
    torch.manual_seed(0)
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Softplus(), nn.Linear(8, 1)).double()
    batch = images(0, 2, 3, 2, 2).double()
    slopes = torch.zeros(2, 12, dtype=torch.float64)
    with torch.no_grad():
        for place in range(12):
            step = torch.zeros(12, dtype=torch.float64)
            step[place] = 1e-6
            up, down = (discriminator(batch + sign * step.view(3, 2, 2)) for sign in (1, -1))
            slopes[:, place] = (up - down).squeeze(1) / 2e-6
    batch.requires_grad_()

    penalty = gradient_penalty(batch, discriminator(batch), gamma=3.0)

    assert penalty.item() == pytest.approx(1.5 * float(slopes.square().sum(1).mean()), rel=1e-7)


def test_its_gradient_by_the_weights_is_that_of_finite_differences() -> None:
    batch = images(0, 2, 3, 4, 4).double().requires_grad_()
    first = images(1, 4, 3, 3, 3).double().requires_grad_()
    last = images(2, 1, 4, 1, 1).double().requires_grad_()

    def penalty(first: Tensor, last: Tensor) -> Tensor:
        features = nn.functional.softplus(nn.functional.conv2d(batch, first, padding=1))
        return gradient_penalty(batch, nn.functional.conv2d(features, last), gamma=2.0)

    assert torch.autograd.gradcheck(penalty, (first, last))


def test_every_discriminator_is_in_the_tests() -> None:
    assert {family.name for family in DISCRIMINATORS} == {family.name for family, _ in KINDS}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("family", "config"), KINDS, ids=lambda value: getattr(value, "name", ""))
def test_descending_the_penalty_flattens_every_discriminator(
    family: Family[Discriminator], config: Any, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    discriminator = family.build(config)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    batch = images(0, 4, 3, 32, 32).to(memory_format=torch.channels_last).requires_grad_()

    values = list[float]()
    for _ in range(5):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = discriminator(batch)
        penalty = gradient_penalty(batch, logits, gamma=1.0)
        optimizer.zero_grad()
        penalty.backward()
        assert all(w.grad is None or bool(w.grad.isfinite().all()) for w in discriminator.parameters())
        optimizer.step()
        values.append(float(penalty.detach()))

    assert penalty.dtype == torch.float32
    assert 0 < values[-1] < 0.9 * values[0]
