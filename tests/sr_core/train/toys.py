"""Games small enough to know the answer of: bilinear, Dirac-GAN, and a mixture of eight Gaussians."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.errors import TrainError
from sr_core.train.game import Parameters, Player
from sr_core.train.gem import BetaRule, GemSettings, LookAhead
from sr_core.train.updates import AdamSettings, RuleName, UpdateLog, UpdateSettings, update_rule
from tests.sr_core.threads import one_thread


class WholeBatch:
    """What all these games have in common: one part, and float32 or more throughout."""

    num_parts = 1
    loss_scale = 1.0


class Bilinear(WholeBatch):
    """The generator's x makes x A y small, the discriminator's y makes it large; rest at 0.

    Singular values of A lie evenly from 0.5 to 1. With noise, gradients of each step have Gaussian noise.
    """

    def __init__(self, size: int = 5, *, seed: int = 0, noise: float = 0.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        left, right = (torch.linalg.qr(_normal(size, size, draw=draw)).Q for _ in range(2))
        self.matrix = left @ torch.diag(torch.linspace(0.5, 1.0, size, dtype=torch.float64)) @ right
        self.x, self.y = (_normal(size, draw=draw).requires_grad_() for _ in range(2))
        self.noise = noise
        self._draw = draw
        self.next_batch()

    @property
    def parameters(self) -> Parameters:
        return {Player.GENERATOR: [self.x], Player.DISCRIMINATOR: [self.y]}

    def next_batch(self) -> None:
        size = len(self.x)
        self.x_noise, self.y_noise = (self.noise * _normal(size, draw=self._draw) for _ in range(2))

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        value = self.x @ self.matrix @ self.y
        losses = {
            Player.GENERATOR: value + self.x_noise @ self.x,
            Player.DISCRIMINATOR: -value + self.y_noise @ self.y,
        }
        return [losses[player] for player in players]

    def distance(self) -> float:
        """From the solution."""
        return math.hypot(float(self.x.detach().norm()), float(self.y.detach().norm()))


class DiracGan(WholeBatch):
    """Dirac-GAN (Mescheder et al. 2018, arXiv:1801.04406): data is 0, made is theta, and D(x) = psi x.

    The discriminator has R1's gamma/2 psi^2 besides. The generator's loss is the minimax one, which is the
    discriminator's with the other sign, or the non-saturating one.
    """

    def __init__(self, gamma: float, *, saturating: bool = True) -> None:
        self.theta = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        self.psi = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        self.gamma, self.saturating = gamma, saturating

    @property
    def parameters(self) -> Parameters:
        return {Player.GENERATOR: [self.theta], Player.DISCRIMINATOR: [self.psi]}

    def next_batch(self) -> None:
        """All batches are one."""

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        judged = (self.psi * self.theta).sum()
        penalty = self.gamma / 2 * self.psi.square().sum()
        losses = {
            Player.GENERATOR: -F.softplus(judged) if self.saturating else F.softplus(-judged),
            Player.DISCRIMINATOR: F.softplus(judged) + penalty,
        }
        return [losses[player] for player in players]

    def distance(self) -> float:
        """From the solution."""
        return math.hypot(float(self.theta.detach()), float(self.psi.detach()))


class EightGaussians(WholeBatch):
    """Eight Gaussians of deviation 0.05 on a circle of radius 2, two small perceptrons, and R1."""

    def __init__(self, *, seed: int, r1: float = 0.1, width: int = 64, batch_size: int = 128) -> None:
        self._draw = torch.Generator().manual_seed(seed)
        self.generator = self._perceptron(8, width, 2)
        self.discriminator = self._perceptron(2, width, 1)
        self.r1, self.batch_size = r1, batch_size
        self.next_batch()

    def _perceptron(self, *sizes: int) -> nn.Module:
        first, width, last = sizes
        layers = [nn.Linear(first, width), nn.Linear(width, width), nn.Linear(width, last)]
        for layer in layers:
            bound = 1 / math.sqrt(layer.in_features)
            for parameter in (layer.weight, layer.bias):
                values = torch.rand(parameter.shape, generator=self._draw)
                parameter.data.copy_((2 * values - 1) * bound)
        activation = nn.LeakyReLU(0.2)
        return nn.Sequential(layers[0], activation, layers[1], activation, layers[2])

    @property
    def parameters(self) -> Parameters:
        return {
            Player.GENERATOR: list(self.generator.parameters()),
            Player.DISCRIMINATOR: list(self.discriminator.parameters()),
        }

    @staticmethod
    def _centres() -> Tensor:
        angles = torch.arange(8) * math.pi / 4
        return 2 * torch.stack([angles.cos(), angles.sin()], 1)

    def next_batch(self) -> None:
        modes = torch.randint(8, (self.batch_size,), generator=self._draw)
        spread = torch.randn(self.batch_size, 2, generator=self._draw)
        self.real = self._centres()[modes] + 0.05 * spread
        self.latent = torch.randn(self.batch_size, 8, generator=self._draw)

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        made = self.generator(self.latent)
        judged_made = self.discriminator(made)
        losses = []
        for player in players:
            if player is Player.GENERATOR:
                losses.append(F.softplus(-judged_made).mean())
            else:
                losses.append(F.softplus(judged_made).mean() + self._loss_on_real())
        return losses

    def _loss_on_real(self) -> Tensor:
        real = self.real.clone().requires_grad_()
        judged = self.discriminator(real)
        (slopes,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
        return F.softplus(-judged).mean() + self.r1 / 2 * slopes.square().sum(1).mean()

    @torch.no_grad()
    def quality(self) -> tuple[int, float]:
        """Modes that get at least a hundredth of 2000 points, and the share of points that are near a mode.

        Near is within 0.15: three deviations. The points are always the same draws of the latent.
        """
        latent = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
        distances, modes = torch.cdist(self.generator(latent), self._centres()).min(1)
        near = distances < 0.15
        counts = torch.bincount(modes[near], minlength=8)
        return int((counts >= 20).sum()), float(near.float().mean())


Toy = Bilinear | DiracGan | EightGaussians


@one_thread()
def play(toy: Toy, settings: UpdateSettings, num_steps: int) -> list[UpdateLog]:
    """Plays so many batches."""
    rule = update_rule(toy.parameters, settings)
    logs = []
    for _ in range(num_steps):
        logs.append(rule.step(toy))
        toy.next_batch()
    return logs


def ratio_after(toy: Bilinear | DiracGan, settings: UpdateSettings, num_steps: int = 2000) -> float:
    """How far from the solution it ends, over how far it began; infinite where it left the numbers."""
    start = toy.distance()
    try:
        play(toy, settings, num_steps)
    except TrainError:
        return math.inf
    return toy.distance() / start


def bare(rule: RuleName, learning_rate: float) -> UpdateSettings:
    """A rule without Adam."""
    return UpdateSettings(rule, dict.fromkeys(Player, learning_rate), adam=None)


def adam(rule: RuleName, learning_rate: float, beta1: float = 0.0) -> UpdateSettings:
    """A rule with Adam."""
    return UpdateSettings(rule, dict.fromkeys(Player, learning_rate), adam=AdamSettings(beta1, 0.99))


def bare_gem(
    learning_rate: float, beta_rule: BetaRule, cap: float = 0.25, **settings: object
) -> UpdateSettings:
    """GEM without preconditioner."""
    gem = GemSettings(beta_rule, cap, preconditioned=False, **settings)  # type: ignore[arg-type]
    return UpdateSettings(RuleName.GEM, dict.fromkeys(Player, learning_rate), gem=gem)


def constant_beta(learning_rate: float, beta: float, look_ahead: LookAhead) -> UpdateSettings:
    """The linear recursion of the theory: beta never changes."""
    return bare_gem(
        learning_rate,
        BetaRule.CONSTANT,
        beta,
        look_ahead=look_ahead,
        restart_on_ascent=False,
        restart_every=0,
    )


def gem(learning_rate: float, beta_rule: BetaRule, cap: float = 0.25, **settings: object) -> UpdateSettings:
    """GEM as it is meant."""
    chosen = GemSettings(beta_rule, cap, **settings)  # type: ignore[arg-type]
    return UpdateSettings(RuleName.GEM, dict.fromkeys(Player, learning_rate), gem=chosen)


def mean_beta(logs: Iterable[UpdateLog]) -> float:
    """The mean of the generator's, which is the joint one unless per player."""
    betas = [log.gem.betas[Player.GENERATOR] for log in logs if log.gem]
    return float(torch.stack(betas).mean()) if betas else 0.0


def growth(learning_rate: float, beta: float, gamma: float, singular_value: float = 1.0) -> float:
    """Largest modulus of the roots of the recursion on a bilinear game with constant beta.

    z_{k+1} = z_k - a (z_k + gamma s) + beta s with s = z_k - z_{k-1}
    and a = i * learning rate * singular value.
    """
    a = 1j * learning_rate * singular_value
    companion = torch.tensor([[1 + beta - a * (1 + gamma), a * gamma - beta], [1, 0]], dtype=torch.complex128)
    return float(torch.linalg.eigvals(companion).abs().max())


@dataclass(frozen=True)
class GaussiansResult:
    """How a run on the eight Gaussians came out.

    Attributes:
        modes: Found, mean over the checks of the last half.
        near: Share of points near a mode, likewise.
        oscillation: Standard deviation of that share over those checks.
        jitter: The same, but from differences of successive checks: what a trend does not explain.
        beta: Mean beta of GEM over the last half.
    """

    modes: float
    near: float
    oscillation: float
    jitter: float
    beta: float


@one_thread()
def play_gaussians(
    settings: UpdateSettings, *, seed: int, r1: float, num_steps: int, check_every: int = 100
) -> GaussiansResult | None:
    """One run; nothing where it left the numbers."""
    toy = EightGaussians(seed=seed, r1=r1)
    rule = update_rule(toy.parameters, settings)
    checks: list[tuple[int, float]] = []
    logs: list[UpdateLog] = []
    try:
        for number in range(1, num_steps + 1):
            log = rule.step(toy)
            toy.next_batch()
            if number > num_steps // 2:
                logs.append(log)
                if number % check_every == 0:
                    checks.append(toy.quality())
    except TrainError:
        return None
    modes, near = (torch.tensor(column, dtype=torch.float64) for column in zip(*checks, strict=True))
    return GaussiansResult(
        modes=float(modes.mean()),
        near=float(near.mean()),
        oscillation=float(near.std(correction=0)),
        jitter=float((near.diff().square().mean() / 2).sqrt()),
        beta=mean_beta(logs),
    )


def _normal(*shape: int, draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)
