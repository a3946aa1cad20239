"""A game of two players on one batch, and the gradients of their losses at the present point.

Update rules differ in the points at which they ask for gradients and in what they make of them. What has to
happen to a gradient before any rule may see it lies here, so that it is the same for all: the sum over parts
of a batch, the average over ranks, the check that it is finite, and clipping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from sr_core.errors import SpecError, TrainError


class Player(StrEnum):
    """Who plays, each with parameters and a loss of its own."""

    GENERATOR = "generator"
    DISCRIMINATOR = "discriminator"


class Game(Protocol):
    """The losses on one batch as functions of the present parameters.

    Asked twice at the same parameters, a game gives the same losses: random numbers (noise, penalties,
    dropout) belong to the batch. Every answer is a forward pass in training mode, though, and moves the
    buffers of batch and spectral normalisation.

    Attributes:
        num_parts: In how many parts the batch is worked off, one after the other, where memory is short.
        loss_scale: What losses are multiplied with before they are differentiated, and gradients divided by
            after: 1 but for float16, whose small gradients vanish without it.
    """

    @property
    def num_parts(self) -> int: ...  # noqa: D102 - see the class

    @property
    def loss_scale(self) -> float: ...  # noqa: D102 - see the class

    def losses(self, players: Sequence[Player], part: int) -> Sequence[Tensor]:
        """What part number `part` adds to the losses (scalars) that `players` minimise, in that order.

        All may come from one forward pass: each is differentiated by its own player's parameters alone, so a
        discriminator's loss need not detach the generator's pictures where both are asked for.
        """
        ...


Parameters = Mapping[Player, Sequence[Tensor]]

Reduce = Callable[[list[Tensor]], None]


def single_rank(tensors: list[Tensor]) -> None:
    """What averaging over the ranks comes to where there is one: nothing."""


@dataclass(frozen=True)
class Evaluation:
    """Losses and gradients of some players, all at one point.

    Attributes:
        losses: Scalars, summed over parts and averaged over ranks.
        gradients: One for each parameter, summed over parts and averaged over ranks, clipped.
        norms: Euclidean norm over all of a player's gradients before they were clipped.
    """

    losses: dict[Player, Tensor]
    gradients: dict[Player, list[Tensor]]
    norms: dict[Player, Tensor]


@dataclass(frozen=True)
class GradientSource:
    """Evaluates games by fixed parameters.

    Attributes:
        parameters: Of each player; all of them require gradients.
        clip_norms: Norm that a player's gradients are scaled down to where they are larger; none: never.
        reduce: Replaces tensors, in place, by their average over the ranks. It gets gradients and losses, so
            that whatever is computed from them, or wrong with them, is the same on all ranks.
    """

    parameters: Parameters
    clip_norms: Mapping[Player, float] = field(default_factory=dict)
    reduce: Reduce = single_rank

    def __post_init__(self) -> None:
        for player in Player:
            if not self.parameters[player]:
                raise SpecError(
                    "a player has no parameters",
                    where=player,
                    next_step="train a network without an opponent by its own loss alone",
                )
        for player, norm in self.clip_norms.items():
            if not norm > 0:
                raise SpecError("a clipping norm must be positive", where=player, got=str(norm))

    def evaluate(self, game: Game, players: Sequence[Player]) -> Evaluation:
        """Losses and gradients of `players` at the present parameters, which stay as they are.

        Raises:
            TrainError: A loss or a gradient is not finite. On all ranks at once.
        """
        losses, gradients = self._sum_over_parts(game, players)
        self.reduce([tensor for player in players for tensor in (*gradients[player], losses[player])])
        norms = {player: _norm(gradients[player]) for player in players}
        _check_finite(losses, norms)
        for player in players:
            if player in self.clip_norms:
                excess = norms[player] / self.clip_norms[player]
                torch._foreach_div_(gradients[player], excess.clamp(min=1.0))
        return Evaluation(losses, gradients, norms)

    def _sum_over_parts(
        self, game: Game, players: Sequence[Player]
    ) -> tuple[dict[Player, Tensor], dict[Player, list[Tensor]]]:
        losses, gradients = self._on_part(game, players, 0)
        for part in range(1, game.num_parts):
            more_losses, more_gradients = self._on_part(game, players, part)
            for player in players:
                losses[player] += more_losses[player]
                torch._foreach_add_(gradients[player], more_gradients[player])
        for player in players:
            torch._foreach_div_(gradients[player], game.loss_scale)
        return losses, gradients

    def _on_part(
        self, game: Game, players: Sequence[Player], part: int
    ) -> tuple[dict[Player, Tensor], dict[Player, list[Tensor]]]:
        losses: dict[Player, Tensor] = {}
        gradients: dict[Player, list[Tensor]] = {}
        with torch.enable_grad():
            for player, loss in zip(players, game.losses(players, part), strict=True):
                shared = torch.autograd.grad(
                    loss * game.loss_scale,
                    list(self.parameters[player]),
                    retain_graph=player != players[-1],
                    materialize_grads=True,
                )
                # Autograd may hand out one tensor twice, or a view of one of its own.
                gradients[player] = [gradient.clone() for gradient in shared]
                losses[player] = loss.detach().clone()
        return losses, gradients


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(tensors)))))
    return norm


def _check_finite(losses: Mapping[Player, Tensor], norms: Mapping[Player, Tensor]) -> None:
    # The only place where a step waits for the device: no parameter may change before this is known.
    numbers = torch.stack(
        [loss.to(norms[player].dtype) for player, loss in losses.items()] + [*norms.values()]
    )
    names = [f"{player}'s loss" for player in losses] + [f"{player}'s gradient" for player in norms]
    values = dict(zip(names, numbers.tolist(), strict=True))
    wrong = {name: value for name, value in values.items() if not abs(value) < float("inf")}
    if wrong:
        raise TrainError(
            f"the {' and the '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not finite",
            got=", ".join(f"{name} {value:g}" for name, value in values.items()),
            expected="finite numbers; no parameter has changed",
            next_step="look at the batch; else lower the learning rates or clip gradients",
        )
