"""The stage that trains a classifier, and its step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.errors import SpecError
from sr_core.train.group import Group
from sr_core.train.step import Batch, DescentStep, Numerics
from sr_core.train.trainer import Stage


@dataclass(frozen=True)
class LabelStage:
    """One stage that makes the cross entropy of labels small.

    Attributes:
        stage: How long, how large and how fast.
        label_smoothing: Share of each label that is spread over all classes (Szegedy et al. 2016,
            arXiv:1512.00567): what is learnt then is less sure of itself.
        learning_rate: Of Adam, before the schedule.
    """

    stage: Stage
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    learning_rate: float = 1e-3

    @property
    def goals(self) -> tuple[tuple[str, float], ...]:
        """All that the network makes small, in words, and the weight of each."""
        return ((f"cross entropy with labels smoothed by {self.label_smoothing:g}", 1.0),)

    def __post_init__(self) -> None:
        if not (
            0 <= self.label_smoothing < 1 and math.isfinite(self.learning_rate) and self.learning_rate > 0
        ):
            raise SpecError(
                "a classifier cannot be trained so",
                where="label_smoothing",
                got=f"label smoothing {self.label_smoothing:g}, learning rate {self.learning_rate:g}",
                expected="a smoothing from 0 to below 1, and a learning rate above 0",
            )


def label_step(asked: LabelStage, network: nn.Module, group: Group, numerics: Numerics) -> DescentStep[Batch]:
    """The step of the stage; the truth of its batches are the numbers of classes, (B,) int64.

    Args:
        asked: What the user asks for.
        network: The classifier, on the group's device.
        group: The workers.
        numerics: Precision, parts and clipping.
    """

    def loss(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = network(*part.inputs).float()
        cross_entropy = F.cross_entropy(logits, part.truth, label_smoothing=asked.label_smoothing)
        is_right = logits.detach().argmax(1) == part.truth
        return cross_entropy, {"accuracy": is_right.float().mean()}

    return DescentStep(network, loss, asked.learning_rate, group, numerics)
