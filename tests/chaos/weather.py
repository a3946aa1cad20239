"""What happens to the requests of a store: spells of bad weather, drawn at random."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.stores.fault_proxy import Fault, FaultProxy, Request


@dataclass
class Spell:
    """Bad weather over some requests.

    Attributes:
        faults: One of which happens to each request that is hit.
        until_s: When it is over, on the monotonic clock.
        most: Requests that are hit before it is over.
        share: Of the requests while it lasts.
        matches: Which requests it can hit.
        hit: What happened so far.
    """

    faults: tuple[Fault, ...]
    until_s: float
    most: int
    share: float = 1.0
    matches: Callable[[Request], bool] = lambda request: True
    hit: Counter[str] = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return time.monotonic() >= self.until_s or self.hit.total() >= self.most


class Weather:
    """Chooses what happens to each request that passes a proxy.

    Attributes:
        spells: All there were.
    """

    def __init__(self, proxy: FaultProxy, rng: random.Random) -> None:
        self.spells: list[Spell] = []
        self._rng = rng
        self._traps: list[Callable[[Request], bool]] = []
        proxy.silence_s = 4.0
        proxy.choose = self._choose

    def trap(self, springs: Callable[[Request], bool]) -> None:
        """Has `springs` called with every request until it says True; that request is then reset."""
        self._traps.append(springs)

    def clear_up(self) -> None:
        """Ends all spells and removes all traps."""
        self._traps.clear()
        for spell in self.spells:
            spell.until_s = 0.0

    def _choose(self, request: Request) -> Fault | None:
        for springs in list(self._traps):
            if springs(request):
                self._traps.remove(springs)
                return Fault.RESET
        for spell in self.spells:
            if not spell.is_over and spell.matches(request) and self._rng.random() < spell.share:
                fault = self._rng.choice(spell.faults)
                spell.hit[fault.name] += 1
                return fault
        return None
