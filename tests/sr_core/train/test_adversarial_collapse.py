"""Small games that do go wrong, and that the guard tells so; and one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.discriminators.discriminator import Discriminator
from sr_core.shrink import rounded, shrink
from sr_core.train.adversarial import AdversarialSettings, AdversarialStep
from sr_core.train.game import Player
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.step import Batch, Numerics
from sr_core.train.updates import AdamSettings, UpdateSettings
from tests.sr_core.threads import one_thread

WINDOW = 10
ADAM = AdamSettings()


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_thread():
        yield


class Tinting(nn.Module):
    """Bilinear, then a mix of the channels, which changes nothing at first."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        self.load_state_dict({"mix.weight": torch.eye(3)[:, :, None, None], "mix.bias": torch.zeros(3)})

    def forward(self, lr_frames: Tensor) -> Tensor:
        enlarged = F.interpolate(lr_frames, scale_factor=2, mode="bilinear")
        mixed: Tensor = self.mix(enlarged - 0.5) + 0.5
        return mixed


class Sharpness(Discriminator):
    """Sees how neighbours differ, by which true pictures and bilinear ones are told apart."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.head = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        across, down = (images.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (2, 3))
        return [self.head(20 * torch.stack([across, down], 1))]


class Taste(Discriminator):
    """Takes pictures for true by one figure of them, whatever it is taught."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.power = power

    def features(self, images: Tensor) -> list[Tensor]:
        figure = (images - 0.5).pow(self.power).mean((1, 2, 3)).view(-1, 1)
        return [figure + 0 * self.weight]


def batch(number: int) -> Batch:
    """Patches of random colours with a grain on them."""
    draw = torch.Generator().manual_seed(number)
    colors = torch.rand(4, 3, 2, 2, generator=draw).mul(0.6).add(0.2)
    grain = torch.rand(4, 3, 32, 32, generator=draw).sub(0.5).mul(0.3)
    hr_frames = rounded(F.interpolate(colors, scale_factor=16) + grain)
    return Batch(number, (rounded(shrink(hr_frames, 2)),), hr_frames)


def told(
    discriminator: Discriminator,
    num_windows: int,
    rates: tuple[float, float],
    adam: AdamSettings | None = ADAM,
    **settings: Any,
) -> str:
    """All warnings of a game with these learning rates, of the generator and of the discriminator."""
    updates = UpdateSettings(learning_rates=dict(zip(Player, rates, strict=True)), adam=adam)
    asked = AdversarialSettings(updates=updates, watch_batches=WINDOW, **settings)
    content = WeightedLoss(pixel_terms({"l1": 1.0}))
    step = AdversarialStep(Tinting(), discriminator, content, asked, Group(), Numerics())
    logs = [step(batch(number), 1.0) for number in range(num_windows * WINDOW)]
    return "\n".join(sentence for log in logs for sentence in log.warnings)


def test_a_game_in_balance_is_not_told_of() -> None:
    assert told(Sharpness(), 6, (1e-4, 1e-2), r1=1.0, weight=1e-3) == ""


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "relativistic_average"])
def test_a_discriminator_without_penalty_that_wins_is_told(loss: str) -> None:
    warnings = told(Sharpness(), 5, (1e-6, 6e-2), r1=0.0, loss=loss)
    assert warnings.count("the discriminator has won") == 1
    assert "the generator learns nothing" not in warnings


def test_a_generator_whose_gradient_vanishes_is_told() -> None:
    warnings = told(Sharpness(), 6, (1e-6, 6e-2), r1=0.0, loss="vanilla")
    assert warnings.count("the generator learns nothing more") == 1


def test_a_critic_without_bound_that_runs_away_is_told() -> None:
    warnings = told(Sharpness(), 4, (1e-6, 0.1), r1=0.0, loss="wasserstein")
    assert warnings.count("run away") == 1


def test_a_discriminator_that_its_penalty_has_blinded_is_told() -> None:
    # Adam's steps do not become small where gradients do: they keep some noise in the logits.
    warnings = told(Sharpness(), 6, (1e-6, 1e-3), adam=None, r1=1e3)
    assert warnings.count("sees no difference") == 1


def test_a_taste_for_bright_pictures_tints_them_and_is_told() -> None:
    assert told(Taste(1), 4, (1e-3, 1e-6), r1=0.0, weight=1e-3) == ""
    warnings = told(Taste(1), 4, (1e-3, 1e-6), r1=0.0, weight=30.0)
    assert "colours drift" in warnings
    assert "is off by +" in warnings


def test_a_taste_for_strong_colours_stains_pictures_and_is_told() -> None:
    warnings = told(Taste(2), 8, (1e-3, 1e-6), r1=0.0, weight=100.0)
    assert "coarse parts of the generator's pictures are off" in warnings
