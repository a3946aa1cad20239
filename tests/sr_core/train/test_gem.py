"""GEM: its definition step by step, what its look-ahead is for, and when it forgets its direction."""

from __future__ import annotations

import math
from io import BytesIO

import pytest
import torch
from torch import Tensor

from sr_core.errors import SpecError, TrainError
from sr_core.train.game import Player
from sr_core.train.gem import BetaRule, Gem, GemSettings, LookAhead
from sr_core.train.updates import GemRule, RuleName, UpdateSettings, update_rule
from tests.sr_core.train.toys import (
    Bilinear,
    adam,
    bare,
    bare_gem,
    constant_beta,
    gem,
    growth,
    mean_beta,
    play,
    ratio_after,
)


def gradients_at(toy: Bilinear, z: Tensor) -> Tensor:
    x, y = z[:5], z[5:]
    return torch.cat([toy.matrix @ y + toy.x_noise, -toy.matrix.T @ x + toy.y_noise])


@pytest.mark.parametrize("beta_rule", [rule for rule in BetaRule if rule is not BetaRule.CONSTANT])
@pytest.mark.parametrize("per_player", [False, True])
def test_every_beta_rule_follows_its_formula(beta_rule: BetaRule, per_player: bool) -> None:
    toy, reference = (Bilinear(noise=1.0, seed=3) for _ in range(2))
    settings = GemSettings(beta_rule, 0.95, per_player=per_player, restart_every=7, beta2=0.9)
    rates = {Player.GENERATOR: 0.03, Player.DISCRIMINATOR: 0.05}
    rule = update_rule(toy.parameters, UpdateSettings(RuleName.GEM, rates, gem=settings))
    z = torch.cat([reference.x, reference.y]).detach()
    rate = torch.tensor([0.03] * 5 + [0.05] * 5, dtype=torch.float64)
    direction, last, second, gamma = torch.zeros(10), torch.zeros(10), torch.zeros(10), torch.ones(10)
    seen = set()
    for step in range(20):
        g = gradients_at(reference, z + gamma * rate * direction)
        second = 0.9 * second + 0.1 * g**2
        scale = (second / (1 - 0.9 ** (step + 1))).sqrt() + 1e-8
        y = g - last
        top = rate * g / scale * (g if beta_rule in (BetaRule.FR, BetaRule.DY) else y)
        bottom = rate * (direction * y if beta_rule in (BetaRule.HS, BetaRule.DY) else last**2 / scale)
        betas = []
        for part in (slice(0, 5), slice(5, 10)) if per_player else (slice(0, 10),) * 2:
            beta = float(top[part].sum() / bottom[part].sum())
            if beta_rule in (BetaRule.HS, BetaRule.DY) and bottom[part].sum() <= 0:
                beta = 0.0
            lowest = 0.0 if beta_rule is BetaRule.PRP_PLUS else -0.95
            betas.append(0.0 if step % 7 == 0 else min(max(beta, lowest), 0.95))
        slopes = [
            float((rate * g * (betas[i] * direction - g / scale))[5 * i : 5 * i + 5].sum()) for i in (0, 1)
        ]
        climbs = [slope >= 0 for slope in slopes]
        if not per_player:
            climbs = [any(climbs)] * 2
        betas = [0.0 if climb else beta for climb, beta in zip(climbs, betas, strict=True)]
        kept = torch.tensor([betas[0]] * 5 + [betas[1]] * 5, dtype=torch.float64)
        direction = -g / scale + kept * direction
        z, last, gamma = z + rate * direction, g, 1 / (1 - kept)
        seen.add(betas[0])

        log = rule.step(toy)

        assert log.gem is not None
        assert [float(log.gem.betas[player]) for player in Player] == pytest.approx(betas)
        torch.testing.assert_close(torch.cat([toy.x, toy.y]).detach(), z)
        toy.next_batch()
        reference.next_batch()
    assert len(seen) > 3


def test_beta_zero_is_past_extragradient() -> None:
    toy, reference = Bilinear(), Bilinear()
    rule = update_rule(toy.parameters, bare_gem(0.3, BetaRule.CONSTANT, 0.0))
    z = torch.cat([reference.x, reference.y]).detach()
    last = torch.zeros(10, dtype=torch.float64)
    for _ in range(10):
        last = gradients_at(reference, z - 0.3 * last)
        z = z - 0.3 * last
        rule.step(toy)
        torch.testing.assert_close(torch.cat([toy.x, toy.y]).detach(), z)


@pytest.mark.parametrize("with_adam", [False, True])
def test_optimistic_descent_stands_where_gem_with_beta_zero_looks_ahead(with_adam: bool) -> None:
    gem_toy, optimistic_toy = Bilinear(), Bilinear()
    zero = gem if with_adam else bare_gem
    gem_rule = update_rule(gem_toy.parameters, zero(0.1, BetaRule.CONSTANT, 0.0))
    optimistic = update_rule(
        optimistic_toy.parameters, (adam if with_adam else bare)(RuleName.OPTIMISTIC, 0.1)
    )
    assert isinstance(gem_rule, GemRule)
    for _ in range(10):
        gem_rule.step(gem_toy)
        optimistic.step(optimistic_toy)
        ahead = gem_toy.x + 0.1 * gem_rule.optimizer.state[gem_toy.x]["direction"]
        torch.testing.assert_close(ahead, optimistic_toy.x)


@pytest.mark.parametrize("beta", [0.34, 0.4, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("learning_rate", [1e-3, 1e-2, 0.1, 0.3, 1.0])
def test_roots_leave_the_unit_circle_unscaled_above_a_third_at_every_rate(
    beta: float, learning_rate: float
) -> None:
    assert growth(learning_rate, beta, gamma=1.0) > 1


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.34, 0.5, 0.7, 0.9])
def test_roots_of_the_scaled_look_ahead_lie_in_the_unit_circle_at_small_rates(beta: float) -> None:
    small = 0.3 * (1 - beta) ** 1.5  # shrinks a little faster than the step's own growth by 1 / (1 - beta)
    for share in (0.01, 0.1, 0.5, 1.0):
        assert growth(share * small, beta, gamma=1 / (1 - beta)) < 1


def test_scaled_look_ahead_has_a_largest_stable_rate_that_falls_with_beta() -> None:
    def largest(beta: float) -> float:
        rates = [rate / 1000 for rate in range(1, 1000)]
        return next(rate for rate in rates if growth(rate, beta, 1 / (1 - beta)) >= 1)

    assert [largest(beta) for beta in (0.0, 0.25, 0.5, 0.75)] == pytest.approx(
        [0.578, 0.380, 0.194, 0.056], abs=0.001
    )


@pytest.mark.parametrize("beta", [0.2, 0.3, 0.4, 0.5, 0.7])
def test_growth_has_the_expansion_that_the_third_comes_from(beta: float) -> None:
    rate = 1e-3
    unscaled = 1 + rate**2 * (3 * beta - 1) / (1 - beta) ** 3
    scaled = 1 - rate**2 / (1 - beta) ** 2
    assert growth(rate, beta, 1.0) ** 2 - 1 == pytest.approx(unscaled - 1, rel=1e-2)
    assert growth(rate, beta, 1 / (1 - beta)) ** 2 - 1 == pytest.approx(scaled - 1, rel=1e-2)


@pytest.mark.parametrize("beta", [0.4, 0.5, 0.7])
@pytest.mark.parametrize("learning_rate", [0.03, 0.1])
def test_unscaled_look_ahead_diverges_above_a_third(beta: float, learning_rate: float) -> None:
    assert ratio_after(Bilinear(), constant_beta(learning_rate, beta, LookAhead.UNSCALED), 400) > 1


@pytest.mark.parametrize("beta", [0.4, 0.5, 0.7])
def test_scaled_look_ahead_converges_above_a_third(beta: float) -> None:
    assert ratio_after(Bilinear(), constant_beta(0.03, beta, LookAhead.SCALED), 400) < 0.8


def test_scaled_look_ahead_diverges_as_well_where_the_rate_is_too_large() -> None:
    assert ratio_after(Bilinear(), constant_beta(0.3, 0.5, LookAhead.SCALED), 400) > 1


def test_a_run_shrinks_as_the_roots_say() -> None:
    settings = constant_beta(0.1, 0.3, LookAhead.SCALED)
    toy = Bilinear(size=1)  # its singular value is 0.5
    before, after = ratio_after(toy, settings, 200), ratio_after(toy, settings, 0)
    assert after == 1
    expected = growth(0.1, 0.3, 1 / 0.7, 0.5) ** 200
    assert before == pytest.approx(expected, rel=0.1)


def test_without_look_ahead_conjugate_gradients_diverge_on_the_bilinear_game_by_every_rule() -> None:
    for rule in BetaRule:
        assert ratio_after(Bilinear(), bare_gem(0.3, rule, look_ahead=LookAhead.NONE), 300) > 100, rule


def test_without_noise_prp_plus_is_nearly_zero_and_ties_with_beta_zero() -> None:
    plus, zero = Bilinear(), Bilinear()
    logs = play(plus, bare_gem(0.3, BetaRule.PRP_PLUS), 200)
    play(zero, bare_gem(0.3, BetaRule.CONSTANT, 0.0), 200)
    assert mean_beta(logs) < 0.01
    assert plus.distance() == pytest.approx(zero.distance(), rel=0.1)


def test_noise_drives_prp_plus_to_its_cap() -> None:
    assert mean_beta(play(Bilinear(noise=0.5), bare_gem(0.05, BetaRule.PRP_PLUS), 300)) > 0.7 * 0.25


def test_joint_coefficient_is_the_mean_of_the_players_own_weighted_by_their_shares() -> None:
    def second_step(per_player: bool) -> tuple[list[float], list[float]]:
        toy = Bilinear(noise=1.0, seed=4)
        settings = bare_gem(0.01, BetaRule.FR, 0.999, per_player=per_player, restart_on_ascent=False)
        log = play(toy, settings, 2)[-1]
        assert log.gem is not None
        return (
            [float(log.gem.betas[player]) for player in Player],
            [float(log.gem.shares[player]) for player in Player],
        )

    joint, shares = second_step(per_player=False)
    own, _ = second_step(per_player=True)
    assert own[0] != pytest.approx(own[1], rel=0.05)
    assert joint[0] == joint[1] == pytest.approx(sum(a * b for a, b in zip(own, shares, strict=True)))
    assert sum(shares) == pytest.approx(1)


class Bowl:
    """Each player slides down its own parabola, as steep as is said."""

    def __init__(self, steepness: dict[Player, float]) -> None:
        self.steepness = steepness
        self.parameters = {player: [torch.ones(2, requires_grad=True)] for player in Player}

    def gradient(self) -> None:
        for player, (parameter,) in self.parameters.items():
            parameter.grad = self.steepness[player] * parameter.detach()


def bowl_optimizer(bowl: Bowl, settings: GemSettings) -> Gem:
    return Gem(bowl.parameters, dict.fromkeys(Player, 0.1), settings)


@pytest.mark.parametrize("per_player", [False, True])
def test_direction_is_dropped_where_a_player_would_climb(per_player: bool) -> None:
    # 12 overshoots: the next gradient points the other way, and so does the last direction.
    bowl = Bowl({Player.GENERATOR: 1.0, Player.DISCRIMINATOR: 12.0})
    settings = GemSettings(
        BetaRule.CONSTANT, 0.9, preconditioned=False, per_player=per_player, look_ahead=LookAhead.NONE
    )
    optimizer = bowl_optimizer(bowl, settings)
    optimizer.step(bowl.gradient)
    optimizer.step(bowl.gradient)
    optimizer.step(bowl.gradient)
    optimizer.step(bowl.gradient)
    assert optimizer.figures is not None
    restarted = [bool(optimizer.figures.restarted[player]) for player in Player]
    assert restarted == [not per_player, True]
    for player in Player:
        (parameter,) = bowl.parameters[player]
        was_dropped = torch.equal(optimizer.state[parameter]["direction"], -parameter.grad)  # type: ignore[operator]
        assert was_dropped == optimizer.figures.restarted[player]


def test_direction_is_dropped_every_so_many_steps() -> None:
    bowl = Bowl(dict.fromkeys(Player, 0.1))
    optimizer = bowl_optimizer(bowl, GemSettings(BetaRule.CONSTANT, 0.2, restart_every=3))
    betas = []
    for _ in range(7):
        optimizer.step(bowl.gradient)
        assert optimizer.figures is not None
        betas.append(round(float(optimizer.figures.betas[Player.GENERATOR]), 6))
    assert betas == [0, 0.2, 0.2, 0, 0.2, 0.2, 0]


def test_gradients_of_zero_leave_beta_and_parameters_finite() -> None:
    bowl = Bowl(dict.fromkeys(Player, 0.0))
    optimizer = bowl_optimizer(bowl, GemSettings())
    for _ in range(3):
        optimizer.step(bowl.gradient)
    assert all(torch.equal(parameter, torch.ones(2)) for (parameter,) in bowl.parameters.values())


def test_gradients_are_taken_ahead_but_the_caller_sees_only_where_the_step_led() -> None:
    bowl = Bowl(dict.fromkeys(Player, 1.0))
    optimizer = bowl_optimizer(bowl, GemSettings(preconditioned=False))
    (parameter,) = bowl.parameters[Player.GENERATOR]
    seen = []

    def closure() -> None:
        seen.append(parameter.detach().clone())
        bowl.gradient()

    optimizer.step(closure)
    after_first = parameter.detach().clone()
    optimizer.step(closure)
    assert torch.equal(after_first, torch.full((2,), 0.9))
    torch.testing.assert_close(seen[1], torch.full((2,), 0.8))
    torch.testing.assert_close(parameter.detach(), torch.full((2,), 0.9 - 0.1 * 0.8))


def test_a_closure_that_fails_leaves_every_bit_where_it_was() -> None:
    bowl = Bowl(dict.fromkeys(Player, 0.3))
    optimizer = bowl_optimizer(bowl, GemSettings(same_batch=True))
    for _ in range(3):
        optimizer.step(bowl.gradient)
    before = [parameter.detach().clone() for (parameter,) in bowl.parameters.values()]

    def fail() -> None:
        raise TrainError("no gradient")

    with pytest.raises(TrainError, match="no gradient"):
        optimizer.step(fail)
    after = [parameter.detach() for (parameter,) in bowl.parameters.values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_gradients_on_one_batch_keep_the_noise_out_of_beta() -> None:
    def beta_with(same_batch: bool) -> float:
        settings = bare_gem(0.05, BetaRule.PRP_PLUS, same_batch=same_batch)
        return mean_beta(play(Bilinear(noise=0.5), settings, 300))

    assert beta_with(same_batch=True) < 0.25 * beta_with(same_batch=False)


def test_state_survives_a_file_that_may_hold_only_tensors() -> None:
    bowl = Bowl(dict.fromkeys(Player, 0.3))
    optimizer = bowl_optimizer(bowl, GemSettings())
    optimizer.step(bowl.gradient)
    file = BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = bowl_optimizer(bowl, GemSettings())
    other.load_state_dict(torch.load(file, weights_only=True))
    assert [group["role"] for group in other.param_groups] == ["generator", "discriminator"]
    assert [group["num_steps"] for group in other.param_groups] == [1, 1]


@pytest.mark.parametrize(
    "wrong", [{"beta_cap": 1.0}, {"beta_cap": math.nan}, {"beta2": 1.0}, {"eps": 0.0}, {"restart_every": -1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        GemSettings(**wrong)  # type: ignore[arg-type]
