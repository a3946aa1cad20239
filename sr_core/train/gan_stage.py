"""The stage that trains a GAN, and the step that it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from sr_core.discriminators.discriminator import Discriminator
from sr_core.discriminators.strided import STRIDED
from sr_core.generative.gan import GanConfig, init_weights
from sr_core.train.adversarial import AdversarialStep, GameSettings
from sr_core.train.crops import item_generator
from sr_core.train.game import Player
from sr_core.train.group import Group
from sr_core.train.step import Numerics
from sr_core.train.trainer import Stage


@dataclass(frozen=True)
class GanGame(GameSettings):
    """What a generator plays against its discriminator, and how.

    The penalty on true pictures is what keeps the game from turning in circles (Mescheder et al. 2018,
    arXiv:1801.04406), where no other loss does.
    """

    r1: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True)
class GanStage:
    """One stage of a generator against the discriminator that is its counterpart, and nothing besides.

    Attributes:
        stage: How long, how large and how fast; its schedule holds for both players.
        game: How it is played, with the learning rates of both players.
    """

    stage: Stage
    game: GanGame = field(default_factory=GanGame)

    @property
    def learning_rate(self) -> float:
        """The generator's, before the schedule."""
        return self.game.updates.learning_rates[Player.GENERATOR]

    @property
    def goals(self) -> tuple[tuple[str, float], ...]:
        """All that the generator makes small, in words, and the weight of each."""
        return ((self.game.told_against(STRIDED.name), 1.0),)


def gan_step(
    asked: GanStage,
    network: nn.Module,
    config: GanConfig,
    group: Group,
    numerics: Numerics,
    seed: tuple[int, int],
) -> AdversarialStep:
    """The step of the stage, with a discriminator that is new, and the same one for the same seed.

    Args:
        asked: What the user asks for.
        network: The generator, on the group's device; its batches have noise as input.
        config: Its hyper-parameters.
        group: The workers.
        numerics: Precision, parts and clipping.
        seed: Of the run, and the number of the stage.
    """
    discriminator = _new_discriminator(config, *seed).to(group.device)
    return AdversarialStep(network, discriminator, None, asked.game, group, numerics)


def _new_discriminator(config: GanConfig, seed: int, stage: int) -> Discriminator:
    """An untrained one on the CPU, with weights drawn as the paper has them."""
    draws = item_generator(seed, stage, 0, "discriminator")
    with torch.random.fork_rng([]):
        torch.manual_seed(draws.initial_seed())
        discriminator = STRIDED.build(config.discriminator)
        init_weights(discriminator)
    return discriminator
