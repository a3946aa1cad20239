"""The stage that trains a variational auto-encoder, and its step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from sr_core.errors import SpecError
from sr_core.generative.vae import Vae, VaeOutput, negative_elbo
from sr_core.train.group import Group
from sr_core.train.step import Batch, DescentStep, Numerics
from sr_core.train.trainer import Stage


@dataclass(frozen=True)
class ElboStage:
    """One stage that makes the negative evidence lower bound small.

    Attributes:
        stage: How long, how large and how fast.
        deviation: Of the normal distribution around each decoded value, which are 0 to 1. The smaller, the
            more faithful reconstructions are, and the less the codes are what images are drawn from.
        learning_rate: Of Adam, before the schedule.
    """

    stage: Stage
    deviation: Annotated[float, Field(gt=0, le=1)] = 0.1
    learning_rate: float = 1e-3

    @property
    def goals(self) -> tuple[tuple[str, float], ...]:
        """All that the network makes small, in words, and the weight of each."""
        return ((f"negative ELBO with a deviation of {self.deviation:g}", 1.0),)

    def __post_init__(self) -> None:
        if not (0 < self.deviation <= 1 and math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SpecError(
                "an auto-encoder cannot be trained so",
                where="deviation",
                got=f"deviation {self.deviation:g}, learning rate {self.learning_rate:g}",
                expected="a deviation above 0 and 1 at most, and a learning rate above 0",
            )


def elbo_step(asked: ElboStage, network: Vae, group: Group, numerics: Numerics) -> DescentStep[Batch]:
    """The step of the stage; codes are drawn of torch's own random numbers.

    Args:
        asked: What the user asks for.
        network: On the group's device.
        group: The workers.
        numerics: Precision, parts and clipping.
    """

    def loss(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        output = VaeOutput(*(each.float() for each in network(*part.inputs)))
        elbo = negative_elbo(output, part.truth, asked.deviation)
        return elbo.total, {"reconstruction": elbo.reconstruction, "divergence": elbo.divergence}

    return DescentStep(network, loss, asked.learning_rate, group, numerics)
