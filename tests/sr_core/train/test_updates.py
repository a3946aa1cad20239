"""Update rules: what they do on games, that they are transactions, and that they go on exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import pytest
import torch
from torch import Tensor

from sr_core.errors import SpecError, TrainError
from sr_core.train.game import Game, GradientSource, Player
from sr_core.train.gem import BetaRule
from sr_core.train.updates import RuleName, UpdateRule, UpdateSettings, update_rule
from tests.sr_core.threads import one_thread
from tests.sr_core.train.toys import (
    Bilinear,
    DiracGan,
    EightGaussians,
    adam,
    bare,
    bare_gem,
    gem,
    mean_beta,
    play,
    play_gaussians,
    ratio_after,
)

SETTINGS = {
    "alternating": adam(RuleName.ALTERNATING, 1e-3, 0.5),
    "alternating without Adam": bare(RuleName.ALTERNATING, 1e-2),
    "simultaneous": adam(RuleName.SIMULTANEOUS, 1e-3),
    "optimistic": adam(RuleName.OPTIMISTIC, 1e-3),
    "extragradient": adam(RuleName.EXTRAGRADIENT, 1e-3),
    "gem": gem(1e-3, BetaRule.PRP_PLUS, restart_every=7),
    "gem per player": gem(1e-3, BetaRule.FR, per_player=True),
    "gem on one batch": gem(1e-3, BetaRule.PRP_PLUS, same_batch=True),
    "gem without preconditioner": bare_gem(1e-2, BetaRule.PRP_PLUS),
}
every_rule = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())


@pytest.fixture(autouse=True)
def small_networks_on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


def all_parameters(toy: Bilinear | DiracGan | EightGaussians) -> list[Tensor]:
    return [parameter.detach().clone() for player in Player for parameter in toy.parameters[player]]


def same_bits(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def small_gaussians() -> EightGaussians:
    return EightGaussians(seed=5, width=16, batch_size=32)


def play_on(rule: UpdateRule, toy: EightGaussians, num_steps: int) -> None:
    for _ in range(num_steps):
        rule.step(toy)
        toy.next_batch()


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@every_rule
def test_ten_steps_a_file_and_ten_more_equal_twenty_to_the_bit(settings: UpdateSettings) -> None:
    whole, first, second = (small_gaussians() for _ in range(3))
    play_on(update_rule(whole.parameters, settings), whole, 20)

    rule = update_rule(first.parameters, settings)
    play_on(rule, first, 10)
    state = through_a_file(rule.state_dict())
    for _ in range(10):
        second.next_batch()
    for player in Player:
        for target, value in zip(second.parameters[player], first.parameters[player], strict=True):
            target.data.copy_(value.detach())
    resumed = update_rule(second.parameters, settings)
    resumed.load_state_dict(state)
    play_on(resumed, second, 10)

    assert same_bits(all_parameters(second), all_parameters(whole))


@every_rule
def test_going_on_leaves_the_state_that_was_loaded_alone(settings: UpdateSettings) -> None:
    toy = small_gaussians()
    rule = update_rule(toy.parameters, settings)
    play_on(rule, toy, 2)
    state = through_a_file(rule.state_dict())
    before = through_a_file(state)
    other = update_rule(toy.parameters, settings)
    other.load_state_dict(state)
    play_on(other, toy, 2)
    assert same_bits(tensors_in(state), tensors_in(before))


def tensors_in(state: object) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def test_a_state_of_another_rule_is_refused() -> None:
    toy = small_gaussians()
    state = update_rule(toy.parameters, SETTINGS["gem"]).state_dict()
    with pytest.raises(SpecError, match="another update rule"):
        update_rule(toy.parameters, SETTINGS["alternating"]).load_state_dict(state)


@dataclass
class Spoilt:
    """A game one of whose answers is not finite."""

    game: EightGaussians
    player: Player
    spoil: Callable[[Tensor], Tensor]
    num_parts: int = 1
    loss_scale: float = 1.0

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        losses = self.game.losses(players, part)
        return [
            self.spoil(loss) if player is self.player else loss
            for player, loss in zip(players, losses, strict=True)
        ]


def infinite_gradient(loss: Tensor) -> Tensor:
    nothing = loss - loss.detach()
    return loss.detach() + nothing.abs().sqrt()  # the slope of the root at 0


@every_rule
@pytest.mark.parametrize("player", Player)
@pytest.mark.parametrize(
    ("spoil", "named"), [(lambda loss: loss * float("nan"), "loss"), (infinite_gradient, "gradient")]
)
def test_what_is_not_finite_stops_the_step_before_anything_has_changed(
    settings: UpdateSettings, player: Player, spoil: Callable[[Tensor], Tensor], named: str
) -> None:
    toy, control = small_gaussians(), small_gaussians()
    rule, control_rule = (update_rule(game.parameters, settings) for game in (toy, control))
    for game, its_rule in ((toy, rule), (control, control_rule)):
        play_on(its_rule, game, 3)
    before = all_parameters(toy)

    with pytest.raises(TrainError, match=rf"{player}'s .*{named}.* not finite"):
        rule.step(Spoilt(toy, player, spoil))

    assert same_bits(all_parameters(toy), before)
    play_on(rule, toy, 2)
    play_on(control_rule, control, 2)
    assert same_bits(all_parameters(toy), all_parameters(control))


class SecondFails:
    """A game that answers once, and then with numbers that are not finite."""

    num_parts = 1
    loss_scale = 1.0

    def __init__(self, game: EightGaussians) -> None:
        self.game = game
        self.num_asked = 0

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        self.num_asked += 1
        losses = self.game.losses(players, part)
        return [loss * float("inf") for loss in losses] if self.num_asked == 2 else losses


@pytest.mark.parametrize("name", ["alternating", "extragradient", "gem on one batch"])
def test_a_second_gradient_that_is_not_finite_undoes_what_the_first_one_did(name: str) -> None:
    toy, control = small_gaussians(), small_gaussians()
    rule, control_rule = (update_rule(game.parameters, SETTINGS[name]) for game in (toy, control))
    for game, its_rule in ((toy, rule), (control, control_rule)):
        play_on(its_rule, game, 3)
    with pytest.raises(TrainError):
        rule.step(SecondFails(toy))
    play_on(rule, toy, 2)
    play_on(control_rule, control, 2)
    assert same_bits(all_parameters(toy), all_parameters(control))


def losses_on_part(toy: EightGaussians, players: Sequence[Player], part: int, num_parts: int) -> list[Tensor]:
    whole = toy.real, toy.latent
    toy.real, toy.latent = (samples.chunk(num_parts)[part] for samples in whole)
    losses = toy.losses(players, 0)
    toy.real, toy.latent = whole
    return losses


@dataclass
class InParts:
    """A game whose batch is worked off in equal parts."""

    game: EightGaussians
    num_parts: int
    loss_scale: float = 1.0

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        losses = losses_on_part(self.game, players, part, self.num_parts)
        return [loss / self.num_parts for loss in losses]


@dataclass
class ShareOfRank:
    """One of two ranks' half of the batch."""

    game: EightGaussians
    rank: int
    num_parts: int = 1
    loss_scale: float = 1.0

    def losses(self, players: Sequence[Player], part: int) -> list[Tensor]:
        return losses_on_part(self.game, players, self.rank, 2)


def after_steps(toy: EightGaussians, game: Game, settings: UpdateSettings) -> list[Tensor]:
    rule = update_rule(toy.parameters, settings)
    for _ in range(5):
        rule.step(game)
        toy.next_batch()
    return all_parameters(toy)


@every_rule
def test_a_batch_in_two_parts_trains_as_the_whole_batch(settings: UpdateSettings) -> None:
    whole, parted = small_gaussians(), small_gaussians()
    expected = after_steps(whole, whole, settings)
    got = after_steps(parted, InParts(parted, 2), settings)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@every_rule
def test_loss_scale_by_a_power_of_two_changes_no_bit(settings: UpdateSettings) -> None:
    plain, scaled = small_gaussians(), small_gaussians()
    expected = after_steps(plain, plain, settings)
    got = after_steps(scaled, InParts(scaled, 1, loss_scale=1024.0), settings)
    assert same_bits(got, expected)


class Ranks:
    """Two threads that average tensors with each other."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=60)
        self.given: dict[int, list[Tensor]] = {}

    def reduce_of(self, rank: int) -> Callable[[list[Tensor]], None]:
        def reduce(tensors: list[Tensor]) -> None:
            self.given[rank] = [tensor.clone() for tensor in tensors]
            self.barrier.wait()
            for tensor, zero, one in zip(tensors, self.given[0], self.given[1], strict=True):
                tensor.copy_((zero + one) / 2)
            self.barrier.wait()

        return reduce


@pytest.mark.parametrize("name", ["alternating", "gem", "gem on one batch"])
def test_two_ranks_with_half_a_batch_each_keep_the_same_bits_and_train_as_one(name: str) -> None:
    ranks, settings = Ranks(), SETTINGS[name]
    toys = [small_gaussians(), small_gaussians()]
    betas: dict[int, list[float]] = {0: [], 1: []}

    def run(rank: int) -> None:
        rule = update_rule(toys[rank].parameters, settings, ranks.reduce_of(rank))
        for _ in range(5):
            log = rule.step(ShareOfRank(toys[rank], rank))
            betas[rank].append(log.numbers().get("generator/beta", 0.0))
            toys[rank].next_batch()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    alone = small_gaussians()
    expected = after_steps(alone, alone, settings)
    assert same_bits(all_parameters(toys[0]), all_parameters(toys[1]))
    assert betas[0] == betas[1]
    torch.testing.assert_close(all_parameters(toys[0]), expected, rtol=1e-3, atol=1e-4)


def test_a_loss_that_only_one_rank_lost_stops_both() -> None:
    ranks, stopped = Ranks(), []
    toys = [small_gaussians(), small_gaussians()]

    def run(rank: int) -> None:
        rule = update_rule(toys[rank].parameters, SETTINGS["gem"], ranks.reduce_of(rank))
        game: Game = Spoilt(toys[0], Player.GENERATOR, lambda loss: loss * float("nan"))
        try:
            rule.step(toys[1] if rank else game)
        except TrainError:
            stopped.append(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stopped) == [0, 1]


def test_alternating_is_torchs_adam_for_the_discriminator_and_then_the_generator() -> None:
    toy, reference = small_gaussians(), small_gaussians()
    rates = {Player.GENERATOR: 1e-3, Player.DISCRIMINATOR: 4e-3}
    rule = update_rule(toy.parameters, replace(SETTINGS["alternating"], learning_rates=rates))
    adams = {
        player: torch.optim.Adam(reference.parameters[player], rates[player], (0.5, 0.99))
        for player in (Player.DISCRIMINATOR, Player.GENERATOR)
    }
    for _ in range(5):
        rule.step(toy)
        for player, optimizer in adams.items():
            optimizer.zero_grad()
            (loss,) = reference.losses((player,), 0)
            loss.backward(inputs=list(reference.parameters[player]))  # type: ignore[no-untyped-call]
            optimizer.step()
        toy.next_batch()
        reference.next_batch()
    torch.testing.assert_close(all_parameters(toy), all_parameters(reference), rtol=1e-4, atol=1e-5)


def test_clipping_shortens_one_players_gradients_and_tells_their_norm_before() -> None:
    toy = small_gaussians()
    free = GradientSource(toy.parameters).evaluate(toy, tuple(Player))
    clipped = GradientSource(toy.parameters, {Player.GENERATOR: 1e-3}).evaluate(toy, tuple(Player))
    assert clipped.norms == free.norms
    lengths = {
        player: float(torch.cat([g.flatten() for g in clipped.gradients[player]]).norm()) for player in Player
    }
    assert lengths[Player.GENERATOR] == pytest.approx(1e-3)
    assert lengths[Player.DISCRIMINATOR] == pytest.approx(float(free.norms[Player.DISCRIMINATOR]))


@every_rule
def test_half_a_share_is_half_the_learning_rates(settings: UpdateSettings) -> None:
    shared, halved = small_gaussians(), small_gaussians()
    rates = {player: 0.5 * rate for player, rate in settings.learning_rates.items()}
    half = update_rule(halved.parameters, replace(settings, learning_rates=rates))
    rule = update_rule(shared.parameters, settings)
    for _ in range(3):
        rule.step(shared, share=0.5)
        half.step(halved)
    assert same_bits(all_parameters(shared), all_parameters(halved))


def test_log_has_numbers_by_player() -> None:
    toy = small_gaussians()
    numbers = update_rule(toy.parameters, SETTINGS["gem"]).step(toy).numbers()
    names = ("loss", "gradient_norm", "beta", "share", "restarted")
    assert set(numbers) == {f"{player}/{name}" for player in Player for name in names}


@pytest.mark.parametrize("name", ["alternating", "simultaneous", "optimistic", "gem"])
def test_these_rules_cost_one_gradient(name: str) -> None:
    toy = small_gaussians()
    rule = update_rule(toy.parameters, SETTINGS[name])
    rule.step(toy)
    assert rule.step(toy).num_gradients == 1


@pytest.mark.parametrize("name", ["extragradient", "gem on one batch"])
def test_these_rules_cost_two_gradients(name: str) -> None:
    toy = small_gaussians()
    rule = update_rule(toy.parameters, SETTINGS[name])
    rule.step(toy)
    assert rule.step(toy).num_gradients == 2


def test_missing_and_negative_learning_rates_are_refused() -> None:
    with pytest.raises(SpecError, match="learning rate"):
        UpdateSettings(learning_rates={Player.GENERATOR: 1e-4})
    with pytest.raises(SpecError, match="learning rate"):
        UpdateSettings(learning_rates=dict.fromkeys(Player, -1.0))


def test_a_player_without_parameters_is_refused() -> None:
    toy = small_gaussians()
    with pytest.raises(SpecError, match="discriminator"):
        update_rule({**toy.parameters, Player.DISCRIMINATOR: []}, SETTINGS["gem"])


def test_simultaneous_descent_diverges_on_the_bilinear_game() -> None:
    assert ratio_after(Bilinear(), bare(RuleName.SIMULTANEOUS, 0.1), 1000) > 10


def test_alternating_descent_neither_leaves_nor_reaches_the_bilinear_solution() -> None:
    toy = Bilinear()
    settings = bare(RuleName.ALTERNATING, 0.1)
    ratios = [ratio_after(toy, settings, 100) for _ in range(10)]  # each from where the last one ended
    assert all(0.5 < ratio < 2 for ratio in ratios)
    assert 0.5 < torch.tensor(ratios).prod() < 2


@pytest.mark.parametrize("rule", [RuleName.OPTIMISTIC, RuleName.EXTRAGRADIENT])
def test_looking_ahead_converges_on_the_bilinear_game(rule: RuleName) -> None:
    assert ratio_after(Bilinear(), bare(rule, 0.3), 500) < 0.01


def test_gem_converges_on_the_bilinear_game() -> None:
    assert ratio_after(Bilinear(), bare_gem(0.3, BetaRule.PRP_PLUS), 500) < 0.01


@pytest.mark.parametrize("settings", [bare(RuleName.EXTRAGRADIENT, 0.1), bare_gem(0.1, BetaRule.PRP_PLUS)])
def test_looking_ahead_converges_on_the_minimax_dirac_gan_without_a_penalty(settings: UpdateSettings) -> None:
    assert ratio_after(DiracGan(gamma=0.0), settings, 1000) < 0.5


def test_minimax_dirac_gan_without_a_penalty_is_left_simultaneously_and_circled_alternately() -> None:
    assert ratio_after(DiracGan(gamma=0.0), bare(RuleName.SIMULTANEOUS, 0.1), 1000) > 1.5
    assert 0.8 < ratio_after(DiracGan(gamma=0.0), bare(RuleName.ALTERNATING, 0.1), 1000) < 1.25


SMALL_GAME_RULES = {
    **{rule.value: bare(rule, 0.1) for rule in RuleName if rule is not RuleName.GEM},
    "gem": bare_gem(0.1, BetaRule.PRP_PLUS),
}


@pytest.mark.parametrize("settings", SMALL_GAME_RULES.values(), ids=SMALL_GAME_RULES.keys())
def test_with_r1_every_rule_converges_on_the_dirac_gan(settings: UpdateSettings) -> None:
    assert ratio_after(DiracGan(gamma=0.3), settings, 1000) < 1e-4


@pytest.mark.parametrize("settings", SMALL_GAME_RULES.values(), ids=SMALL_GAME_RULES.keys())
def test_non_saturating_dirac_gan_converges_by_every_rule_but_slowly(settings: UpdateSettings) -> None:
    assert 0.01 < ratio_after(DiracGan(gamma=0.0, saturating=False), settings, 1000) < 0.5


@pytest.mark.parametrize(
    "settings",
    [adam(RuleName.ALTERNATING, 2e-3, 0.5), gem(2e-3, BetaRule.PRP_PLUS)],
    ids=["alternating", "gem"],
)
def test_six_hundred_steps_find_most_of_eight_gaussians(settings: UpdateSettings) -> None:
    result = play_gaussians(settings, seed=0, r1=0.1, num_steps=600)
    assert result
    assert result.modes > 4


def test_on_eight_gaussians_the_coefficient_settles_at_its_cap_on_one_batch_as_on_two() -> None:
    for same_batch in (False, True):
        settings = gem(1e-3, BetaRule.PRP_PLUS, same_batch=same_batch)
        assert mean_beta(play(EightGaussians(seed=0), settings, 300)[-100:]) > 0.24
