"""An adversarial stage as users ask for it, and the step that it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from sr_core.classifier import CLASSIFIER, Classifier
from sr_core.discriminators.discriminator import Discriminator
from sr_core.discriminators.patch import PATCH, PatchConfig
from sr_core.discriminators.strided import STRIDED, StridedConfig
from sr_core.discriminators.unet import UNET, UnetConfig
from sr_core.discriminators.vgg import VGG, VggConfig
from sr_core.errors import SpecError
from sr_core.family import load_network
from sr_core.metrics.lpips import load_lpips
from sr_core.train.adversarial import AdversarialSettings, AdversarialStep
from sr_core.train.crops import item_generator
from sr_core.train.game import Player
from sr_core.train.group import Group
from sr_core.train.losses.perceptual import (
    FeatureLoss,
    FeatureLossConfig,
    LpipsLoss,
    classifier_loss,
    load_feature_loss,
)
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import Term, WeightedLoss
from sr_core.train.step import Numerics
from sr_core.train.trainer import Stage

_VGG_MULTIPLE_PX = 16
_STRIDED_WIDENING = (1, 2, 4, 8)


@dataclass(frozen=True)
class PerceptualTerm:
    """A loss between what a classifier sees in pictures.

    Attributes:
        weight: In the sum.
        network: The classifier, by its name; with lpips_heads, the files tell which it is. Those that were
            trained here go by `classifier`.
        weights: File with its weights, on every worker; left out, vgg19 is torchvision's.
        lpips_heads: File with LPIPS's weights of its features: then the loss is LPIPS.
    """

    weight: Annotated[float, Field(gt=0)] = 1.0
    network: str = "vgg19"
    weights: Path | None = None
    lpips_heads: Path | None = None

    def term(self, device: torch.device) -> Term:
        """The loss itself, its network read and put on the device.

        Raises:
            SpecError: A file or torchvision is missing, or a name unknown.
            ModelError: Weights cannot be read, or are others.
        """
        if self.network == CLASSIFIER.name:
            return Term(self.network, self.weight, self._own().to(device))
        if self.lpips_heads is None:
            loss: nn.Module = load_feature_loss(FeatureLossConfig(self.network), self.weights)
            return Term(self.network, self.weight, loss.to(device))
        if self.weights is None:
            raise SpecError(
                "LPIPS needs the weights of its network beside its heads",
                where="perceptual",
                got=f"lpips_heads {self.lpips_heads} alone",
                next_step="name the file in weights",
            )
        lpips = LpipsLoss(load_lpips(self.weights, self.lpips_heads))
        return Term("lpips", self.weight, lpips.to(device))

    def _own(self) -> FeatureLoss:
        if self.weights is None or self.lpips_heads is not None:
            raise SpecError(
                "a classifier that was trained here has weights, and no heads of LPIPS",
                where="perceptual",
                next_step="name the file in weights alone",
            )
        return classifier_loss(load_network(self.weights, (CLASSIFIER,)))


@dataclass(frozen=True)
class AdversarialStage:
    """One stage against a discriminator.

    Attributes:
        stage: How long, how large and how fast; its schedule holds for both players.
        losses: Weight of each of `sr_core.train.losses.pixel.PIXEL_LOSSES` that counts.
        perceptual: Losses beside them that compare what networks see.
        adversarial: The game, with the learning rates of both players.
    """

    stage: Stage
    losses: tuple[tuple[str, float], ...] = (("l1", 1.0),)
    perceptual: tuple[PerceptualTerm, ...] = ()
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)

    @property
    def learning_rate(self) -> float:
        """The generator's, before the schedule."""
        return self.adversarial.updates.learning_rates[Player.GENERATOR]

    @property
    def goals(self) -> tuple[tuple[str, float], ...]:
        """All that the network makes small, in words, and the weight of each."""
        perceptual = ((each.network, each.weight) for each in self.perceptual)
        against = self.adversarial.told_against(self.adversarial.discriminator)
        return (*self.losses, *perceptual, (against, self.adversarial.weight))


@dataclass(frozen=True)
class Seen:
    """What a discriminator gets to see.

    Attributes:
        num_channels: Of HR frames: 3, or 1 of luma.
        side_px: Of HR crops.
    """

    num_channels: int
    side_px: int


def adversarial_step(
    asked: AdversarialStage,
    network: nn.Module,
    seen: Seen,
    group: Group,
    numerics: Numerics,
    seed: tuple[int, int],
) -> AdversarialStep:
    """The step of the stage, with a discriminator that is new, and the same one for the same seed.

    Args:
        asked: What the user asks for.
        network: The generator, on the group's device.
        seen: What the crops are.
        group: The workers.
        numerics: Precision, parts and clipping.
        seed: Of the run, and the number of the stage.

    Raises:
        SpecError: What is asked for does not fit the pictures, or is missing.
        ModelError: The weights of a perceptual loss cannot be read, or are others.
    """
    perceptual = [each.term(group.device) for each in asked.perceptual]
    content = WeightedLoss((*pixel_terms(dict(asked.losses)), *perceptual))
    discriminator = new_discriminator(asked.adversarial, seen, *seed).to(group.device)
    return AdversarialStep(network, discriminator, content, asked.adversarial, group, numerics)


def check_stage(asked: AdversarialStage, seen: Seen) -> None:
    """Says before any work what `adversarial_step` would refuse.

    Raises:
        SpecError: What is asked for does not fit the pictures, or is missing. It names the key in the stage.
        ModelError: The weights of a perceptual loss cannot be read, or are others.
    """
    new_discriminator(asked.adversarial, seen, 0, 0)
    for number, each in enumerate(asked.perceptual):
        try:
            _refuse_other_channels(each.term(torch.device("cpu")), seen)
        except SpecError as error:
            raise SpecError(**{**error.fields(), "where": f"perceptual.{number}"}) from error


def _refuse_other_channels(term: Term, seen: Seen) -> None:
    """Published networks see luma as grey; one's own sees what it was trained on.

    Raises:
        SpecError: That is something else.
    """
    network = term.loss.network if isinstance(term.loss, FeatureLoss) else None
    if isinstance(network, Classifier) and network.num_channels != seen.num_channels:
        raise SpecError(
            "the classifier was trained on other pictures",
            got=f"{network.num_channels} channels",
            expected=f"{seen.num_channels}, as the network that is trained makes them",
        )


def new_discriminator(settings: AdversarialSettings, seen: Seen, seed: int, stage: int) -> Discriminator:
    """An untrained one on the CPU; which, the seed of the run and the number of the stage decide alone.

    Raises:
        SpecError: It does not take crops of this size.
    """
    num_channels = seen.num_channels * (2 if settings.is_conditional else 1)
    draws = item_generator(seed, stage, 0, "discriminator")
    with torch.random.fork_rng([]):
        torch.manual_seed(draws.initial_seed())
        return _built(settings, num_channels, seen.side_px)


def _built(settings: AdversarialSettings, num_channels: int, side_px: int) -> Discriminator:
    width = settings.num_feat
    if settings.discriminator == UNET.name:
        return UNET.build(UnetConfig(num_channels, width))
    if settings.discriminator == PATCH.name:
        return PATCH.build(PatchConfig(num_channels, width))
    if settings.discriminator == STRIDED.name:
        config = StridedConfig(tuple(width * times for times in _STRIDED_WIDENING), num_channels)
        _check_side(STRIDED.name, side_px, side_px >= config.image_px, f"{config.image_px} px at least")
        return STRIDED.build(config)
    expected = f"a multiple of {_VGG_MULTIPLE_PX} px"
    _check_side(VGG.name, side_px, side_px % _VGG_MULTIPLE_PX == 0, expected)
    return VGG.build(VggConfig(side_px, width, num_channels=num_channels))


def _check_side(name: str, side_px: int, is_right: bool, expected: str) -> None:
    if not is_right:
        raise SpecError(
            f"the discriminator {name} does not take crops of this size",
            where="game.discriminator",
            got=f"HR crops of {side_px} px",
            expected=expected,
            next_step="change the size of LR crops, or take unet or patch",
        )
