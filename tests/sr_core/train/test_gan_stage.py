"""The stage of a GAN: noise against pictures, with nothing to compare pixel by pixel."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sr_core.generative.gan import GAN, GanConfig, init_weights
from sr_core.train.gan_stage import GanGame, GanStage, gan_step
from sr_core.train.group import Group
from sr_core.train.step import Batch, Numerics, StepLog
from sr_core.train.trainer import Stage
from sr_core.train.updates import RuleName, UpdateSettings
from tests.sr_core.threads import one_thread

CONFIG = GanConfig(num_noise=4, widths=(8,))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def generator() -> nn.Module:
    torch.manual_seed(0)
    network = GAN.build(CONFIG)
    init_weights(network)
    return network


def batch(number: int = 0, noise: Tensor | None = None) -> Batch:
    random = torch.Generator().manual_seed(number)
    drawn = torch.randn(6, CONFIG.num_noise, generator=random)
    true = torch.rand(6, 3, CONFIG.image_px, CONFIG.image_px, generator=random)
    return Batch(number, (drawn if noise is None else noise,), true)


def played(
    network: nn.Module, batches: list[Batch], game: GanGame | None = None, numerics: Numerics | None = None
) -> list[StepLog]:
    asked = GanStage(Stage(1, 6), game or GanGame())
    step = gan_step(asked, network, CONFIG, Group(), numerics or Numerics(), (0, 0))
    logs = []
    for each in batches:
        torch.manual_seed(each.number)
        logs.append(step(each, 1.0))
    return logs


@pytest.mark.parametrize("rule", RuleName)
def test_every_rule_moves_the_generator_and_tells_no_colours(rule: RuleName) -> None:
    network = generator()
    before = copy.deepcopy(network.state_dict())

    log = played(network, [batch(0), batch(1)], GanGame(updates=UpdateSettings(rule)))[-1]

    assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert {"generator", "discriminator", "adversarial", "r1"} == set(log.losses)
    assert not any("color" in name for name in log.figures)
    assert 0 < log.figures["variety"] < 2


def test_the_generator_has_no_other_goal_than_the_game() -> None:
    log = played(generator(), [batch()])[0]

    assert log.losses["generator"] == pytest.approx(log.losses["adversarial"])


def test_the_discriminator_follows_from_the_seed_alone() -> None:
    asked = GanStage(Stage(1, 6))
    states = []
    for seed, draws in (((1, 0), 0), ((1, 0), 5), ((1, 1), 0), ((2, 0), 0)):
        torch.manual_seed(draws)
        step = gan_step(asked, generator(), CONFIG, Group(), Numerics(), seed)
        states.append(step.state_dict()["discriminator"]["last.weight"])

    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[3])
    assert float(states[0].std()) == pytest.approx(0.02, rel=0.3)


def test_variety_is_that_of_the_pictures() -> None:
    class Repeated(nn.Module):
        """Makes the true pictures, paler."""

        def __init__(self, pictures: Tensor) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.3))
            self.pictures = pictures

        def forward(self, noise: Tensor) -> Tensor:
            return self.scale * self.pictures

    true = batch()
    log = played(Repeated(true.truth), [true])[0]

    assert log.figures["variety"] == pytest.approx(0.3, rel=1e-4)


def test_a_generator_that_makes_one_picture_is_told() -> None:
    same = torch.ones(6, CONFIG.num_noise)
    game = GanGame(watch_batches=3)

    logs = played(generator(), [batch(number, same) for number in range(3)], game)
    assert ["nearly the same picture of any noise" in each for each in logs[-1].warnings] == [True]

    lively = generator()
    for weight in lively.parameters():
        weight.data *= 20  # as one that has learnt to make contrasts
    told = played(lively, [batch(number) for number in range(3)], game)[-1].warnings
    assert not any("same picture" in each for each in told)


def test_a_batch_in_parts_steps_nearly_as_whole() -> None:
    logs = [played(generator(), [batch()], numerics=Numerics(num_parts=parts))[0] for parts in (1, 3)]

    # Batch normalisation sees each part by itself.
    assert logs[1].losses["generator"] == pytest.approx(logs[0].losses["generator"], rel=0.2)
    assert logs[1].figures["variety"] == pytest.approx(logs[0].figures["variety"], rel=0.5)
