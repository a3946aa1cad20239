"""What is fixed before the first run: who meets, at what rates and seeds, and what counts as better.

What later runs depend on is chosen from validation figures alone: the constant coefficient is the mean of
GEM's own, controls are run at GEM's best rate, and the best two rules get ten seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean, median
from typing import Any

from sr_core.train.game import Player
from sr_core.train.gem import BetaRule, GemSettings
from sr_core.train.updates import AdamSettings, RuleName, UpdateSettings

RATES = (3e-4, 1e-3, 3e-3)
FIRST_SEEDS = range(3)
ALL_SEEDS = range(10)
NUM_BEST = 2
BETA2 = 0.99
MOST_LOST_DB = 1.0
DIVERGED_LOST_DB = 3.0
USABLE_SHARE = 1.1


class Contestant(StrEnum):
    """Who meets."""

    ADAM_0 = "alternating Adam, beta1 0"
    ADAM_5 = "alternating Adam, beta1 0.5"
    ADAM_9 = "alternating Adam, beta1 0.9"
    OPTIMISTIC = "optimistic Adam, beta1 0.5"  # with 0 it is GEM with beta 0, seen from another point
    GEM = "GEM PRP+"
    GEM_ZERO = "GEM beta 0"
    GEM_CONSTANT = "GEM beta constant"
    GEM_PER_PLAYER = "GEM PRP+, per player"
    GEM_SAME_BATCH = "GEM PRP+, y on one batch"
    CONTENT = "no game, Adam, beta1 0.9"


RULES = (
    Contestant.ADAM_0,
    Contestant.ADAM_5,
    Contestant.ADAM_9,
    Contestant.OPTIMISTIC,
    Contestant.GEM,
    Contestant.GEM_ZERO,
    Contestant.GEM_CONSTANT,
)
CONTROLS = (Contestant.GEM_PER_PLAYER, Contestant.GEM_SAME_BATCH)

_BETA1 = {
    Contestant.ADAM_0: 0.0,
    Contestant.ADAM_5: 0.5,
    Contestant.ADAM_9: 0.9,
    Contestant.OPTIMISTIC: 0.5,
    Contestant.CONTENT: 0.9,
}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        contestant: Who.
        learning_rate: Of both players.
        seed: Of the order of crops and of the discriminator.
        beta: The coefficient, where it is constant.
    """

    contestant: Contestant
    learning_rate: float
    seed: int
    beta: float = 0.0

    @property
    def name(self) -> str:
        """Fit for a file."""
        return f"{self.contestant.name.lower()}_{self.learning_rate:g}_{self.seed}"

    @property
    def gradients_a_step(self) -> int:
        """Of each player."""
        return 2 if self.contestant is Contestant.GEM_SAME_BATCH else 1

    @property
    def adam(self) -> AdamSettings:
        """Of all but GEM."""
        return AdamSettings(_BETA1[self.contestant], BETA2)

    def updates(self) -> UpdateSettings:
        """The update rule of a game."""
        rates = dict.fromkeys(Player, self.learning_rate)
        if self.contestant is Contestant.OPTIMISTIC:
            return UpdateSettings(RuleName.OPTIMISTIC, rates, adam=self.adam)
        if self.contestant in _BETA1:
            return UpdateSettings(RuleName.ALTERNATING, rates, adam=self.adam)
        return UpdateSettings(RuleName.GEM, rates, gem=self._gem())

    def _gem(self) -> GemSettings:
        if self.contestant in (Contestant.GEM_ZERO, Contestant.GEM_CONSTANT):
            return GemSettings(BetaRule.CONSTANT, self.beta, beta2=BETA2)
        return GemSettings(
            beta2=BETA2,
            per_player=self.contestant is Contestant.GEM_PER_PLAYER,
            same_batch=self.contestant is Contestant.GEM_SAME_BATCH,
        )


@dataclass(frozen=True)
class Scores:
    """Means over the pictures of a set: dB of luma, and LPIPS by AlexNet."""

    psnr_y: float
    lpips: float


@dataclass(frozen=True)
class Point:
    """A run after so many gradients of each player; figures are of the average of weights.

    Attributes:
        num_gradients: 0 at the start.
        cpu_s: That the training took up to here, without measuring.
        validation: On pictures set aside from training.
        test: On pictures that nothing is chosen by; only towards the end, and none where it was not measured.
    """

    num_gradients: int
    cpu_s: float
    validation: Scores
    test: Scores | None = None


@dataclass(frozen=True)
class Record:
    """What a run came to.

    Attributes:
        run: Which.
        start: SHA-256 of the weights that it started from.
        points: Ascending, the first being the start.
        raw: Validation at the end, of the weights as they are rather than of their average.
        diverged: Why it ended early; empty if it did not.
        betas: Mean coefficient of each player, for GEM.
        shares: Mean weight of each player in the joint coefficient, for GEM.
    """

    run: Run
    start: str
    points: tuple[Point, ...]
    raw: Scores | None
    diverged: str
    betas: Mapping[str, float]
    shares: Mapping[str, float]

    @property
    def lpips(self) -> float:
        """On validation pictures, infinite where it diverged."""
        return math.inf if self.diverged else self.points[-1].validation.lpips

    @property
    def lost_db(self) -> float:
        """PSNR lost against the start on validation pictures."""
        return self.points[0].validation.psnr_y - self.points[-1].validation.psnr_y

    def line(self) -> bytes:
        """As one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def of_line(line: bytes) -> Record:
        """What `line` wrote."""
        fields = json.loads(line)
        run = fields.pop("run")
        points, raw = fields.pop("points"), fields.pop("raw")
        return Record(
            run=Run(**{**run, "contestant": Contestant(run["contestant"])}),
            points=tuple(_point(point) for point in points),
            raw=raw and Scores(**raw),
            **fields,
        )


def _point(fields: dict[str, Any]) -> Point:
    test = fields.pop("test")
    return Point(validation=Scores(**fields.pop("validation")), test=test and Scores(**test), **fields)


def of(
    records: Iterable[Record], contestant: Contestant, rate: float, seeds: Iterable[int] = FIRST_SEEDS
) -> list[Record]:
    """A contestant's runs at a rate."""
    return [
        record
        for record in records
        if record.run.contestant is contestant
        and record.run.learning_rate == rate
        and record.run.seed in seeds
    ]


def is_stable(records: Sequence[Record]) -> bool:
    """Whether there are runs and none diverged."""
    return bool(records) and not any(record.diverged for record in records)


def median_lpips(records: Iterable[Record]) -> float:
    """On validation pictures."""
    return median(record.lpips for record in records)


def best_rate(records: Iterable[Record], contestant: Contestant) -> float | None:
    """Where the median of LPIPS is least, or None.

    Only rates count at which no run diverged and the median of PSNR lost is small enough.
    """
    found = {}
    for rate in RATES:
        at_rate = of(records, contestant, rate)
        if is_stable(at_rate) and median(record.lost_db for record in at_rate) <= MOST_LOST_DB:
            found[rate] = median_lpips(at_rate)
    return min(found, key=found.__getitem__) if found else None


def usable_decades(records: Iterable[Record], contestant: Contestant) -> float | None:
    """Width of the range around the best rate where no run diverged and LPIPS is nearly as good, in log10.

    None if there is no best rate. Rates beyond those that were tried are not counted.
    """
    best = best_rate(records, contestant)
    if best is None:
        return None
    most = USABLE_SHARE * median_lpips(of(records, contestant, best))

    def is_usable(rate: float) -> bool:
        at_rate = of(records, contestant, rate)
        return is_stable(at_rate) and median_lpips(at_rate) <= most

    first = last = RATES.index(best)
    while first > 0 and is_usable(RATES[first - 1]):
        first -= 1
    while last + 1 < len(RATES) and is_usable(RATES[last + 1]):
        last += 1
    return math.log10(RATES[last] / RATES[first])


def best_rules(records: Sequence[Record]) -> list[tuple[Contestant, float]]:
    """The best two rules, each with its best rate, the best first."""
    rates = {rule: best_rate(records, rule) for rule in RULES}
    found = [(rule, rate) for rule, rate in rates.items() if rate is not None]
    return sorted(found, key=lambda each: median_lpips(of(records, *each)))[:NUM_BEST]


def wanted(records: Sequence[Record]) -> Iterator[Run]:
    """All runs that are known by now, in their order: rules take turns, so that a busy machine slows all."""
    first = [rule for rule in (*RULES, Contestant.CONTENT) if rule is not Contestant.GEM_CONSTANT]
    grid = [Run(rule, rate, seed) for seed in FIRST_SEEDS for rate in RATES for rule in first]
    yield from grid
    done = {record.run.name for record in records}
    if any(run.name not in done for run in grid):
        return
    constant = [_constant(records, rate, seed) for rate in RATES for seed in FIRST_SEEDS]
    yield from constant
    gem_rate = best_rate(records, Contestant.GEM)
    if gem_rate is not None:
        yield from (Run(control, gem_rate, seed) for seed in FIRST_SEEDS for control in CONTROLS)
    if any(run.name not in done for run in constant):
        return
    best = best_rules(records)
    for seed in ALL_SEEDS:
        for rule, rate in best:
            is_constant = rule is Contestant.GEM_CONSTANT
            yield _constant(records, rate, seed) if is_constant else Run(rule, rate, seed)


def _constant(records: Iterable[Record], rate: float, seed: int) -> Run:
    of_gem = of(records, Contestant.GEM, rate)
    beta = fmean(beta for record in of_gem for beta in record.betas.values())
    return Run(Contestant.GEM_CONSTANT, rate, seed, round(beta, 3))
