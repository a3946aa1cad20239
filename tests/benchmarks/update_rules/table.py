"""Tables, made of the records alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import fmean, median, stdev

from tests.benchmarks.update_rules.protocol import (
    ALL_SEEDS,
    CONTROLS,
    RATES,
    RULES,
    Contestant,
    Point,
    Record,
    Scores,
    best_rate,
    best_rules,
    is_stable,
    of,
    usable_decades,
)

EVERYONE = (*RULES, *CONTROLS, Contestant.CONTENT)
NOTHING = "-"


def tables(records: Sequence[Record]) -> Iterator[str]:
    """Lines of Markdown."""
    yield from _start(records)
    yield from _choice(records)
    yield from _result(records)
    yield from _equal_time(records)
    yield from _best_rules(records)


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield from ("", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}")
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _start(records: Sequence[Record]) -> Iterator[str]:
    start = records[0].points[0]
    test = _tested(start)
    yield (
        f"Start: validation {start.validation.psnr_y:.2f} dB, LPIPS {start.validation.lpips:.4f}; "
        f"test {test.psnr_y:.2f} dB, LPIPS {test.lpips:.4f}"
    )


def _choice(records: Sequence[Record]) -> Iterator[str]:
    """What rates and rules are chosen by."""
    yield "\nValidation, by learning rate: median LPIPS (median dB lost), diverged runs"
    yield from _rows(
        ("", *(f"{rate:g}" for rate in RATES)),
        ([rule, *(_at_rate(of(records, rule, rate)) for rate in RATES)] for rule in EVERYONE),
    )


def _at_rate(records: Sequence[Record]) -> str:
    if not records:
        return NOTHING
    num_diverged = sum(bool(record.diverged) for record in records)
    diverged = f", {num_diverged}/{len(records)} diverged" if num_diverged else ""
    done = [record for record in records if not record.diverged]
    if not done:
        return diverged.removeprefix(", ")
    lpips = median(record.lpips for record in done)
    return f"{lpips:.4f} ({median(record.lost_db for record in done):.2f}){diverged}"


def _result(records: Sequence[Record]) -> Iterator[str]:
    yield "\nTest at each one's best rate and equal gradients: mean ± deviation over seeds"
    head = ("", "rate", "runs", "LPIPS", "dB lost", "usable decades", "diverged", "beta G, D", "ms", "raw")
    yield from _rows(head, (_result_row(records, contestant) for contestant in EVERYONE))


def _result_row(records: Sequence[Record], contestant: Contestant) -> list[str]:
    """One contestant; "ms" is CPU time for a gradient, "raw" is validation LPIPS without the average."""
    own = [record for record in records if record.run.contestant is contestant]
    if not own:
        return [contestant, *[NOTHING] * 9]
    diverged = f"{sum(bool(record.diverged) for record in own)}/{len(own)}"
    beta = f"{_mean_beta(own, 'generator')}, {_mean_beta(own, 'discriminator')}"
    rate = control_rate(records, contestant)
    at_rate = of(own, contestant, rate, ALL_SEEDS) if rate else []
    if not is_stable(at_rate):
        return [contestant, *[NOTHING] * 5, diverged, beta, f"{ms_a_gradient(own):.1f}", NOTHING]
    ends = [_tested(record.points[-1]) for record in at_rate]
    lost = [_tested(record.points[0]).psnr_y - end.psnr_y for record, end in zip(at_rate, ends, strict=True)]
    width = usable_decades(records, contestant)
    return [
        contestant,
        f"{rate:g}",
        str(len(at_rate)),
        spread([end.lpips for end in ends]),
        f"{fmean(lost):.2f}",
        NOTHING if width is None or contestant in CONTROLS else f"{width:.1f}",
        diverged,
        beta,
        f"{ms_a_gradient(own):.1f}",
        f"{fmean(record.raw.lpips for record in at_rate if record.raw):.4f}",
    ]


def control_rate(records: Sequence[Record], contestant: Contestant) -> float | None:
    """The rate that a contestant is judged at: its best, or that of GEM, whose controls have no other."""
    return best_rate(records, Contestant.GEM if contestant in CONTROLS else contestant)


def _mean_beta(records: Iterable[Record], player: str) -> str:
    betas = [record.betas[player] for record in records if player in record.betas]
    return f"{fmean(betas):.3f}" if betas else NOTHING


def spread(values: Sequence[float]) -> str:
    """Mean and deviation."""
    return f"{fmean(values):.4f} ± {stdev(values) if len(values) > 1 else math.nan:.4f}"


def ms_a_gradient(records: Iterable[Record]) -> float:
    """Median CPU time, over runs that may have had to share their processor; NaN if none was measured."""
    ends = [record.points[-1] for record in records]
    times = [1000 * end.cpu_s / end.num_gradients for end in ends if end.num_gradients]
    return median(times) if times else math.nan


def _equal_time(records: Sequence[Record]) -> Iterator[str]:
    """What everyone has reached when the fastest game is over."""
    of_rules = ([record for record in records if record.run.contestant is rule] for rule in RULES)
    fastest = min(ms for own in of_rules if not math.isnan(ms := ms_a_gradient(own)))
    yield "\nTest at equal CPU time: what the fastest game takes for all its gradients"
    yield from _rows(
        ("", "gradients", "LPIPS", "dB lost"),
        (_equal_time_row(records, contestant, fastest) for contestant in EVERYONE),
    )


def _equal_time_row(records: Sequence[Record], contestant: Contestant, fastest_ms: float) -> list[str]:
    rate = control_rate(records, contestant)
    at_rate = of(records, contestant, rate, ALL_SEEDS) if rate else []
    if not is_stable(at_rate):
        return [contestant, *[NOTHING] * 3]
    own = [record for record in records if record.run.contestant is contestant]
    num_gradients = at_rate[0].points[-1].num_gradients * min(1.0, fastest_ms / ms_a_gradient(own))
    there = [figures_after(record, num_gradients) for record in at_rate]
    lost = [_tested(record.points[0]).psnr_y - at.psnr_y for record, at in zip(at_rate, there, strict=True)]
    return [
        contestant,
        f"{num_gradients:.0f}",
        spread([at.lpips for at in there]),
        f"{fmean(lost):.2f}",
    ]


def figures_after(record: Record, num_gradients: float) -> Scores:
    """Between the points where it was measured, on a straight line."""
    tested = [point for point in record.points if point.test]
    for before, after in pairwise(tested):
        if num_gradients <= after.num_gradients:
            part = (num_gradients - before.num_gradients) / (after.num_gradients - before.num_gradients)
            ends = _tested(before), _tested(after)
            return Scores(*(left + part * (right - left) for left, right in _both(*ends)))
    return _tested(tested[-1])


def _both(before: Scores, after: Scores) -> tuple[tuple[float, float], tuple[float, float]]:
    return (before.psnr_y, after.psnr_y), (before.lpips, after.lpips)


def _tested(point: Point) -> Scores:
    assert point.test is not None, f"not measured after {point.num_gradients} gradients"
    return point.test


def _best_rules(records: Sequence[Record]) -> Iterator[str]:
    """The best two rules seed by seed."""
    best = best_rules(records)
    if len(best) < 2:
        return
    ours, theirs = ({r.run.seed: r for r in of(records, *each, ALL_SEEDS)} for each in best)
    seeds = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    both = [pair for pair in pairs if is_stable(pair)]
    yield f"\n{best[0][0]} against {best[1][0]}, {len(seeds)} seeds, {len(seeds) - len(both)} diverged"
    if len(both) < 2:
        return
    less = [_tested(a.points[-1]).lpips - _tested(b.points[-1]).lpips for a, b in both]
    error = stdev(less) / math.sqrt(len(less))
    won = sum(difference < 0 for difference in less)
    yield f"LPIPS {fmean(less):+.4f}, standard error {error:.4f}; less with {won} of {len(less)} seeds"
