"""The guard of an adversarial stage: it tells when the game is lost or colours go astray.

It looks at means over windows of batches, one window after the other, so that no single batch raises an
alarm. A trouble is told when it sets in, and again only after a window without it. All numbers that it sees
are means over the workers: every worker comes to the same sentences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

# A perfect discriminator leaves a generator no gradient (Arjovsky and Bottou 2017, arXiv:1701.04862). Under
# cross entropy, a slope of 2 % is that of a discriminator which is right with 98 % certainty on average.
_LEAST_SLOPE = 0.02
# Probabilities that differ by a fortieth of a percent. A fresh discriminator is far above: one with spectral
# normalisation, which makes logits smallest, spreads them by 0.01.
_LEAST_LOGITS = 1e-3
# Rounding to 8 bits moves a mean by half a code at most. A code of grey is about 0.4 of L*, and 1 of L* is
# just visible side by side: drift is told before it is seen.
_MOST_BIAS_CODES = 1.0
_MOST_RISE_CODES = 1.0
# Pictures that are mixed of a few modes still differ by most of what true ones do; a quarter is left where
# only shades of one picture are.
_LEAST_VARIETY = 0.25


_CHANNELS = {1: ("luma",), 3: ("red", "green", "blue")}


@dataclass(frozen=True)
class Signs:
    """What is known of a batch, or of a window of them: means over pictures and workers.

    Attributes:
        true_logit: Of true pictures.
        made_logit: Of the generator's.
        spread: Standard deviation over all logits of a batch, of true and made pictures.
        discriminator_slope: How strongly the discriminator's loss depends on its logits, in relation to
            logits of 0: near 0 it learns nothing.
        generator_slope: The same of the generator's adversarial loss.
        color_error: Mean absolute difference of made and true pictures in 8-bit codes, both made coarse so
            that only colours are left; None where pictures are made of noise, which have no truth each.
        color_bias: By how many 8-bit codes made pictures lie above the true ones: luma's, or one for each
            channel of R'G'B'; none where pictures are made of noise.
        variety: How much made pictures differ from each other in relation to true ones: the ratio of their
            standard deviations over a batch. Known where they are made of noise.
    """

    true_logit: float
    made_logit: float
    spread: float
    discriminator_slope: float
    generator_slope: float
    color_error: float | None = None
    color_bias: tuple[float, ...] = ()
    variety: float | None = None

    def figures(self) -> dict[str, float]:
        """All that are known, by name."""
        single = {name: getattr(self, name) for name in SINGLE}
        known: dict[str, float] = {name: value for name, value in single.items() if value is not None}
        return known | {_bias_name(channel): bias for bias, channel in self.biases()}

    @classmethod
    def of_figures(cls, figures: Mapping[str, float]) -> Self:
        """The opposite of `figures`."""
        bias = tuple(value for name, value in figures.items() if name not in SINGLE)
        return cls(**{name: figures[name] for name in SINGLE if name in figures}, color_bias=bias)

    def biases(self) -> list[tuple[float, str]]:
        """Of each channel, with its name."""
        if not self.color_bias:
            return []
        return list(zip(self.color_bias, _CHANNELS[len(self.color_bias)], strict=True))


SINGLE = (
    "true_logit",
    "made_logit",
    "spread",
    "discriminator_slope",
    "generator_slope",
    "color_error",
    "variety",
)
"""Names of the signs that are one number each, in their order."""


def _bias_name(channel: str) -> str:
    return f"color_bias/{channel}"


@dataclass(frozen=True)
class Window:
    """What a trouble is told from.

    Attributes:
        now: Means over the window.
        first: Those of the first window of the stage.
        num_values: Of one true picture: channels times pixels.
    """

    now: Signs
    first: Signs
    num_values: int

    @property
    def gap(self) -> float:
        """Between the logits of true and made pictures."""
        return self.now.true_logit - self.now.made_logit

    @property
    def widest_gap(self) -> float:
        """Between two pictures of values 0..1, of any discriminator whose slope is 1 at most."""
        return math.sqrt(self.num_values)

    @property
    def worst_bias(self) -> tuple[float, str]:
        """The largest bias, with its sign, and the channel's name; 0 where none is known."""
        return max(self.now.biases(), key=lambda bias: abs(bias[0]), default=(0.0, ""))

    @property
    def rise(self) -> float:
        """By how much colours are further off than at first; 0 where that is not known."""
        return (self.now.color_error or 0.0) - (self.first.color_error or 0.0)

    @property
    def logits(self) -> str:
        """Told."""
        return f"mean logits are {self.now.true_logit:.3g} (true) and {self.now.made_logit:.3g} (made)"


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong.

    Attributes:
        name: Names it in checkpoints.
        is_there: Whether a window shows it.
        sentence: Tells it, and what to do.
    """

    name: str
    is_there: Callable[[Window], bool]
    sentence: Callable[[Window], str]


TROUBLES = (
    Trouble(
        "won",
        lambda window: window.now.discriminator_slope < _LEAST_SLOPE,
        lambda window: (
            "the discriminator has won and learns nothing more: its loss has "
            f"{window.now.discriminator_slope:.2%} of the slope that it has at logits of 0, {window.logits}; "
            "raise r1, or lower its learning rate"
        ),
    ),
    Trouble(
        "deaf",
        lambda window: window.now.generator_slope < _LEAST_SLOPE,
        lambda window: (
            "the generator learns nothing more from the discriminator: its adversarial loss has "
            f"{window.now.generator_slope:.2%} of the slope that it has at logits of 0, {window.logits}; "
            "take another adversarial loss, or change the balance of the learning rates"
        ),
    ),
    Trouble(
        "blind",
        lambda window: max(window.now.spread, abs(window.gap)) < _LEAST_LOGITS,
        lambda window: (
            f"the discriminator sees no difference between any pictures: {window.logits} and spread over "
            f"{window.now.spread:.2g}; lower r1 and r2, or raise its learning rate"
        ),
    ),
    Trouble(
        "runaway",
        lambda window: abs(window.gap) > window.widest_gap,
        lambda window: (
            f"the discriminator's logits run away: {window.logits}, further apart than the "
            f"{window.widest_gap:.0f} that a slope of 1 allows between any two pictures; raise r1"
        ),
    ),
    Trouble(
        "tint",
        lambda window: abs(window.worst_bias[0]) > _MOST_BIAS_CODES,
        lambda window: (
            "colours drift: {1} of the generator's pictures is off by {0:+.2f} codes of 8 bits on average; "
            "raise the weight of the pixel losses".format(*window.worst_bias)
        ),
    ),
    Trouble(
        "stains",
        lambda window: window.rise > _MOST_RISE_CODES,
        lambda window: (
            "colours drift: coarse parts of the generator's pictures are off by "
            f"{window.now.color_error:.2f} codes of 8 bits, and were by {window.first.color_error:.2f} at "
            "the start of the stage; raise the weight of the pixel losses"
        ),
    ),
    Trouble(
        "alike",
        lambda window: window.now.variety is not None and window.now.variety < _LEAST_VARIETY,
        lambda window: (
            "the generator makes nearly the same picture of any noise: its pictures differ from each other "
            f"{window.now.variety:.1%} as much as true ones; raise r1, change the balance of the learning "
            "rates, or take another adversarial loss"
        ),
    ),
)


class Guard:
    """Watches a stage."""

    def __init__(self, num_batches: int) -> None:
        """Looks at windows of so many batches."""
        self._num_batches = num_batches
        self._sums: dict[str, float] = {}
        self._num_seen = 0
        self._first: dict[str, float] = {}
        self._present: set[str] = set()

    def see(self, signs: Signs, num_values: int) -> tuple[str, ...]:
        """Takes the signs of the next batch, whose true pictures have so many values each.

        Returns:
            What has set in with the window that ends with this batch; nothing within a window.
        """
        for name, value in signs.figures().items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._num_seen += 1
        if self._num_seen < self._num_batches:
            return ()
        means = {name: total / self._num_seen for name, total in self._sums.items()}
        self._sums, self._num_seen = {}, 0
        self._first = self._first or means
        return self._new(Window(Signs.of_figures(means), Signs.of_figures(self._first), num_values))

    def _new(self, window: Window) -> tuple[str, ...]:
        """Sentences on the troubles that the last window did not have."""
        present = [trouble for trouble in TROUBLES if trouble.is_there(window)]
        new = [trouble for trouble in present if trouble.name not in self._present]
        self._present = {trouble.name for trouble in present}
        return tuple(f"over {self._num_batches} batches, {trouble.sentence(window)}" for trouble in new)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on within a window."""
        return {
            "sums": dict(self._sums),
            "num_seen": self._num_seen,
            "first": dict(self._first),
            "present": sorted(self._present),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from where another one was."""
        self._sums, self._num_seen = dict(state["sums"]), state["num_seen"]
        self._first, self._present = dict(state["first"]), set(state["present"])
