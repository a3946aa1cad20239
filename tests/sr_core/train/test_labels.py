"""What a classifier is trained on: labels, spread over the classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sr_core.errors import SpecError
from sr_core.train.group import Group
from sr_core.train.labels import LabelStage, label_step
from sr_core.train.step import Batch, Numerics
from sr_core.train.trainer import Stage


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_cross_entropy_of_smoothed_labels(smoothing: float) -> None:
    torch.manual_seed(0)
    network = nn.Linear(5, 4)
    inputs, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 1, 1])
    shares = (1 - smoothing) * torch.eye(4)[labels] + smoothing / 4
    logits = network(inputs).detach()
    expected = -(shares * logits.log_softmax(1)).sum(1).mean()

    step = label_step(LabelStage(Stage(1, 6), smoothing), network, Group(), Numerics(num_parts=2))
    log = step(Batch(0, (inputs,), labels), 1.0)

    assert log.losses["total"] == pytest.approx(float(expected))
    assert log.losses["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


@pytest.mark.parametrize("settings", [{"label_smoothing": 1.0}, {"learning_rate": 0.0}])
def test_what_trains_nothing_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="cannot be trained so"):
        LabelStage(Stage(1, 6), **settings)
