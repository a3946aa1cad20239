"""GEM: generator and discriminator moved together along look-ahead, conjugate-type directions.

Nonlinear conjugate gradients for GANs: Conjugate Gradient Method for Generative Adversarial Networks,
Naganuma and Iiduka 2023 (arXiv:2203.14495). There each player has its own direction, the players take turns,
and the gradient is taken where the player stands. Here gradients of both are taken at one point ahead, one
coefficient serves both, and directions are preconditioned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.train.game import Player

T = TypeVar("T")


class BetaRule(StrEnum):
    """How much of the last direction d' is kept: from gradients g and g', and their difference y = g - g'."""

    PRP_PLUS = "prp+"  # max(0, g.y / g'.g'), Polak, Ribiere and Polyak, as Powell mends it
    PRP = "prp"  # g.y / g'.g'
    FR = "fr"  # g.g / g'.g', Fletcher and Reeves
    HS = "hs"  # g.y / d'.y, Hestenes and Stiefel
    DY = "dy"  # g.g / d'.y, Dai and Yuan
    CONSTANT = "constant"  # the cap itself; 0 gives past extragradient


class LookAhead(StrEnum):
    """How far along the last direction gradients are taken, in steps."""

    SCALED = "scaled"  # 1 / (1 - beta): as far as momentum carries in the end
    UNSCALED = "unscaled"  # 1: on a bilinear game every constant beta above 1/3 diverges
    NONE = "none"  # 0: simultaneous conjugate gradients, which diverge on a bilinear game


@dataclass(frozen=True)
class GemSettings:
    """What GEM does but for its learning rates.

    Attributes:
        beta_rule: Formula of the coefficient beta.
        beta_cap: Largest beta, 0 <= beta_cap < 1; the smallest is 0 for PRP+ and -beta_cap for others. Noise
            in gradients drives PRP to it.
        per_player: One coefficient for each player, from its own gradients, in place of a joint one. The
            larger network decides a joint one.
        same_batch: Take y between two gradients on the same batch, free of the noise that tells batches
            apart. Costs a second evaluation in each step.
        look_ahead: Where gradients are taken.
        preconditioned: Divide by Adam's second moment.
        beta2: Decay of that moment for each step.
        eps: Added to its root.
        restart_on_ascent: Drop the last direction where a player would climb its own loss with it.
        restart_every: Drop it after so many steps in any case; 0: never.
    """

    beta_rule: BetaRule = BetaRule.PRP_PLUS
    beta_cap: float = 0.25
    per_player: bool = False
    same_batch: bool = False
    look_ahead: LookAhead = LookAhead.SCALED
    preconditioned: bool = True
    beta2: float = 0.99
    eps: float = 1e-8
    restart_on_ascent: bool = True
    restart_every: int = 1000

    def __post_init__(self) -> None:
        for name, value, right in (
            ("beta_cap", self.beta_cap, 0 <= self.beta_cap < 1),
            ("beta2", self.beta2, 0 <= self.beta2 < 1),
            ("eps", self.eps, self.eps > 0),
            ("restart_every", self.restart_every, self.restart_every >= 0),
        ):
            if not right:
                raise SpecError(
                    "a setting of GEM is out of range",
                    where=f"game.updates.gem.{name}",
                    got=str(value),
                    expected="0 <= beta_cap < 1, 0 <= beta2 < 1, eps > 0 and restart_every >= 0",
                )


@dataclass(frozen=True)
class GemFigures:
    """What one step of GEM came to, as scalars on the parameters' device.

    Attributes:
        betas: Coefficient that each player's direction was made with: the same for both unless per player.
        shares: Weight of each player in the joint coefficient, which is the mean of the players' own so
            weighted (before the clip). They sum to 1, or are 0 where there is nothing to share.
        restarted: Whether the last direction was dropped by rule, true or false for each player.
    """

    betas: dict[Player, Tensor]
    shares: dict[Player, Tensor]
    restarted: dict[Player, Tensor]


class Gem(torch.optim.Optimizer):
    """CG-type momentum on the vector field of a game, with a look-ahead.

    With z all parameters of both players, v(z) each player's gradient of its own loss, both at the same
    point, L the learning rates and M the root of Adam's bias-corrected second moment (or 1), one step is

        ahead = z + L d' / (1 - beta')          d' and beta' of the last step
        g = v(ahead), y = g - g'                g' of the last step
        beta = clip(<g, y> / <g', g'>, 0, cap)  <a, b> = sum of L a b / M over both players
        d = -g / M + beta d'
        z <- z + L d

    beta is 0 where it is not finite, where either player has <g, d> >= 0 (there without 1/M, which d has),
    and in every step whose number `restart_every` divides.

    What holds: with beta 0 and M = 1 this is past extragradient (Popov 1980), which converges on bilinear
    games, where simultaneous descent diverges. With a constant beta below 1 it still does, at learning rates
    that are small enough, thanks to the factor 1 / (1 - beta) of the look-ahead; with a factor of 1 it
    diverges for every beta above 1/3 at every learning rate.

    What is not claimed: conjugacy. A game has no Hessian to be conjugate in, and y is taken between
    look-ahead points and between different batches. This is momentum whose coefficient a CG formula sets, and
    in toys the formula hardly sets it: PRP+ stays near 0 on a bilinear game without noise, and at its cap
    with noise and on eight Gaussians. Beside it belong runs with `CONSTANT` at the mean beta, and at 0, which
    is optimistic Adam seen from z in place of the look-ahead point.

    Between steps parameters are z. Buffers that forward passes move (batch and spectral normalisation) and
    random numbers that they draw are those of the look-ahead point: nowhere else is there a forward pass.

    `param_groups` has one group for each player: `role`, `params`, and the learning rate under `lr`, where
    PyTorch's schedulers look for it.
    """

    def __init__(
        self,
        parameters: Mapping[Player, Sequence[Tensor]],
        learning_rates: Mapping[Player, float],
        settings: GemSettings | None = None,
    ) -> None:
        groups = [
            {
                "params": list(parameters[player]),
                "role": player.value,
                "lr": learning_rates[player],
                "num_steps": 0,
                "beta": torch.zeros(()),
            }
            for player in Player
        ]
        super().__init__(groups, {})
        self.settings = settings or GemSettings()
        self.figures: GemFigures | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], T]) -> T:  # type: ignore[override]
        """Moves all parameters by one step and gives back what `closure` returned at the look-ahead point.

        Args:
            closure: Puts each player's gradient at the present parameters, on the present batch, into `grad`.
                It raises where one is not finite: nothing has changed then. `same_batch` calls it twice.
        """
        sides = [_Side.of(group, self.state, self.settings) for group in self.param_groups]
        start = [side.copy_of_parameters() for side in sides]
        try:
            if self.settings.same_batch and sides[0].num_steps:
                before = self._gradients_where_last_ones_were_taken(sides, closure, start)
            else:
                before = [side.last_gradients for side in sides]
            for side in sides:
                side.look_ahead(self.settings.look_ahead)
            points = [side.copy_of_parameters() for side in sides] if self.settings.same_batch else []
            value = closure()
        finally:
            for side, parameters in zip(sides, start, strict=True):
                torch._foreach_copy_(side.parameters, parameters)
        self._move(sides, before, points)
        return value

    def _move(
        self, sides: Sequence[_Side], before: Sequence[list[Tensor]], points: Sequence[list[Tensor]]
    ) -> None:
        scales = [side.scales(self.settings) for side in sides]
        products = {
            side.player: side.products(side_scales, last)
            for side, side_scales, last in zip(sides, scales, before, strict=True)
        }
        self.figures = _figures(products, sides[0].num_steps, self.settings)
        for side, side_scales, group in zip(sides, scales, self.param_groups, strict=True):
            group["beta"] = self.figures.betas[side.player]
            group["num_steps"] = side.num_steps + 1
            side.move(side_scales, group["beta"])
        for side, point in zip(sides, points, strict=False):
            torch._foreach_copy_(side.last_points, point)

    @staticmethod
    def _gradients_where_last_ones_were_taken(
        sides: Sequence[_Side], closure: Callable[[], Any], start: Sequence[Sequence[Tensor]]
    ) -> list[list[Tensor]]:
        for side in sides:
            torch._foreach_copy_(side.parameters, side.last_points)
        closure()
        gradients = [[gradient.clone() for gradient in side.gradients()] for side in sides]
        for side, parameters in zip(sides, start, strict=True):
            torch._foreach_copy_(side.parameters, list(parameters))
        return gradients


@dataclass(frozen=True)
class _Products:
    """Inner products over parameters, each times its learning rate; "steep" is the gradient divided by M.

    `last_steep` is the last gradient, divided by the present M, and d the last direction.
    """

    steep_y: Tensor
    steep_g: Tensor
    last_steep_g: Tensor
    d_g: Tensor
    d_y: Tensor
    d_d: Tensor
    y_y: Tensor

    def __add__(self, other: _Products) -> _Products:
        mine, others = vars(self), vars(other)
        return _Products(**{name: mine[name] + others[name] for name in mine})

    def numerator(self, rule: BetaRule) -> Tensor:
        return self.steep_g if rule in (BetaRule.FR, BetaRule.DY) else self.steep_y

    def denominator(self, rule: BetaRule) -> Tensor:
        if rule not in (BetaRule.HS, BetaRule.DY):
            return self.last_steep_g
        # Along fields that rotate, d.y vanishes or changes its sign, and what it divides explodes.
        smallest = 1e-8 * (self.d_d * self.y_y).sqrt()
        return torch.where(self.d_y > smallest, self.d_y, torch.zeros_like(self.d_y))

    def climbs_with(self, beta: Tensor) -> Tensor:
        """Whether the player's own loss does not fall along the direction that this coefficient makes."""
        return beta * self.d_g - self.steep_g >= 0


def _figures(products: Mapping[Player, _Products], num_steps: int, settings: GemSettings) -> GemFigures:
    """The coefficients, after clip and restarts, before the step that makes it `num_steps + 1`."""
    total = products[Player.GENERATOR] + products[Player.DISCRIMINATOR]
    parts = products if settings.per_player else dict.fromkeys(Player, total)
    raw = {player: _coefficient(parts[player], settings) for player in Player}
    restarted = {player: ~raw[player].isfinite() for player in Player}
    betas = {player: torch.where(restarted[player], 0, raw[player]) for player in Player}
    if settings.restart_on_ascent:
        climbs = {player: products[player].climbs_with(betas[player]) for player in Player}
        if not settings.per_player:
            climbs = dict.fromkeys(Player, climbs[Player.GENERATOR] | climbs[Player.DISCRIMINATOR])
        restarted = {player: restarted[player] | climbs[player] for player in Player}
    if num_steps == 0 or (settings.restart_every and num_steps % settings.restart_every == 0):
        restarted = {player: torch.ones_like(restarted[player]) for player in Player}
    return GemFigures(
        betas={player: torch.where(restarted[player], 0, betas[player]) for player in Player},
        shares=_shares({player: products[player].denominator(settings.beta_rule) for player in Player}),
        restarted=restarted,
    )


def _shares(weights: Mapping[Player, Tensor]) -> dict[Player, Tensor]:
    total = weights[Player.GENERATOR] + weights[Player.DISCRIMINATOR]
    return {player: torch.where(total > 0, weights[player] / total, 0) for player in Player}


def _coefficient(products: _Products, settings: GemSettings) -> Tensor:
    """Beta, clipped; not finite where the formula gives none."""
    rule, cap = settings.beta_rule, settings.beta_cap
    if rule is BetaRule.CONSTANT:
        return torch.full_like(products.steep_g, cap)
    ratio = products.numerator(rule) / products.denominator(rule)
    lowest = 0.0 if rule is BetaRule.PRP_PLUS else -cap
    return torch.where(ratio.isfinite(), ratio.clamp(lowest, cap), ratio)


@dataclass(frozen=True)
class _Side:
    """One player's parameters and state: lists in the order of its parameters, changed in place."""

    player: Player
    learning_rate: float
    num_steps: int
    last_beta: Tensor
    parameters: list[Tensor]
    directions: list[Tensor]
    last_gradients: list[Tensor]
    second_moments: list[Tensor]
    last_points: list[Tensor]

    @classmethod
    def of(
        cls, group: dict[str, Any], state: Mapping[Tensor, dict[str, Tensor]], settings: GemSettings
    ) -> _Side:
        """The side of a parameter group with its entries in the optimiser's state; new entries are zeros."""
        names = ["direction", "gradient"]
        names += ["second_moment"] if settings.preconditioned else []
        names += ["point"] if settings.same_batch else []
        parameters: list[Tensor] = group["params"]
        for parameter in parameters:
            for name in names:
                if name not in state[parameter]:
                    state[parameter][name] = torch.zeros_like(parameter)
        lists = {name: [state[parameter][name] for parameter in parameters] for name in names}
        return cls(
            player=Player(group["role"]),
            learning_rate=group["lr"],
            num_steps=group["num_steps"],
            last_beta=group["beta"].to(parameters[0].device),
            parameters=parameters,
            directions=lists["direction"],
            last_gradients=lists["gradient"],
            second_moments=lists.get("second_moment", []),
            last_points=lists.get("point", []),
        )

    def copy_of_parameters(self) -> list[Tensor]:
        return [parameter.clone() for parameter in self.parameters]

    def gradients(self) -> list[Tensor]:
        return [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self.parameters
        ]

    def look_ahead(self, look_ahead: LookAhead) -> None:
        """Moves the parameters to where gradients are to be taken."""
        if look_ahead is LookAhead.NONE:
            return
        factor = (
            1 / (1 - self.last_beta) if look_ahead is LookAhead.SCALED else torch.ones_like(self.last_beta)
        )
        torch._foreach_add_(self.parameters, torch._foreach_mul(self.directions, self.learning_rate * factor))

    def scales(self, settings: GemSettings) -> list[Tensor]:
        """M for each parameter, the new gradients taken in; nothing where M is 1."""
        if not settings.preconditioned:
            return []
        gradients = self.gradients()
        torch._foreach_mul_(self.second_moments, settings.beta2)
        torch._foreach_addcmul_(self.second_moments, gradients, gradients, 1 - settings.beta2)
        scales = torch._foreach_sqrt(self.second_moments)
        torch._foreach_div_(scales, math.sqrt(1 - settings.beta2 ** (self.num_steps + 1)))
        torch._foreach_add_(scales, settings.eps)
        return list(scales)

    def products(self, scales: list[Tensor], last_gradients: list[Tensor]) -> _Products:
        """What coefficients are made of; the new gradients are compared with `last_gradients`."""
        g, last, d = _flat(self.gradients()), _flat(last_gradients), _flat(self.directions)
        steep, last_steep = (g / _flat(scales), last / _flat(scales)) if scales else (g, last)
        y, rate = g - last, self.learning_rate
        return _Products(
            steep_y=rate * steep.dot(y),
            steep_g=rate * steep.dot(g),
            last_steep_g=rate * last_steep.dot(last),
            d_g=rate * d.dot(g),
            d_y=rate * d.dot(y),
            d_d=rate * d.dot(d),
            y_y=rate * y.dot(y),
        )

    def move(self, scales: list[Tensor], beta: Tensor) -> None:
        """Turns the direction and takes the step along it."""
        gradients = self.gradients()
        torch._foreach_copy_(self.last_gradients, gradients)
        torch._foreach_mul_(self.directions, beta)
        if scales:
            torch._foreach_addcdiv_(self.directions, gradients, scales, -1.0)
        else:
            torch._foreach_sub_(self.directions, gradients)
        torch._foreach_add_(self.parameters, self.directions, alpha=self.learning_rate)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """All in one row, at least in float32."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    return flat.to(torch.promote_types(flat.dtype, torch.float32))
