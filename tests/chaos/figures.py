"""What faults cost, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tests.chaos.episode import Account


@dataclass(frozen=True)
class Cost:
    """What faults of one kind cost, from the episodes in which nothing else happened.

    Attributes:
        num_faults: In all episodes.
        num_alone: Of these, in episodes of this kind alone, of which the other figures tell.
        seconds: That a fault adds to a job.
        reruns: Starts of the command for each fault.
        attempts_lost: Attempts on record as failed, for each fault.
        computed_twice: Segments stored again for each fault, less those that were spoiled.
    """

    kind: str
    num_faults: int
    num_alone: int
    seconds: float
    reruns: float
    attempts_lost: float
    computed_twice: float


def costs(accounts: Sequence[Account], usual_s: dict[str, float]) -> list[Cost]:
    """By kind, in the order of their number."""
    struck: Counter[str] = sum((account.struck for account in accounts), Counter())
    return [_cost(kind, number, accounts, usual_s) for kind, number in struck.most_common()]


def as_json(accounts: Sequence[Account], usual_s: dict[str, float], seed: int) -> dict[str, Any]:
    """Everything, to be kept."""
    recoveries = sorted(second for account in accounts for second in account.recoveries_s)
    return {
        "seed": seed,
        "num_faults": sum(account.struck.total() for account in accounts),
        "num_findings": sum(len(account.findings) for account in accounts),
        "num_unproven": sum(account.num_unproven for account in accounts),
        "undisturbed_seconds": usual_s,
        "seconds_to_work_again": {"median": median(recoveries), "most": recoveries[-1]}
        if recoveries
        else None,
        "costs": [asdict(cost) for cost in costs(accounts, usual_s)],
        "broken_requests": sum((account.num_broken_requests for account in accounts), Counter()),
        "episodes": [
            {**vars(account), "findings": [asdict(found) for found in account.findings]}
            for account in accounts
        ],
    }


def table(accounts: Sequence[Account], usual_s: dict[str, float]) -> str:
    """For people."""
    lines = [f"{'fault':38} {'faults':>6} {'alone':>5} {'s each':>7} {'reruns':>6} {'lost':>5} {'twice':>5}"]
    for cost in costs(accounts, usual_s):
        figures = (
            f"{cost.seconds:7.1f} {cost.reruns:6.2f} {cost.attempts_lost:5.2f} {cost.computed_twice:5.2f}"
        )
        lines.append(
            f"{cost.kind:38} {cost.num_faults:6} {cost.num_alone:5} {figures if cost.num_alone else ''}"
        )
    return "\n".join(lines)


def _cost(kind: str, number: int, accounts: Sequence[Account], usual_s: dict[str, float]) -> Cost:
    alone = [account for account in accounts if set(account.struck) == {kind}]
    num_alone = sum(account.struck[kind] for account in alone)
    each = max(1, num_alone)
    return Cost(
        kind,
        number,
        num_alone,
        round(sum(account.seconds - usual_s[account.job] for account in alone) / each, 2),
        round(sum(account.num_reruns for account in alone) / each, 2),
        round(sum(account.num_lost for account in alone) / each, 2),
        round(sum(account.num_computed_twice for account in alone) / each, 2),
    )
