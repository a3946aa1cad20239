"""The adversarial stage: a network against a discriminator, by any update rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
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


@dataclass(frozen=True)
class AdversarialSettings:
    """How a stage is played, but for the content loss.

    Attributes:
        loss: One of `ADVERSARIAL_LOSSES` by name.
        weight: Of the adversarial loss beside the content loss, for the generator.
        discriminator: One of `DISCRIMINATORS` by name.
        num_feat: Its channels after the first convolution.
        is_conditional: Whether it sees LR frames too, enlarged and stacked on the pictures: then it asks not
            only whether a picture looks true, but also whether it may come of this frame.
        feature_matching: Weight of the distance between its features of made and of true pictures; 0: none.
        r1: Gamma of its penalty on true pictures, see `gradient_penalty`; 0 for none.
        r2: The same on made pictures.
        updates: The update rule.
        watch_batches: Over so many batches each, figures are watched for a collapse and for drifting colours.
    """

    loss: str = NON_SATURATING.name
    weight: float = 0.1
    discriminator: str = "unet"
    num_feat: int = 64
    is_conditional: bool = False
    feature_matching: float = 0.0
    r1: float = 0.01
    r2: float = 0.0
    updates: UpdateSettings = field(default_factory=UpdateSettings)
    watch_batches: int = 500

    def __post_init__(self) -> None:
        adversarial_loss(self.loss)
        named(self.discriminator, {each.name: each for each in DISCRIMINATORS}, "discriminator")
        check_weight(self.weight, "adversarial.weight")
        for name, value, is_right in (
            ("feature_matching", self.feature_matching, 0 <= self.feature_matching < math.inf),
            ("r1", self.r1, 0 <= self.r1 < math.inf),
            ("r2", self.r2, 0 <= self.r2 < math.inf),
            ("num_feat", self.num_feat, self.num_feat > 0),
            ("watch_batches", self.watch_batches, self.watch_batches > 0),
        ):
            if not is_right:
                raise SpecError(
                    "a setting of the adversarial stage is out of range",
                    where=f"adversarial.{name}",
                    got=str(value),
                    expected="gammas and weights of 0 or more, at least one channel and one batch",
                )

    def opponents(
        self, network: nn.Module, discriminator: Discriminator, content: Objective, numerics: Numerics
    ) -> Opponents:
        """Both networks with what these settings want of them."""
        return Opponents(
            network=network,
            discriminator=discriminator,
            content=content,
            loss=adversarial_loss(self.loss),
            weight=self.weight,
            feature_matching=self.feature_matching,
            r1=self.r1,
            r2=self.r2,
            is_conditional=self.is_conditional,
            numerics=numerics,
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
        content: Objective,
        settings: AdversarialSettings,
        group: Group,
        numerics: Numerics,
    ) -> None:
        """Takes both over, which lie on the group's device; all workers get the first one's discriminator.

        Args:
            network: The generator, as the trainer has it.
            discriminator: Of the settings' kind, for pictures of the network's channels.
            content: Loss between pictures, of pixels and features.
            settings: How.
            group: The workers.
            numerics: Precision and parts; its `clip_norm` holds for a player that the rule's do not name.
        """
        group.take_from_first(tensors_of([discriminator]))
        self._discriminator = discriminator.train()
        self._opponents = settings.opponents(network, discriminator, content, numerics)
        self._group = group
        parameters = {
            player: [weight for weight in each.parameters() if weight.requires_grad]
            for player, each in self._opponents.networks.items()
        }
        self._rule = update_rule(parameters, _clipped(settings.updates, numerics), group.average)
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
        bias = tuple(notes.pop("color_bias").tolist())
        figures = dict(zip(notes, torch.stack(list(notes.values())).tolist(), strict=True))
        signs = Signs(color_bias=bias, **{name: figures.pop(name) for name in SINGLE})
        warnings = self._guard.see(signs, batch.hr_frames[0].numel())
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


def _clipped(updates: UpdateSettings, numerics: Numerics) -> UpdateSettings:
    """The settings, with the norm that holds for all where they name none for a player."""
    if not math.isfinite(numerics.clip_norm):
        return updates
    return replace(updates, clip_norms=dict.fromkeys(Player, numerics.clip_norm) | dict(updates.clip_norms))
