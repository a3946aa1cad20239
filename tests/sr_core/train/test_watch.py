"""The guard: what it tells of windows of signs, how often, and that it goes on exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sr_core.train.watch import Guard, Signs

NUM_VALUES = 3 * 48 * 48
WELL = Signs(0.6, -0.5, 0.8, 0.7, 0.9, color_error=1.5, color_bias=(0.2, -0.1, 0.0))
NOISE_WELL = Signs(0.6, -0.5, 0.8, 0.7, 0.9, variety=0.9)

TROUBLES = {
    "has won": replace(WELL, discriminator_slope=0.01),
    "learns nothing more from": replace(WELL, generator_slope=0.01),
    "sees no difference": replace(WELL, true_logit=0.1002, made_logit=0.1, spread=0.0005),
    "run away": replace(WELL, true_logit=120.0, made_logit=-30.0),
    "green of the generator's pictures is off by -1.30": replace(WELL, color_bias=(0.4, -1.3, 0.9)),
    "were by 1.50": replace(WELL, color_error=2.6),
}
each_trouble = pytest.mark.parametrize(("told", "signs"), TROUBLES.items(), ids=TROUBLES.keys())


def see(guard: Guard, *batches: Signs) -> list[str]:
    return [sentence for signs in batches for sentence in guard.see(signs, NUM_VALUES)]


@each_trouble
def test_a_trouble_is_told_once_and_again_only_after_a_window_without_it(told: str, signs: Signs) -> None:
    guard = Guard(3)
    assert not see(guard, *[WELL] * 3)
    [sentence] = see(guard, *[signs] * 9)
    assert told in sentence
    assert not see(guard, *[WELL] * 3)
    assert see(guard, *[signs] * 3) == [sentence]


@each_trouble
def test_single_batches_raise_no_alarm(told: str, signs: Signs) -> None:
    guard = Guard(200)
    assert not see(guard, *[WELL] * 200)
    assert not see(guard, signs, *[WELL] * 199)


def test_what_cancels_over_a_window_is_no_drift() -> None:
    up, down = (replace(WELL, color_bias=(sign * 5.0, 0.0, 0.0)) for sign in (1, -1))
    assert not see(Guard(4), up, down, up, down)


def test_several_troubles_are_told_together() -> None:
    assert len(see(Guard(1), replace(WELL, discriminator_slope=0.0, color_bias=(2.0, 0.0, 0.0)))) == 2


def test_luma_drifts_under_its_own_name() -> None:
    [sentence] = see(Guard(1), replace(WELL, color_bias=(1.25,)))
    assert "luma of the generator's pictures is off by +1.25" in sentence


def test_a_guard_goes_on_within_a_window() -> None:
    stained = TROUBLES["were by 1.50"]
    whole, first, second = Guard(4), Guard(4), Guard(4)
    course = [WELL] * 4 + [stained] * 12
    told = see(whole, *course)
    assert len(told) == 1

    before = see(first, *course[:6])
    second.load_state_dict(first.state_dict())
    assert before + see(second, *course[6:]) == told
    assert second.state_dict() == whole.state_dict()


def test_pictures_of_noise_are_watched_for_sameness_and_not_for_colours() -> None:
    guard = Guard(2)
    assert not see(guard, *[NOISE_WELL] * 2)
    [sentence] = see(guard, *[replace(NOISE_WELL, variety=0.1)] * 4)
    assert "nearly the same picture of any noise" in sentence
    assert set(NOISE_WELL.figures()) == {
        "true_logit",
        "made_logit",
        "spread",
        "discriminator_slope",
        "generator_slope",
        "variety",
    }


@pytest.mark.parametrize("signs", [WELL, NOISE_WELL, replace(WELL, color_bias=(0.5,))])
def test_signs_are_what_their_figures_say(signs: Signs) -> None:
    assert Signs.of_figures(signs.figures()) == signs
