from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.archs.srresnet import SRRESNET, SrResNetConfig
from sr_core.errors import TrainError
from sr_core.shrink import rounded, shrink
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.schedule import Course, Schedule
from sr_core.train.step import Batch, Numerics, PixelStep, Step, StepLog
from sr_core.train.trainer import Cadence, Position, Stage, Trainer
from tests.sr_core.threads import one_thread

STAGES = (
    Stage(40, 4, Schedule(warm_up_images=8), ema_decay=0.9),
    Stage(20, 4, Schedule(Course.STEPS), ema_decay=0.9),
)


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_thread():
        yield


@dataclass
class Notes:
    """Keeps what a trainer tells."""

    states: list[dict[str, Any]] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    num_logs: int = 0

    def log(self, position: Position, log: StepLog, share: float) -> None:
        self.num_logs += 1

    def validate(self, position: Position, network: nn.Module) -> None:
        self.positions.append(position)

    def save(self, position: Position, state: dict[str, Any], network: nn.Module) -> None:
        self.states.append(state)

    def tell(self, sentence: str) -> None:
        self.sentences.append(sentence)


def batches(stage: int, first: int, poisoned: int | None = None) -> Iterator[Batch]:
    number = first
    while True:
        generator = torch.Generator().manual_seed(1000 * stage + number)
        hr_frames = torch.rand(4, 3, 24, 24, generator=generator)
        hr_frames = nn.functional.avg_pool2d(hr_frames, 5, 1, 2)
        lr_frames = rounded(shrink(hr_frames, 2))
        if (stage, number) == (0, poisoned):
            hr_frames = hr_frames / 0
        yield Batch(number, (lr_frames,), hr_frames)
        number += 1


def network() -> nn.Module:
    torch.manual_seed(7)
    return ESPCN.build(EspcnConfig((16, 8), 2, Signal.RGB))


def batch_norm_network() -> nn.Module:
    torch.manual_seed(7)
    return SRRESNET.build(SrResNetConfig(num_feat=8, num_blocks=1, scale=2))


def trainer(
    trained: nn.Module, notes: Notes, poisoned: int | None = None, numerics: Numerics | None = None
) -> Trainer:
    def make_step(stage: int, trained: nn.Module) -> Step:
        objective = WeightedLoss(pixel_terms({"l1": 1.0}))
        return PixelStep(trained, objective, 2e-3, Group(), numerics or Numerics(clip_norm=1.0))

    def make_batches(stage: int, first: int) -> Iterator[Batch]:
        return batches(stage, first, poisoned)

    cadence = Cadence(log=1, validate=4, checkpoint=3)
    return Trainer(trained, STAGES, make_step, make_batches, notes, cadence=cadence, seed=3)


def weights(trained: nn.Module) -> list[Tensor]:
    return list(trained.state_dict().values())


def is_equal(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(left), weights(right), strict=True))


@pytest.mark.parametrize("make", [network, batch_norm_network])
@pytest.mark.parametrize("stop_after", [1, 5, 10, 12])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(make: Any, stop_after: int) -> None:
    whole = trainer(make(), Notes())
    assert whole.run()

    notes, count = Notes(), iter(range(stop_after))
    first = trainer(make(), notes)
    assert not first.run(lambda: next(count, None) is None)
    second = trainer(make(), Notes())
    second.load_state_dict(copy.deepcopy(notes.states[-1]))
    assert second.position == first.position
    assert second.run()

    assert is_equal(whole.network, second.network)
    assert is_equal(whole.ema.network, second.ema.network)


def test_all_images_of_all_stages_are_seen_and_validated() -> None:
    notes = Notes()
    done = trainer(network(), notes)
    done.run()

    assert done.position == Position(2, 0, 60)
    assert [position.num_images for position in notes.positions] == [16, 32, 40, 56, 60]
    assert notes.num_logs == 15


def test_training_lowers_the_loss() -> None:
    trained = trainer(network(), Notes())
    batch = next(batches(5, 0))
    before = (network()(*batch.inputs) - batch.truth).abs().mean()
    trained.run()

    assert (trained.ema.network(*batch.inputs) - batch.truth).abs().mean() < before / 2


def test_a_batch_that_is_not_finite_changes_nothing_and_is_left_out() -> None:
    notes = Notes()
    healed = trainer(network(), notes, poisoned=4)
    assert healed.run()

    assert all(torch.isfinite(weight).all() for weight in weights(healed.network))
    assert healed.position.num_images == 60
    [sentence] = notes.sentences
    assert "batch 4" in sentence
    assert "went back to image 12" in sentence


def test_a_batch_that_is_not_finite_after_a_resume_goes_back_to_where_that_began() -> None:
    notes, later = Notes(), Notes()
    assert not trainer(network(), notes).run(iter([False] * 4 + [True]).__next__)
    resumed = trainer(network(), later, poisoned=5)
    resumed.load_state_dict(notes.states[-1])

    assert resumed.run()

    [sentence] = later.sentences
    assert "batch 5" in sentence
    assert "went back to image 20" in sentence


def test_float16_that_stays_infinite_is_an_error_and_no_scale_hides_it() -> None:
    step = PixelStep(
        network(), WeightedLoss(pixel_terms({"l1": 1.0})), 2e-3, Group(), Numerics(torch.float16)
    )

    with pytest.raises(TrainError, match="not finite"):
        step(next(batches(0, 4, poisoned=4)), 1.0)
    assert math.isfinite(step(next(batches(0, 3)), 1.0).losses["l1"])


def test_a_run_that_is_never_finite_ends_with_the_batch_named() -> None:
    class Broken:
        def __call__(self, sr_frames: Tensor, hr_frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return (sr_frames * torch.nan).sum(), {}

    def make_step(stage: int, trained: nn.Module) -> Step:
        return PixelStep(trained, Broken(), 1e-3, Group(), Numerics())

    made = network()
    before = [weight.clone() for weight in weights(made)]
    broken = Trainer(made, STAGES, make_step, batches, Notes())

    with pytest.raises(TrainError, match="batch 3"):
        broken.run()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(made), strict=True))


def test_parts_of_a_batch_give_the_gradient_of_the_whole() -> None:
    whole = trainer(network(), Notes(), numerics=Numerics())
    parts = trainer(network(), Notes(), numerics=Numerics(num_parts=2))
    for each in (whole, parts):
        stop = iter([False, True])
        each.run(lambda stop=stop: next(stop))  # type: ignore[misc]

    for a, b in zip(weights(parts.network), weights(whole.network), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_bf16_trains_too_with_weights_in_float32() -> None:
    trained = trainer(network(), Notes(), numerics=Numerics(torch.bfloat16))
    trained.run()

    assert {weight.dtype for weight in weights(trained.network)} == {torch.float32}
    assert all(torch.isfinite(weight).all() for weight in weights(trained.network))
