"""The comparison of update rules chooses by what it has fixed beforehand, and by nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from sr_core.metrics.lpips import load_lpips
from sr_core.train.crops import Pictures
from sr_core.train.game import Evaluation, Game, GradientSource, Player
from sr_core.train.validation import Pair
from tests.benchmarks.update_rules import play
from tests.benchmarks.update_rules.play import Sets, Start
from tests.benchmarks.update_rules.protocol import (
    ALL_SEEDS,
    CONTROLS,
    FIRST_SEEDS,
    RATES,
    RULES,
    Contestant,
    Point,
    Record,
    Run,
    Scores,
    best_rate,
    best_rules,
    usable_decades,
    wanted,
)
from tests.benchmarks.update_rules.table import figures_after, tables
from tests.sr_core.threads import one_thread

PERCEPTUAL = Path(__file__).parents[2].parent / "shared" / "data" / "perceptual"
START = Point(0, 0.0, Scores(34.0, 0.1), Scores(33.0, 0.12))


@pytest.fixture(scope="module")
def sets() -> Sets:
    """Two pictures of noise, and the published weights that losses and measures need."""
    names = ("squeezenet1_1_features", "alexnet_features", "lpips_v0.1_alex_lin")
    features, *lpips = (PERCEPTUAL / f"{name}.safetensors" for name in names)
    for path in (features, *lpips):
        if not path.exists():
            pytest.skip(f"needs {path.name}")
    draw = torch.Generator().manual_seed(0)
    codes = [torch.randint(256, (3, 64, 64), generator=draw, dtype=torch.uint8) for _ in range(2)]
    pair = Pair(torch.rand(1, 3, 24, 24, generator=draw), torch.rand(1, 3, 48, 48, generator=draw))
    pictures = Pictures.packed(codes, ["first", "second"], [0, 1])
    return Sets(pictures, (pair,), (pair,), features, load_lpips(*lpips))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of four gradients."""
    for name, value in (
        ("START_BATCHES", 2),
        ("NUM_GRADIENTS", 4),
        ("MEASURED_EVERY", 2),
        ("TESTED_FROM", 4),
    ):
        monkeypatch.setattr(play, name, value)


def record(run: Run, lpips: float = 0.08, lost_db: float = 0.5, diverged: str = "") -> Record:
    def point(num_gradients: int, share: float) -> Point:
        scores = Scores(34.0 - share * lost_db, lpips)
        return Point(num_gradients, num_gradients / 20, scores, Scores(scores.psnr_y - 1, lpips + 0.02))

    is_gem = "GEM" in run.contestant
    betas = {"generator": 0.1, "discriminator": 0.2} if is_gem else {}
    end = Point(500, 25.0, Scores(30.0, lpips)) if diverged else point(3000, 1.0)
    points = (START, end) if diverged else (START, point(2000, 0.5), end)
    return Record(run, "sha", points, None if diverged else Scores(33.0, lpips), diverged, betas, {})


def at_rates(contestant: Contestant, *lpips: float) -> list[Record]:
    """Three seeds at each rate."""
    return [
        record(Run(contestant, rate, seed), value)
        for rate, value in zip(RATES, lpips, strict=True)
        for seed in FIRST_SEEDS
    ]


def all_runs(lpips_of: dict[Contestant, float]) -> list[Record]:
    """Everything, each run as soon as it is wanted."""
    records: dict[str, Record] = {}
    while missing := [run for run in wanted(list(records.values())) if run.name not in records]:
        for run in missing:
            records[run.name] = record(run, lpips_of.get(run.contestant, 0.09))
    return list(records.values())


def seeds_of(records: Iterable[Record], contestant: Contestant) -> set[int]:
    return {each.run.seed for each in records if each.run.contestant is contestant}


def test_a_record_survives_its_line() -> None:
    for each in (
        record(Run(Contestant.GEM, 1e-3, 0)),
        record(Run(Contestant.ADAM_5, 1e-3, 2), diverged="far"),
    ):
        assert Record.of_line(each.line()) == each


def test_the_best_rate_has_no_diverged_run_and_costs_at_most_a_decibel() -> None:
    records = at_rates(Contestant.GEM, 0.09, 0.08, 0.07)
    assert best_rate(records, Contestant.GEM) == RATES[2]

    records[-1] = record(records[-1].run, diverged="far")
    assert best_rate(records, Contestant.GEM) == RATES[1]

    records[3:6] = [record(each.run, 0.08, lost_db=1.01) for each in records[3:6]]
    assert best_rate(records, Contestant.GEM) == RATES[0]


def test_the_usable_range_goes_from_the_best_rate_as_far_as_runs_are_stable_and_nearly_as_good() -> None:
    records = at_rates(Contestant.GEM, 0.0879, 0.08, 0.0881)
    assert usable_decades(records, Contestant.GEM) == pytest.approx(math.log10(RATES[1] / RATES[0]))

    records[0] = record(records[0].run, diverged="far")
    assert usable_decades(records, Contestant.GEM) == 0


def test_rules_are_chosen_by_validation_alone() -> None:
    records = list(chain.from_iterable(at_rates(rule, 0.09, 0.09, 0.09) for rule in RULES))
    records += at_rates(Contestant.CONTENT, 0.01, 0.01, 0.01)
    ours = Contestant.ADAM_9
    better = [
        replace(each, points=(*each.points[:-1], replace(each.points[-1], validation=Scores(34.0, 0.08))))
        if each.run.contestant is ours
        else replace(each, points=(*each.points[:-1], replace(each.points[-1], test=Scores(40.0, 0.0))))
        for each in records
    ]
    assert best_rules(better)[0][0] is ours


def test_the_constant_coefficient_waits_for_gem_and_is_its_mean() -> None:
    assert Contestant.GEM_CONSTANT not in {run.contestant for run in wanted([])}

    constant = [each.run for each in all_runs({}) if each.run.contestant is Contestant.GEM_CONSTANT]
    assert {run.beta for run in constant} == {0.15}
    assert len(constant) >= len(RATES) * len(FIRST_SEEDS)


def test_the_best_two_rules_get_ten_seeds_and_the_controls_gems_best_rate() -> None:
    records = all_runs({Contestant.GEM_CONSTANT: 0.07, Contestant.ADAM_5: 0.08})
    for rule in RULES:
        is_best = rule in (Contestant.GEM_CONSTANT, Contestant.ADAM_5)
        assert seeds_of(records, rule) == set(ALL_SEEDS if is_best else FIRST_SEEDS)
    for control in CONTROLS:
        rates = {each.run.learning_rate for each in records if each.run.contestant is control}
        assert rates == {best_rate(records, Contestant.GEM)}


def test_between_two_measurements_figures_lie_on_a_straight_line() -> None:
    between = figures_after(record(Run(Contestant.GEM, 1e-3, 0), lost_db=1.0), 2500)
    assert between.psnr_y == pytest.approx(32.25)


def test_tables_have_a_row_for_everyone_and_say_how_the_best_two_compare() -> None:
    told = "\n".join(tables(all_runs({Contestant.ADAM_0: 0.07, Contestant.GEM: 0.08})))
    for contestant in Contestant:
        assert told.count(f"| {contestant} |") == 3
    assert f"{Contestant.ADAM_0} against {Contestant.GEM}, 10 seeds, 0 diverged" in told
    assert "LPIPS -0.0100" in told


@pytest.mark.usefixtures("short")
@one_thread()
def test_a_run_comes_out_the_same_again_and_another_seed_differently(sets: Sets) -> None:
    start = Start.of(play.train_start(sets), sets)
    runs = [Run(Contestant.GEM, 1e-3, seed) for seed in (0, 0, 1)]

    first, again, other = (play.play(run, sets, start) for run in runs)

    assert _figures(first) == _figures(again) != _figures(other)
    assert first.points[0] == start.point
    assert first.points[-1].validation != first.raw


@pytest.mark.usefixtures("short")
@one_thread()
@pytest.mark.parametrize(
    ("contestant", "expected"),
    [
        (Contestant.GEM_SAME_BATCH, 3),  # the first step has no last point to compare with
        (Contestant.ADAM_9, 4),
        (Contestant.OPTIMISTIC, 4),
        (Contestant.CONTENT, 0),
    ],
)
def test_two_gradients_on_one_batch_are_charged_as_two(
    contestant: Contestant, expected: int, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Start.of(play.train_start(sets), sets)
    taken: list[int] = []
    evaluate = GradientSource.evaluate

    def counted(source: GradientSource, game: Game, players: Sequence[Player]) -> Evaluation:
        taken.append(len(players))
        return evaluate(source, game, players)

    monkeypatch.setattr(GradientSource, "evaluate", counted)
    record = play.play(Run(contestant, 1e-3, 0), sets, start)

    assert [point.num_gradients for point in record.points] == [0, 2, 4]
    assert sum(taken) == expected * len(Player)


def _figures(record: Record) -> list[tuple[Scores, Scores | None]]:
    """All that does not tell time."""
    return [(point.validation, point.test) for point in record.points]
