"""What discriminator and generator want of the logits: the games that they can play.

In each, the discriminator lowers its loss by giving true images higher logits than made ones, the generator
its own by turning that. Logits are raw numbers, of whole images (B, 1) or of regions (B, 1, h, w); all are
averaged, so that a loss keeps its scale from one discriminator to another. Losses are computed in float32.

In a discriminator's step, made images come detached from the generator. In a generator's, true logits need
no gradient; only relativistic losses look at them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from sr_core.train.losses.named import named
from sr_core.train.losses.precision import widened


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of one game.

    Attributes:
        name: As users write it.
        paper: Where it was published.
        of_discriminator: Scalar of true and made logits in float32.
        of_generator: The same.
    """

    name: str
    paper: str
    of_discriminator: Callable[[Tensor, Tensor], Tensor]
    of_generator: Callable[[Tensor, Tensor], Tensor]

    def discriminator(self, true_logits: Tensor, made_logits: Tensor) -> Tensor:
        """What the discriminator lowers, a scalar."""
        return self.of_discriminator(widened(true_logits), widened(made_logits))

    def generator(self, true_logits: Tensor, made_logits: Tensor) -> Tensor:
        """What the generator lowers, a scalar."""
        return self.of_generator(widened(true_logits), widened(made_logits))


def _cross_entropy(true_logits: Tensor, made_logits: Tensor) -> Tensor:
    # softplus(-x) is -log(sigmoid(x)), softplus(x) is -log(1 - sigmoid(x)), for any x without overflow.
    return F.softplus(-true_logits).mean() + F.softplus(made_logits).mean()


def _saturating(_: Tensor, made_logits: Tensor) -> Tensor:
    return -F.softplus(made_logits).mean()


def _non_saturating(_: Tensor, made_logits: Tensor) -> Tensor:
    return F.softplus(-made_logits).mean()


def _squares(true_logits: Tensor, made_logits: Tensor) -> Tensor:
    return ((true_logits - 1).square().mean() + made_logits.square().mean()) / 2


def _square_to_true(_: Tensor, made_logits: Tensor) -> Tensor:
    return (made_logits - 1).square().mean() / 2


def _margins(true_logits: Tensor, made_logits: Tensor) -> Tensor:
    return F.relu(1 - true_logits).mean() + F.relu(1 + made_logits).mean()


def _mean_distance(true_logits: Tensor, made_logits: Tensor) -> Tensor:
    return made_logits.mean() - true_logits.mean()


def _minus_mean(_: Tensor, made_logits: Tensor) -> Tensor:
    return -made_logits.mean()


def _relative(true_logits: Tensor, made_logits: Tensor) -> Tensor:
    return _cross_entropy(true_logits - made_logits.mean(), made_logits - true_logits.mean())


def _relative_turned(true_logits: Tensor, made_logits: Tensor) -> Tensor:
    return _relative(made_logits, true_logits)


VANILLA = AdversarialLoss("vanilla", "arXiv:1406.2661", _cross_entropy, _saturating)
"""The minimax game, both sides of one value: the generator lowers mean log(1 - D), below 0.

Its gradient vanishes where the discriminator is sure, as at the start. What other frameworks call "vanilla"
is the non-saturating game.
"""

NON_SATURATING = AdversarialLoss("non_saturating", "arXiv:1406.2661", _cross_entropy, _non_saturating)
"""The same discriminator; the generator raises mean log(D): same fixed point, strong gradients."""

LEAST_SQUARES = AdversarialLoss("least_squares", "arXiv:1611.04076", _squares, _square_to_true)
"""LSGAN with true images at 1, made ones at 0, and the paper's halves, also of the generator's loss."""

HINGE = AdversarialLoss("hinge", "arXiv:1705.02894", _margins, _minus_mean)
"""Geometric GAN: true logits above 1 and made ones below -1 count no more."""

WASSERSTEIN = AdversarialLoss("wasserstein", "arXiv:1701.07875", _mean_distance, _minus_mean)
"""Difference of the means. Without bound, unless something keeps the discriminator's slope small.

That is spectral normalisation or a gradient penalty; the paper's weight clipping is not here.
"""

RELATIVISTIC_AVERAGE = AdversarialLoss(
    "relativistic_average", "arXiv:1807.00734", _relative, _relative_turned
)
"""Each image against the mean logit of the other kind in this batch, as ESRGAN has it (arXiv:1809.00219).

The generator's loss is the discriminator's with true and made exchanged. Both are sums, as in the papers;
ESRGAN's code halves them.
"""

ADVERSARIAL_LOSSES = (VANILLA, NON_SATURATING, LEAST_SQUARES, HINGE, WASSERSTEIN, RELATIVISTIC_AVERAGE)


def adversarial_loss(name: str) -> AdversarialLoss:
    """The one of `ADVERSARIAL_LOSSES` with this name.

    Raises:
        SpecError: None has it.
    """
    return named(name, {loss.name: loss for loss in ADVERSARIAL_LOSSES}, "adversarial loss")
