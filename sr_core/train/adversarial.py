"""A network against a discriminator, by any update rule: the settings of the game, and its step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from sr_core.discriminators import DISCRIMINATORS
from sr_core.discriminators.discriminator import Discriminator
from sr_core.errors import SpecError, TrainError
from sr_core.train.adversarial_game import AdversarialGame, Opponents
from sr_core.train.game import Player
from sr_core.train.group import Group
from sr_core.train.losses.adversarial import NON_SATURATING, adversarial_loss
from sr_core.train.losses.named import named
from sr_core.train.losses.weighted import check_weight
from sr_core.train.step import Batch, LossScale, Numerics, Objective, StepLog, tensors_of
from sr_core.train.updates import UpdateLog, UpdateSettings, update_rule
from sr_core.train.watch import SINGLE, Guard, Signs

_MOST_CHANNELS = 4096


@dataclass(frozen=True)
class GameSettings:
    """How a network and its discriminator play, whatever they make.

    Attributes:
        loss: The adversarial loss, by its name.
        feature_matching: Weight of the distance between the discriminator's features of made and of true
            pictures.
        r1: Gamma of its penalty on true pictures; 0 for none.
        r2: The same on made pictures.
        updates: How both are moved.
        watch_batches: Over so many batches each, a collapse and drifting colours are watched for.
    """

    loss: str = NON_SATURATING.name
    feature_matching: Annotated[float, Field(ge=0)] = 0.0
    r1: Annotated[float, Field(ge=0)] = 0.01
    r2: Annotated[float, Field(ge=0)] = 0.0
    updates: UpdateSettings = field(default_factory=UpdateSettings)
    watch_batches: Annotated[int, Field(ge=1)] = 500

    def __post_init__(self) -> None:
        adversarial_loss(self.loss)
        for name in ("feature_matching", "r1", "r2"):
            value = getattr(self, name)
            _check(name, value, is_right=0 <= value < math.inf, expected="0 or more")
        _check("watch_batches", self.watch_batches, is_right=self.watch_batches > 0, expected="1 or more")

    def told_against(self, discriminator: str) -> str:
        """What the game is, in words, against the discriminator of that name."""
        return f"{self.loss} against {discriminator} ({self.updates.rule})"

    def opponents(
        self, network: nn.Module, discriminator: Discriminator, content: Objective | None, numerics: Numerics
    ) -> Opponents:
        """Both networks with what these settings want of them."""
        return Opponents(
            network=network,
            discriminator=discriminator,
            content=content,
            loss=adversarial_loss(self.loss),
            weight=1.0,
            feature_matching=self.feature_matching,
            r1=self.r1,
            r2=self.r2,
            is_conditional=False,
            numerics=numerics,
        )


@dataclass(frozen=True)
class AdversarialSettings(GameSettings):
    """What a network that has other losses too plays against, and how.

    Attributes:
        weight: Of the adversarial loss beside the others, for the network.
        discriminator: The opponent, by its name.
        num_feat: Its channels after the first convolution.
        is_conditional: Whether it sees LR pictures too, enlarged and stacked on the others: then it asks not
            only whether a picture looks true, but also whether it may come of this one.
    """

    weight: Annotated[float, Field(gt=0)] = 0.1
    discriminator: str = "unet"
    num_feat: Annotated[int, Field(ge=1, le=_MOST_CHANNELS)] = 64
    is_conditional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        named(self.discriminator, {each.name: each for each in DISCRIMINATORS}, "discriminator")
        check_weight(self.weight, "game.weight")
        is_right = 1 <= self.num_feat <= _MOST_CHANNELS
        _check("num_feat", self.num_feat, is_right=is_right, expected=f"1 to {_MOST_CHANNELS} channels")

    def opponents(
        self, network: nn.Module, discriminator: Discriminator, content: Objective | None, numerics: Numerics
    ) -> Opponents:
        """See `GameSettings`."""
        opponents = super().opponents(network, discriminator, content, numerics)
        return replace(opponents, weight=self.weight, is_conditional=self.is_conditional)


def _check(name: str, value: float, *, is_right: bool, expected: str) -> None:
    if not is_right:
        raise SpecError(
            "a setting of the game is out of range", where=f"game.{name}", got=str(value), expected=expected
        )


class AdversarialStep:
    """Trains a network and its discriminator by an update rule.

    Under float16, a step whose gradients are not finite is taken again at half the loss scale, until that
    comes to 1: only then is it an error. Losses are means over parts and workers, which relativistic losses
    and batch normalisation see each by themselves; all others come to what they are on the whole batch.
    """

    def __init__(
        self,
        network: nn.Module,
        discriminator: Discriminator,
        content: Objective | None,
        settings: GameSettings,
        group: Group,
        numerics: Numerics,
    ) -> None:
        """Takes both over, which lie on the group's device; all workers get the first one's discriminator.

        Args:
            network: The generator, as the trainer has it.
            discriminator: Of the settings' kind, for pictures of the network's channels.
            content: Loss between pictures, of pixels and features; None where a picture has no true one.
            settings: How.
            group: The workers.
            numerics: Precision and parts; its `clip_norm` holds for each player.
        """
        group.take_from_first(tensors_of([discriminator]))
        self._discriminator = discriminator.train()
        self._opponents = settings.opponents(network, discriminator, content, numerics)
        self._group = group
        parameters = {
            player: [weight for weight in each.parameters() if weight.requires_grad]
            for player, each in self._opponents.networks.items()
        }
        self._rule = update_rule(parameters, settings.updates, group.average, _clip_norms(numerics))
        self._loss_scale = LossScale.of(numerics.dtype)
        self._guard = Guard(settings.watch_batches)

    def __call__(self, batch: Batch, share: float) -> StepLog:
        """See `Step`."""
        game = AdversarialGame(self._opponents, batch, self._loss_scale.value)
        with ExitStack() as undo:
            undo.callback(game.put_back)
            log = self._play(game, batch, share)
            undo.pop_all()
        game.settle()
        return self._told(log, game, batch)

    def _play(self, game: AdversarialGame, batch: Batch, share: float) -> UpdateLog:
        """Steps at the first loss scale that keeps gradients finite."""
        while True:
            try:
                log = self._rule.step(game, share)
            except TrainError as error:
                if not self._loss_scale.can_fall:
                    raise TrainError(**{**error.fields(), "where": f"batch {batch.number}"}) from error
                game.loss_scale = self._loss_scale.fall()
                continue
            self._loss_scale.count_step()
            return log

    def _told(self, log: UpdateLog, game: AdversarialGame, batch: Batch) -> StepLog:
        notes = game.notes[Player.DISCRIMINATOR] | game.notes[Player.GENERATOR]
        self._group.average(list(notes.values()))
        bias = tuple(notes.pop("color_bias").tolist()) if "color_bias" in notes else ()
        figures = dict(zip(notes, torch.stack(list(notes.values())).tolist(), strict=True))
        known = {name: figures.pop(name) for name in SINGLE if name in figures}
        signs = Signs(**known, color_bias=bias)
        warnings = self._guard.see(signs, batch.truth[0].numel())
        numbers = log.numbers()
        losses = {player.value: numbers.pop(f"{player}/loss") for player in Player}
        norms = {player.value: numbers.pop(f"{player}/gradient_norm") for player in Player}
        return StepLog(
            losses | figures,
            norms,
            numbers | signs.figures() | {"loss_scale": game.loss_scale},
            tuple(f"batch {batch.number}: {sentence}" for sentence in warnings),
        )

    def state_dict(self) -> dict[str, Any]:
        """See `Step`; the discriminator is part of it."""
        return {
            "discriminator": self._discriminator.state_dict(),
            "rule": self._rule.state_dict(),
            "loss_scale": self._loss_scale.state_dict(),
            "guard": self._guard.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Step`."""
        self._rule.load_state_dict(state["rule"])
        self._discriminator.load_state_dict(state["discriminator"])
        self._loss_scale.load_state_dict(state["loss_scale"])
        self._guard.load_state_dict(state["guard"])


def _clip_norms(numerics: Numerics) -> dict[Player, float]:
    return dict.fromkeys(Player, numerics.clip_norm) if math.isfinite(numerics.clip_norm) else {}
