"""Single steps of training, whatever the network is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.errors import TrainError
from sr_core.shrink import rounded, shrink
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.step import Batch, DescentStep, Numerics, PixelStep, Teacher
from tests.sr_core.threads import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return ESPCN.build(EspcnConfig((8, 8), 2, Signal.RGB))


def batch(number: int) -> Batch:
    hr_frames = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(number))
    return Batch(number, (rounded(shrink(hr_frames, 2)),), hr_frames)


def step_of(
    trained: nn.Module, numerics: Numerics | None = None, teacher: Teacher | None = None
) -> PixelStep:
    l1 = WeightedLoss(pixel_terms({"l1": 1.0}))
    return PixelStep(trained, l1, 1e-3, Group(), numerics or Numerics(), teacher=teacher)


def test_a_student_is_pulled_to_its_teacher_as_much_as_its_weight_says() -> None:
    teacher = Teacher(network(1).eval(), 3.0)
    made = network()(*batch(0).inputs).detach()
    to_truth, to_teacher = (
        (made - other).abs().mean() for other in (batch(0).truth, teacher(*batch(0).inputs))
    )

    losses = step_of(network(), teacher=teacher)(batch(0), 1.0).losses

    assert losses["l1"] == pytest.approx(float(to_truth))
    assert losses["teacher"] == pytest.approx(float(to_teacher), rel=1e-3)
    assert losses["total"] == pytest.approx(losses["l1"] + 3 * losses["teacher"])


def test_a_student_comes_nearer_to_its_teacher_which_stays_what_it_is() -> None:
    teacher, student = network(1).eval(), network()
    before = [weight.clone() for weight in teacher.parameters()]

    def distance() -> float:
        with torch.no_grad():
            return float((student(*batch(99).inputs) - teacher(*batch(99).inputs)).abs().mean())

    start, step = distance(), step_of(student, teacher=Teacher(teacher, 100.0))
    for number in range(60):
        step(batch(number), 1.0)

    assert distance() < start / 2
    assert all(torch.equal(old, new) for old, new in zip(before, teacher.parameters(), strict=True))


def test_a_refused_step_leaves_the_means_of_batch_norm_alone() -> None:
    torch.manual_seed(0)
    trained = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: buffer.clone() for name, buffer in trained.named_buffers()}

    def loss(part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return trained(*part.inputs).mean() / 0, {}

    with pytest.raises(TrainError, match="batch 3"):
        DescentStep(trained, loss, 1e-3, Group(), Numerics())(batch(3), 1.0)

    assert all(torch.equal(before[name], buffer) for name, buffer in trained.named_buffers())


# Of torch's own compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "numerics",
    [
        Numerics(is_channels_last=True),
        pytest.param(
            Numerics(is_compiled=True),
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
            ],
        ),
    ],
    ids=["channels_last", "compiled"],
)
def test_layout_and_compiler_change_no_more_than_the_last_digits(numerics: Numerics) -> None:
    plain, other = network(), network()
    other = numerics.prepared(other)
    steps = step_of(plain), step_of(other, numerics)
    for number in range(5):
        expected, got = (step(batch(number), 1.0).losses["total"] for step in steps)
        assert got == pytest.approx(expected, rel=1e-4)

    assert plain.state_dict().keys() == other.state_dict().keys()
    for weight, changed in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(changed, weight, rtol=0, atol=2e-4)
