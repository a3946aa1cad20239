"""Update rules on games whose solution is known: which find it, which circle, which leave.

    python -m tests.benchmarks.games [small] [gaussians] [--steps 6000] [--seeds 3] [--learning-rate 1e-3]
                                     [--r1 0.1] [--workers 1] [--json FILE]

Prints two tables, or one of them. `small` has the distance from the solution after 2000 steps over that
before the first, of rules without Adam or preconditioner; with noise, the geometric mean over three seeds.
`gaussians` has eight Gaussians with Adam or preconditioner: means over the last half of a run and over seeds.
There, "oscillation" is the deviation of the share of near points over a run, "jitter" the same without its
trend, "seed spread" is the standard deviation of the share of near points over seeds, "gradients" those of
each player in one step, and "beta" the mean coefficient of GEM.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from sr_core.train.gem import BetaRule, LookAhead
from sr_core.train.updates import RuleName, UpdateSettings
from tests.sr_core.train.toys import (
    Bilinear,
    DiracGan,
    GaussiansResult,
    adam,
    bare,
    bare_gem,
    gem,
    play_gaussians,
    ratio_after,
)

# Games, played one after the other, and their learning rate.
SMALL_GAMES: dict[str, tuple[Sequence[Callable[[], Bilinear | DiracGan]], float]] = {
    "bilinear, rate 0.1": ([Bilinear], 0.1),
    "bilinear, rate 0.3": ([Bilinear], 0.3),
    "bilinear, rate 0.1, noise 0.5": ([partial(Bilinear, seed=seed, noise=0.5) for seed in range(3)], 0.1),
    "Dirac": ([partial(DiracGan, 0.0)], 0.1),
    "Dirac, R1 0.3": ([partial(DiracGan, 0.3)], 0.1),
    "Dirac non-saturating": ([partial(DiracGan, 0.0, saturating=False)], 0.1),
}


def bare_rules(rate: float) -> dict[str, UpdateSettings]:
    """What meets on the small games."""
    plus, constant = BetaRule.PRP_PLUS, BetaRule.CONSTANT
    return {rule: bare(rule, rate) for rule in RuleName if rule is not RuleName.GEM} | {
        "GEM PRP+": bare_gem(rate, plus),
        "GEM PRP+, per player": bare_gem(rate, plus, per_player=True),
        "GEM PRP+, y on one batch": bare_gem(rate, plus, same_batch=True),
        "GEM PRP+, look-ahead unscaled": bare_gem(rate, plus, look_ahead=LookAhead.UNSCALED),
        "GEM PRP+, no look-ahead": bare_gem(rate, plus, look_ahead=LookAhead.NONE),
        "GEM beta 0": bare_gem(rate, constant, 0.0),
        "GEM beta 0.25": bare_gem(rate, constant, 0.25),
        "GEM beta 0.5": bare_gem(rate, constant, 0.5),
        "GEM beta 0.5, look-ahead unscaled": bare_gem(rate, constant, 0.5, look_ahead=LookAhead.UNSCALED),
        "GEM PRP": bare_gem(rate, BetaRule.PRP),
        "GEM FR": bare_gem(rate, BetaRule.FR),
        "GEM HS": bare_gem(rate, BetaRule.HS),
        "GEM DY": bare_gem(rate, BetaRule.DY),
        "GEM FR, cap 0.9": bare_gem(rate, BetaRule.FR, 0.9),
        "GEM HS, cap 0.9": bare_gem(rate, BetaRule.HS, 0.9),
        "GEM DY, cap 0.9": bare_gem(rate, BetaRule.DY, 0.9),
    }


def adam_rules(rate: float) -> dict[str, UpdateSettings]:
    """What meets on the eight Gaussians."""
    plus = BetaRule.PRP_PLUS
    return {
        "GEM PRP+": gem(rate, plus),
        "alternating, beta1 0.5": adam(RuleName.ALTERNATING, rate, 0.5),
        "alternating, beta1 0.25": adam(RuleName.ALTERNATING, rate, 0.25),
        "alternating, beta1 0": adam(RuleName.ALTERNATING, rate),
        "simultaneous, beta1 0.5": adam(RuleName.SIMULTANEOUS, rate, 0.5),
        "optimistic, beta1 0": adam(RuleName.OPTIMISTIC, rate),
        "extragradient, beta1 0": adam(RuleName.EXTRAGRADIENT, rate),
        "GEM beta 0": gem(rate, BetaRule.CONSTANT, 0.0),
        "GEM PRP+, per player": gem(rate, plus, per_player=True),
        "GEM PRP+, y on one batch": gem(rate, plus, same_batch=True),
        "GEM PRP+, no look-ahead": gem(rate, plus, look_ahead=LookAhead.NONE),
        "GEM PRP+, cap 0.5": gem(rate, plus, 0.5),
        "GEM FR": gem(rate, BetaRule.FR),
    }


@dataclass(frozen=True)
class Summary:
    """Eight Gaussians over all seeds; means are over the runs that did not diverge."""

    modes: float
    near: float
    oscillation: float
    jitter: float
    seed_spread: float
    beta: float
    num_gradients: int
    num_diverged: int


def small_game(name: str, rule: str) -> float:
    """How far from the solution the rule ends, over how far it began."""
    games, rate = SMALL_GAMES[name]
    return statistics.geometric_mean(ratio_after(make(), bare_rules(rate)[rule]) for make in games)


def gaussians(settings: UpdateSettings, r1: float, num_steps: int, seed: int) -> GaussiansResult | None:
    """One run."""
    return play_gaussians(settings, seed=seed, r1=r1, num_steps=num_steps)


def summarise(settings: UpdateSettings, results: Sequence[GaussiansResult | None]) -> Summary:
    """The runs of one rule."""
    done = [result for result in results if result]

    def mean(values: Iterable[float]) -> float:
        return statistics.mean(values) if done else math.nan

    return Summary(
        modes=mean(result.modes for result in done),
        near=mean(result.near for result in done),
        oscillation=mean(result.oscillation for result in done),
        jitter=mean(result.jitter for result in done),
        seed_spread=statistics.pstdev(result.near for result in done) if done else math.nan,
        beta=mean(result.beta for result in done),
        num_gradients=_num_gradients(settings),
        num_diverged=len(results) - len(done),
    )


def _num_gradients(settings: UpdateSettings) -> int:
    is_twice = settings.rule is RuleName.EXTRAGRADIENT
    return 2 if is_twice or (settings.rule is RuleName.GEM and settings.gem.same_batch) else 1


def small_table(pool: ProcessPoolExecutor) -> dict[str, dict[str, float]]:
    """Ratios by rule and game."""
    rules = list(bare_rules(0.1))
    cells = [(game, rule) for rule in rules for game in SMALL_GAMES]
    values = dict(zip(cells, pool.map(small_game, *zip(*cells, strict=True)), strict=True))
    print("| rule | " + " | ".join(SMALL_GAMES) + " |\n|---|" + "---|" * len(SMALL_GAMES))
    for rule in rules:
        print(
            f"| {rule} | " + " | ".join(f"{values[game, rule]:.2g}" for game in SMALL_GAMES) + " |",
            flush=True,
        )
    return {rule: {game: values[game, rule] for game in SMALL_GAMES} for rule in rules}


def gaussians_table(pool: ProcessPoolExecutor, asked: argparse.Namespace) -> dict[str, Summary]:
    """Eight Gaussians by rule, and the coefficient's own control: the mean beta of GEM, held constant."""
    print(
        "\n| rule | modes | near | oscillation | jitter | seed spread | beta | gradients | diverged |\n|---|"
        + "---|" * 8
    )
    rules, table = adam_rules(asked.learning_rate), {}

    def start(rule: str) -> Iterator[GaussiansResult | None]:
        return pool.map(partial(gaussians, rules[rule], asked.r1, asked.steps), range(asked.seeds))

    def finish(rule: str, results: Iterator[GaussiansResult | None]) -> None:
        row = table[rule] = summarise(rules[rule], list(results))
        shares = (row.near, row.oscillation, row.jitter, row.seed_spread, row.beta)
        cells = [f"{row.modes:.2f}", *(f"{share:.3f}" for share in shares)]
        print("|", " | ".join([rule, *cells, f"{row.num_gradients} | {row.num_diverged} |"]), flush=True)

    for rule, results in [(rule, start(rule)) for rule in rules]:
        finish(rule, results)
    beta = table["GEM PRP+"].beta
    if not math.isnan(beta):
        control = f"GEM beta {beta:.3f}"
        rules[control] = gem(asked.learning_rate, BetaRule.CONSTANT, beta)
        finish(control, start(control))
    return table


def main() -> None:
    """Plays everything and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="small, gaussians; both if none is named")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--r1", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    tables: dict[str, object] = {}
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        if "small" in asked.tables or not asked.tables:
            tables["small"] = small_table(pool)
        if "gaussians" in asked.tables or not asked.tables:
            rows = gaussians_table(pool, asked)
            tables["gaussians"] = {rule: asdict(row) for rule, row in rows.items()}
    if asked.json:
        asked.json.write_text(json.dumps(tables, indent=2))


if __name__ == "__main__":
    main()
