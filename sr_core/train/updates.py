"""Update rules: from a game to changed parameters of both players, one batch at a time.

Every rule is a transaction: where a loss or gradient is not finite, nothing has changed, neither a parameter
nor what the rule remembers.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.train.game import Evaluation, Game, GradientSource, Parameters, Player, Reduce, single_rank
from sr_core.train.gem import Gem, GemFigures, GemSettings

BOTH = (Player.GENERATOR, Player.DISCRIMINATOR)


class RuleName(StrEnum):
    """The update rules."""

    ALTERNATING = "alternating"
    SIMULTANEOUS = "simultaneous"
    OPTIMISTIC = "optimistic"
    EXTRAGRADIENT = "extragradient"
    GEM = "gem"


@dataclass(frozen=True)
class AdamSettings:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980).

    Attributes:
        beta1: Decay of the mean gradient for each step. Often 0 or 0.5 in games, where momentum harms.
        beta2: Decay of the mean squared gradient.
        eps: Added to its root.
    """

    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps > 0):
            raise SpecError(
                "a setting of Adam is out of range",
                where="game.updates.adam",
                got=f"beta1 {self.beta1}, beta2 {self.beta2}, eps {self.eps}",
                expected="0 <= beta1 < 1, 0 <= beta2 < 1 and eps > 0",
            )


@dataclass(frozen=True)
class UpdateSettings:
    """How both players are moved.

    Attributes:
        rule: Alternating and simultaneous descent, optimistic descent, extragradient, or gem.
        learning_rates: Of each player, before the schedule. A discriminator that learns faster is TTUR
            (Heusel et al. 2017, arXiv:1706.08500).
        adam: What all rules but gem make directions with.
        gem: What gem does.
    """

    rule: RuleName = RuleName.ALTERNATING
    learning_rates: Mapping[Player, float] = field(default_factory=lambda: dict.fromkeys(Player, 1e-4))
    adam: AdamSettings | None = field(default_factory=AdamSettings)  # None is the bare gradient
    gem: GemSettings = field(default_factory=GemSettings)

    def __post_init__(self) -> None:
        rates = [self.learning_rates.get(player, 0.0) for player in Player]
        if not all(rate > 0 and math.isfinite(rate) for rate in rates):
            raise SpecError(
                "both players need a learning rate",
                where="game.updates.learning_rates",
                got=str({str(player): rate for player, rate in self.learning_rates.items()}),
                expected="a positive number for generator and discriminator",
            )


@dataclass(frozen=True)
class UpdateLog:
    """What one step tells, as scalars on the device: reading one waits for it.

    Attributes:
        losses: Of each player, where its gradient was taken last.
        gradient_norms: Of each player there, before clipping.
        num_gradients: How often a gradient of each player was taken: the cost of the step.
        gem: What GEM tells besides.
    """

    losses: dict[Player, Tensor]
    gradient_norms: dict[Player, Tensor]
    num_gradients: int
    gem: GemFigures | None = None

    def numbers(self) -> dict[str, float]:
        """All as numbers, by names such as `generator/gradient_norm`; the device is waited for once."""
        columns = {"loss": self.losses, "gradient_norm": self.gradient_norms}
        if self.gem:
            columns |= {"beta": self.gem.betas, "share": self.gem.shares, "restarted": self.gem.restarted}
        names = [f"{player}/{name}" for name, column in columns.items() for player in column]
        values = torch.stack([value.double() for column in columns.values() for value in column.values()])
        return dict(zip(names, values.tolist(), strict=True))


class UpdateRule(ABC):
    """Changes the parameters of both players, and remembers what it needs for the next time.

    It is bound to the parameters of one pair of networks, which `source` evaluates games by.
    """

    name: RuleName

    def __init__(self, source: GradientSource, settings: UpdateSettings) -> None:
        self.source = source
        self.settings = settings

    @abstractmethod
    def step(self, game: Game, share: float = 1.0) -> UpdateLog:
        """Changes all parameters, at `share` of the learning rates.

        Raises:
            TrainError: A loss or gradient is not finite. Nothing has changed.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers, without the parameters; its tensors change with the next step."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where the rule was that `state` is of.

        Raises:
            SpecError: It was another rule.
        """

    def _check_rule_of(self, state: Mapping[str, Any]) -> None:
        if state["rule"] != self.name.value:
            raise SpecError(
                "the checkpoint was trained by another update rule",
                where="game.updates.rule",
                got=self.name,
                expected=str(state["rule"]),
                next_step="go on with that rule, or start a new stage from its weights",
            )


@dataclass(frozen=True)
class Moments:
    """What Adam knows of one player's gradients; never changed, but replaced.

    Attributes:
        num_steps: Gradients seen.
        first: Their decaying mean, for each parameter; empty for the bare gradient.
        second: That of their squares.
    """

    num_steps: int
    first: list[Tensor]
    second: list[Tensor]

    @classmethod
    def none(cls, parameters: Sequence[Tensor]) -> Moments:
        """Before the first gradient."""
        return cls(0, _zeros(parameters), _zeros(parameters))

    def after(self, gradients: Sequence[Tensor], adam: AdamSettings) -> Moments:
        """With one more gradient."""
        first = list(torch._foreach_lerp(self.first, list(gradients), 1 - adam.beta1))
        second = list(torch._foreach_mul(self.second, adam.beta2))
        torch._foreach_addcmul_(second, list(gradients), list(gradients), 1 - adam.beta2)
        return Moments(self.num_steps + 1, first, second)

    def direction(self, adam: AdamSettings) -> list[Tensor]:
        """What to subtract from the parameters, times a learning rate."""
        scales = torch._foreach_sqrt(self.second)
        torch._foreach_div_(scales, math.sqrt(1 - adam.beta2**self.num_steps))
        torch._foreach_add_(scales, adam.eps)
        directions = torch._foreach_div(self.first, scales)
        return list(torch._foreach_div(directions, 1 - adam.beta1**self.num_steps))

    def state_dict(self) -> dict[str, Any]:
        """As plain lists."""
        return {"num_steps": self.num_steps, "first": self.first, "second": self.second}


class AdamRule(UpdateRule):
    """A rule that makes directions by Adam, or of the bare gradient."""

    def __init__(self, source: GradientSource, settings: UpdateSettings) -> None:
        super().__init__(source, settings)
        self.moments = {player: Moments.none(source.parameters[player]) for player in Player}

    def _descent(
        self, player: Player, moments: Moments, evaluation: Evaluation
    ) -> tuple[Moments, list[Tensor]]:
        """The moments after a player's gradient, and the direction that it makes with them."""
        gradients, adam = evaluation.gradients[player], self.settings.adam
        if adam is None:
            return moments, gradients
        moments = moments.after(gradients, adam)
        return moments, moments.direction(adam)

    def _walk(self, player: Player, direction: Sequence[Tensor], share: float) -> None:
        rate = share * self.settings.learning_rates[player]
        with torch.no_grad():
            torch._foreach_sub_(list(self.source.parameters[player]), list(direction), alpha=rate)

    def state_dict(self) -> dict[str, Any]:
        """See `UpdateRule`."""
        moments = {player.value: self.moments[player].state_dict() for player in Player}
        return {"rule": self.name.value, "moments": moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `UpdateRule`."""
        self._check_rule_of(state)
        for player in Player:
            of_player = state["moments"][player.value]
            parameters = self.source.parameters[player]
            first, second = (_like(parameters, of_player[name]) for name in ("first", "second"))
            self.moments[player] = Moments(of_player["num_steps"], first, second)


class Alternating(AdamRule):
    """The discriminator moves, then the generator against the new one (Goodfellow et al. 2014)."""

    name = RuleName.ALTERNATING

    def step(self, game: Game, share: float = 1.0) -> UpdateLog:
        """See `UpdateRule`."""
        first, second = Player.DISCRIMINATOR, Player.GENERATOR
        with ExitStack() as undo:
            of_first = self.source.evaluate(game, (first,))
            first_moments, direction = self._descent(first, self.moments[first], of_first)
            undo.callback(_put, self.source.parameters[first], _copies(self.source.parameters[first]))
            self._walk(first, direction, share)
            of_second = self.source.evaluate(game, (second,))
            second_moments, direction = self._descent(second, self.moments[second], of_second)
            self._walk(second, direction, share)
            undo.pop_all()
        self.moments = {first: first_moments, second: second_moments}
        return UpdateLog(of_second.losses | of_first.losses, of_second.norms | of_first.norms, 1)


class Simultaneous(AdamRule):
    """Both move by gradients at the same point. On games that rotate it spirals outward; here to compare."""

    name = RuleName.SIMULTANEOUS

    def step(self, game: Game, share: float = 1.0) -> UpdateLog:
        """See `UpdateRule`."""
        evaluation = self.source.evaluate(game, BOTH)
        for player in BOTH:
            self.moments[player], direction = self._descent(player, self.moments[player], evaluation)
            self._walk(player, direction, share)
        return UpdateLog(evaluation.losses, evaluation.norms, 1)


class Optimistic(AdamRule):
    """Both move by twice the present step less the last one (Daskalakis et al. 2018, arXiv:1711.00141).

    Without Adam it is past extragradient, seen from the points where gradients are taken.
    """

    name = RuleName.OPTIMISTIC

    def __init__(self, source: GradientSource, settings: UpdateSettings) -> None:
        super().__init__(source, settings)
        self.last_steps = {player: _zeros(source.parameters[player]) for player in Player}

    def step(self, game: Game, share: float = 1.0) -> UpdateLog:
        """See `UpdateRule`."""
        evaluation = self.source.evaluate(game, BOTH)
        for player in BOTH:
            self.moments[player], direction = self._descent(player, self.moments[player], evaluation)
            steps = list(torch._foreach_mul(direction, share * self.settings.learning_rates[player]))
            change = torch._foreach_sub(torch._foreach_mul(steps, 2.0), self.last_steps[player])
            with torch.no_grad():
                torch._foreach_sub_(list(self.source.parameters[player]), change)
            self.last_steps[player] = steps
        return UpdateLog(evaluation.losses, evaluation.norms, 1)

    def state_dict(self) -> dict[str, Any]:
        """See `UpdateRule`."""
        last_steps = {player.value: steps for player, steps in self.last_steps.items()}
        return super().state_dict() | {"last_steps": last_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `UpdateRule`."""
        super().load_state_dict(state)
        self.last_steps = {
            Player(name): _like(self.source.parameters[Player(name)], steps)
            for name, steps in state["last_steps"].items()
        }


class Extragradient(AdamRule):
    """Both move by gradients at the point that a first step leads to (Korpelevich 1976).

    With Adam, both gradients enter the moments, as in Gidel et al. 2019 (arXiv:1802.10551). They are taken on
    the same batch.
    """

    name = RuleName.EXTRAGRADIENT

    def step(self, game: Game, share: float = 1.0) -> UpdateLog:
        """See `UpdateRule`."""
        start = {player: _copies(self.source.parameters[player]) for player in BOTH}
        here = self.source.evaluate(game, BOTH)
        moments = {}
        try:
            for player in BOTH:
                moments[player], direction = self._descent(player, self.moments[player], here)
                self._walk(player, direction, share)
            there = self.source.evaluate(game, BOTH)
        finally:
            for player in BOTH:
                _put(self.source.parameters[player], start[player])
        for player in BOTH:
            self.moments[player], direction = self._descent(player, moments[player], there)
            self._walk(player, direction, share)
        return UpdateLog(there.losses, there.norms, 2)


class GemRule(UpdateRule):
    """The optimiser of `sr_core.train.gem` on a game."""

    name = RuleName.GEM

    def __init__(self, source: GradientSource, settings: UpdateSettings) -> None:
        super().__init__(source, settings)
        self.optimizer = Gem(source.parameters, settings.learning_rates, settings.gem)

    def step(self, game: Game, share: float = 1.0) -> UpdateLog:
        """See `UpdateRule`."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.settings.learning_rates[Player(group["role"])]
        num_gradients = 0

        def evaluate() -> Evaluation:
            nonlocal num_gradients
            num_gradients += 1
            evaluation = self.source.evaluate(game, BOTH)
            for player in BOTH:
                gradients = evaluation.gradients[player]
                for parameter, gradient in zip(self.source.parameters[player], gradients, strict=True):
                    parameter.grad = gradient
            return evaluation

        evaluation = self.optimizer.step(evaluate)
        self.optimizer.zero_grad(set_to_none=True)
        return UpdateLog(evaluation.losses, evaluation.norms, num_gradients, self.optimizer.figures)

    def state_dict(self) -> dict[str, Any]:
        """See `UpdateRule`."""
        return {"rule": self.name.value, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `UpdateRule`."""
        self._check_rule_of(state)
        # PyTorch keeps the very tensors that it is given, and every step changes them in place.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


RULES: tuple[type[UpdateRule], ...] = (Alternating, Simultaneous, Optimistic, Extragradient, GemRule)


def update_rule(
    parameters: Parameters,
    settings: UpdateSettings,
    reduce: Reduce = single_rank,
    clip_norms: Mapping[Player, float] | None = None,
) -> UpdateRule:
    """The rule that the settings name, for one pair of networks.

    Args:
        parameters: Of each player: those that are to be trained.
        settings: How.
        reduce: Averages tensors over the ranks, in place. See `GradientSource`, as of `clip_norms`.
        clip_norms: Norms that gradients are scaled down to where they are larger; of none by default.
    """
    source = GradientSource(parameters, clip_norms or {}, reduce)
    rules = {rule.name: rule for rule in RULES}
    return rules[settings.rule](source, settings)


def _zeros(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(tensor, requires_grad=False) for tensor in tensors]


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _put(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(list(targets), list(values))


def _like(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
    """Copies of the values, on the devices of the parameters."""
    return [
        value.detach().to(parameter.device, copy=True)
        for parameter, value in zip(parameters, values, strict=True)
    ]
