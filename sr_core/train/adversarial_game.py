"""The game of a network against a discriminator on one batch.

A super-resolution network makes small by how much its pictures differ from the true ones (content: pixels and
features), and a share of the adversarial loss, as in SRGAN (arXiv:1609.04802) and ESRGAN (arXiv:1809.00219).
What makes pictures of noise has no content: none of them has a true one of its own. The discriminator's loss
has R1 and R2 penalties (arXiv:1801.04406) in every step: where they come only now and then, gradients jump,
which rules that compare one step's with the last one's take for curvature.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.discriminators.discriminator import Discriminator
from sr_core.train.clips import middle_frame
from sr_core.train.game import Player
from sr_core.train.losses.adversarial import RELATIVISTIC_AVERAGE, AdversarialLoss
from sr_core.train.losses.penalty import gradient_penalty
from sr_core.train.losses.perceptual import feature_matching
from sr_core.train.losses.precision import full_precision, widened
from sr_core.train.step import Batch, Numerics, Objective

_COARSE_PX = 16
_CODES = 255

Notes = dict[str, Tensor]
"""Detached figures of one player's turn, by name: means over the batch."""


@dataclass(frozen=True)
class Opponents:
    """Both networks, and what each of them wants.

    Attributes:
        network: The generator.
        discriminator: It takes pictures, or pictures with the enlarged LR frames stacked on them.
        content: What the generator makes small whatever the discriminator says; None where no picture has a
            true one to differ from.
        loss: The adversarial loss.
        weight: Of the generator's share in it.
        feature_matching: Weight of the distance of the discriminator's features; 0 for none.
        r1: Gamma of the penalty on true pictures; 0 for none.
        r2: The same on made ones.
        is_conditional: Whether the discriminator sees LR frames too.
        numerics: Precision and parts.
    """

    network: nn.Module
    discriminator: Discriminator
    content: Objective | None
    loss: AdversarialLoss
    weight: float
    feature_matching: float
    r1: float
    r2: float
    is_conditional: bool
    numerics: Numerics

    @property
    def networks(self) -> dict[Player, nn.Module]:
        """By player."""
        return {Player.GENERATOR: self.network, Player.DISCRIMINATOR: self.discriminator}

    @property
    def generator_needs_truth(self) -> bool:
        """Whether the generator's loss depends on what the discriminator makes of true pictures."""
        return self.feature_matching > 0 or self.loss is RELATIVISTIC_AVERAGE

    @cached_property
    def slopes_at_chance(self) -> dict[Player, float]:
        """How steep each player's adversarial loss is in logits of 0."""
        zero = torch.zeros(1, 1)
        return {player: float(_slope(self.loss, player, zero, zero)) for player in Player}


class AdversarialGame:
    """One batch, as `sr_core.train.game.Game` has it.

    Random numbers belong to the batch: each forward pass draws the same. So do the buffers of batch and
    spectral normalisation: however often a rule asks, every evaluation starts from those that the batch began
    with, so that it gives the same losses at the same weights. A network's own are kept from the last
    evaluation that its player was asked for in: with look-aheads, that is the point ahead. Until `settle`
    they are whatever the last forward pass has left.

    Attributes:
        notes: What the last evaluation of each player came to.
        loss_scale: See `Game`; it may be lowered where gradients are not finite.
    """

    def __init__(self, opponents: Opponents, batch: Batch, loss_scale: float) -> None:
        self.loss_scale = loss_scale
        self.notes: dict[Player, Notes] = {player: {} for player in Player}
        self._opponents = opponents
        self._parts = batch.parts(opponents.numerics.num_parts)
        self._num_images = batch.num_items
        self._device = batch.truth.device
        self._seed = int(torch.randint(2**62, ()))
        self._start = {player: _copies(network.buffers()) for player, network in opponents.networks.items()}
        self._end = dict(self._start)

    @property
    def num_parts(self) -> int:
        """See `Game`."""
        return len(self._parts)

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        """See `Game`."""
        if part == 0:
            self._put_buffers(self._start)
            for player in players:
                self.notes[player] = {}
        own = self._parts[part]
        with self._own_random_numbers(part):
            view = _View.of(self._opponents, own, players)
            losses = [self._loss(player, view, own.num_items / self._num_images) for player in players]
        for player in players:
            self._end[player] = _copies(self._opponents.networks[player].buffers())
        return losses

    def _loss(self, player: Player, view: _View, share: float) -> Tensor:
        """A player's, times the part's share of the batch; takes notes of it."""
        is_generator = player is Player.GENERATOR
        loss, notes = view.generator_loss() if is_generator else view.discriminator_loss()
        own = self.notes[player]
        for name, value in notes.items():
            own[name] = own.get(name, torch.zeros_like(value)) + value.detach() * share
        return loss * share

    def settle(self) -> None:
        """Keeps the buffers that the step has moved."""
        self._put_buffers(self._end)

    def put_back(self) -> None:
        """Undoes all that forward passes have done to buffers."""
        self._put_buffers(self._start)

    def _put_buffers(self, values: dict[Player, list[Tensor]]) -> None:
        for player, network in self._opponents.networks.items():
            for buffer, value in zip(network.buffers(), values[player], strict=True):
                buffer.copy_(value)

    @contextlib.contextmanager
    def _own_random_numbers(self, part: int) -> Iterator[None]:
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self._seed + part)
            yield


@dataclass(frozen=True)
class _Seen:
    """Pictures, and what the discriminator makes of them.

    Attributes:
        frames: As they were shown, for penalties.
        maps: The discriminator's, its logits last.
    """

    frames: Tensor
    maps: list[Tensor]

    @property
    def logits(self) -> Tensor:
        """What it thinks of them."""
        return self.maps[-1]


@dataclass(frozen=True)
class _View:
    """What both networks make of a part of a batch, as far as the players that are asked need it.

    Attributes:
        opponents: The networks.
        sr_frames: The generator's pictures, float32; with a graph where the generator is asked.
        hr_frames: The true ones.
        made: The former as the discriminator sees them.
        true: The latter; the same as `made` where nobody looks at it.
    """

    opponents: Opponents
    sr_frames: Tensor
    hr_frames: Tensor
    made: _Seen
    true: _Seen

    @classmethod
    def of(cls, opponents: Opponents, part: Batch, players: Sequence[Player]) -> _View:
        """Forward passes through both networks."""
        hr_frames = part.truth
        numerics, judges = opponents.numerics, Player.DISCRIMINATOR in players
        r1, r2 = (opponents.r1, opponents.r2) if judges else (0.0, 0.0)
        with torch.set_grad_enabled(Player.GENERATOR in players), numerics.autocast(hr_frames.device):
            sr_frames = widened(opponents.network(*part.inputs))
        made = _seen(opponents, sr_frames, part, r2)
        if not (judges or opponents.generator_needs_truth):
            return cls(opponents, sr_frames, hr_frames, made, made)
        with torch.set_grad_enabled(judges):
            true = _seen(opponents, hr_frames, part, r1)
        return cls(opponents, sr_frames, hr_frames, made, true)

    def discriminator_loss(self) -> tuple[Tensor, Notes]:
        """What the discriminator makes small, and its parts."""
        own, true, made = self.opponents, self.true, self.made
        loss = own.loss.discriminator(true.logits, made.logits)
        notes = {"true_logit": widened(true.logits).mean(), "made_logit": widened(made.logits).mean()}
        notes["spread"] = torch.cat([widened(seen.logits).flatten() for seen in (true, made)]).std(
            correction=0
        )
        notes["discriminator_slope"] = self._relative_slope(Player.DISCRIMINATOR)
        for name, gamma, seen in (("r1", own.r1, true), ("r2", own.r2, made)):
            if gamma > 0:
                notes[name] = gradient_penalty(seen.frames, seen.logits, gamma)
                loss = loss + notes[name]
        return loss, notes

    def generator_loss(self) -> tuple[Tensor, Notes]:
        """What the generator makes small, and its parts before weighting."""
        own = self.opponents
        loss, notes = self._content()
        notes["adversarial"] = own.loss.generator(self.true.logits, self.made.logits)
        loss = loss + own.weight * notes["adversarial"]
        if own.feature_matching > 0:
            notes["feature_matching"] = feature_matching(self.made.maps, self.true.maps)
            loss = loss + own.feature_matching * notes["feature_matching"]
        notes["generator_slope"] = self._relative_slope(Player.GENERATOR)
        signs = _colors if own.content else _variety
        return loss, notes | signs(self.sr_frames.detach(), self.hr_frames)

    def _content(self) -> tuple[Tensor, Notes]:
        """What pictures differ by from their true ones, and its parts; 0 where they have none."""
        content = self.opponents.content
        if content is None:
            return self.sr_frames.new_zeros(()), {}
        with self.opponents.numerics.autocast(self.sr_frames.device):
            loss, parts = content(self.sr_frames, self.hr_frames)
        return loss, {**parts, "content": loss}

    def _relative_slope(self, player: Player) -> Tensor:
        """How steep a player's adversarial loss is here, as a share of what it is at logits of 0."""
        slope = _slope(self.opponents.loss, player, self.true.logits, self.made.logits)
        return slope / self.opponents.slopes_at_chance[player]


def _seen(opponents: Opponents, frames: Tensor, part: Batch, gamma: float) -> _Seen:
    """Pictures and what the discriminator makes of them, ready for a penalty where gamma is not 0."""
    if gamma > 0 and not frames.requires_grad:
        frames = frames.detach().requires_grad_()
    shown = frames
    if opponents.is_conditional:
        enlarged = F.interpolate(middle_frame(part.inputs[0]), frames.shape[-2:], mode="bicubic")
        shown = torch.cat([frames, enlarged], 1)
    # The gradients that penalties square are too small for float16.
    is_wide = gamma > 0 and opponents.numerics.dtype == torch.float16
    with full_precision(frames) if is_wide else opponents.numerics.autocast(frames.device):
        return _Seen(frames, opponents.discriminator.features(shown))


def _slope(loss: AdversarialLoss, player: Player, true_logits: Tensor, made_logits: Tensor) -> Tensor:
    """Sum of the absolute derivatives of a player's loss by all logits; those it does not look at have 0."""
    logits = [widened(each.detach()).requires_grad_() for each in (true_logits, made_logits)]
    of_player = loss.generator if player is Player.GENERATOR else loss.discriminator
    with torch.enable_grad():
        gradients = torch.autograd.grad(of_player(*logits), logits, materialize_grads=True)
    return torch.stack([gradient.abs().sum() for gradient in gradients]).sum()


def _colors(sr_frames: Tensor, hr_frames: Tensor) -> Notes:
    """How far colours are off, in 8-bit codes: means of each channel, and of coarse differences."""
    differences = _CODES * (sr_frames - hr_frames)
    coarse = F.avg_pool2d(differences, [min(_COARSE_PX, side) for side in differences.shape[-2:]])
    return {"color_bias": differences.mean((0, 2, 3)), "color_error": coarse.abs().mean()}


def _variety(sr_frames: Tensor, hr_frames: Tensor) -> Notes:
    """How much made pictures differ from each other, in relation to true ones."""
    made, true = (frames.var(0, correction=0).mean() for frames in (sr_frames, hr_frames))
    return {"variety": (made / true.clamp_min(torch.finfo(true.dtype).tiny)).sqrt()}


def _copies(buffers: Iterable[Tensor]) -> list[Tensor]:
    return [buffer.clone() for buffer in buffers]
