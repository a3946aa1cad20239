import math

import pytest
import torch
from torch import Tensor, nn

from sr_core.errors import SpecError
from sr_core.train.losses.adversarial import (
    ADVERSARIAL_LOSSES,
    HINGE,
    LEAST_SQUARES,
    NON_SATURATING,
    RELATIVISTIC_AVERAGE,
    VANILLA,
    WASSERSTEIN,
    AdversarialLoss,
    adversarial_loss,
)

EVERY = pytest.mark.parametrize("loss", ADVERSARIAL_LOSSES, ids=lambda loss: loss.name)


def logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        (VANILLA, softplus(-2) + softplus(0.5), -softplus(0.5)),
        (NON_SATURATING, softplus(-2) + softplus(0.5), softplus(-0.5)),
        (LEAST_SQUARES, (1 + 0.25) / 2, 0.25 / 2),
        (HINGE, 0 + 1.5, -0.5),
        (WASSERSTEIN, 0.5 - 2, -0.5),
        (RELATIVISTIC_AVERAGE, 2 * softplus(-1.5), 2 * softplus(1.5)),
    ],
    ids=lambda value: value.name if isinstance(value, AdversarialLoss) else "",
)
def test_one_true_and_one_made_logit_give_the_papers_values(
    loss: AdversarialLoss, discriminator: float, generator: float
) -> None:
    true_logits, made_logits = torch.tensor([[2.0]]), torch.tensor([[0.5]])

    assert loss.discriminator(true_logits, made_logits).item() == pytest.approx(discriminator)
    assert loss.generator(true_logits, made_logits).item() == pytest.approx(generator)


def test_vanilla_is_one_value_that_both_sides_play_for() -> None:
    true_logits, made_logits = logits(0, 8, 1), logits(1, 8, 1)
    probabilities = made_logits.double().sigmoid()

    generator = VANILLA.generator(true_logits, made_logits)
    true_term = -true_logits.double().sigmoid().log().mean()

    assert generator.item() == pytest.approx(float((1 - probabilities).log().mean()), rel=1e-5)
    total = VANILLA.discriminator(true_logits, made_logits) + generator
    assert total.item() == pytest.approx(float(true_term), rel=1e-5)


def test_a_sure_discriminator_stops_the_saturating_generator_alone() -> None:
    made_logits = torch.full((4, 1), -20.0, requires_grad=True)

    (saturated,) = torch.autograd.grad(VANILLA.generator(made_logits, made_logits), made_logits)
    (strong,) = torch.autograd.grad(NON_SATURATING.generator(made_logits, made_logits), made_logits)

    assert float(saturated.abs().max()) < 1e-8
    torch.testing.assert_close(strong, torch.full((4, 1), -0.25))


def test_relativistic_generator_plays_the_discriminators_game_with_sides_exchanged() -> None:
    true_logits, made_logits = logits(0, 5, 1), logits(1, 5, 1)
    loss = RELATIVISTIC_AVERAGE

    torch.testing.assert_close(
        loss.generator(true_logits, made_logits), loss.discriminator(made_logits, true_logits)
    )


def test_relativistic_logits_are_judged_against_the_mean_of_the_other_kind() -> None:
    true_logits, made_logits = torch.tensor([[1.0], [2.0]]), torch.tensor([[-3.0], [0.0]])

    value = RELATIVISTIC_AVERAGE.discriminator(true_logits, made_logits)

    of_true = (softplus(-(1 + 1.5)) + softplus(-(2 + 1.5))) / 2
    of_made = (softplus(-3 - 1.5) + softplus(0 - 1.5)) / 2
    assert value.item() == pytest.approx(of_true + of_made)


def test_relativistic_losses_see_differences_only() -> None:
    true_logits, made_logits = logits(0, 5, 1).double(), logits(1, 5, 1).double()

    for side in (RELATIVISTIC_AVERAGE.discriminator, RELATIVISTIC_AVERAGE.generator):
        torch.testing.assert_close(side(true_logits + 7, made_logits + 7), side(true_logits, made_logits))


@EVERY
def test_a_map_costs_what_its_logits_cost_as_images(loss: AdversarialLoss) -> None:
    true_map, made_map = logits(0, 3, 1, 4, 5), logits(1, 3, 1, 4, 5)
    true_logits, made_logits = true_map.reshape(-1, 1), made_map.reshape(-1, 1)

    for side in (loss.discriminator, loss.generator):
        torch.testing.assert_close(side(true_map, made_map), side(true_logits, made_logits))


@EVERY
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_logits_of_any_size_have_finite_losses_and_gradients(loss: AdversarialLoss, size: float) -> None:
    true_logits, made_logits = (torch.full((2, 1), sign * size, requires_grad=True) for sign in (1, -1))

    for side in (loss.discriminator, loss.generator):
        value = side(true_logits, made_logits)
        gradients = torch.autograd.grad(value, [true_logits, made_logits], materialize_grads=True)
        assert bool(value.isfinite())
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@EVERY
def test_half_precision_logits_are_compared_in_float32(loss: AdversarialLoss) -> None:
    true_logits, made_logits = logits(0, 64, 1).bfloat16(), logits(1, 64, 1).bfloat16()

    with torch.autocast("cpu", torch.bfloat16):
        values = [side(true_logits, made_logits) for side in (loss.discriminator, loss.generator)]

    expected = [
        side(true_logits.float(), made_logits.float()) for side in (loss.discriminator, loss.generator)
    ]
    torch.testing.assert_close(values, expected, rtol=0, atol=0)


@EVERY
def test_a_discriminator_learns_to_part_two_clouds(loss: AdversarialLoss) -> None:
    noise = torch.Generator().manual_seed(0)
    true_points, made_points = (torch.randn(64, 2, generator=noise) + shift for shift in (1.5, -1.5))
    discriminator = nn.Linear(2, 1)
    nn.init.zeros_(discriminator.weight)
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.05)

    values = list[float]()
    for _ in range(30):
        value = loss.discriminator(discriminator(true_points), discriminator(made_points))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))

    assert values[-1] < 0.6 * values[0] if values[0] > 0 else values[-1] < values[0] - 0.5
    with torch.no_grad():
        assert discriminator(true_points).mean() > discriminator(made_points).mean() + 0.5


@EVERY
def test_the_generators_gradient_leads_to_what_the_discriminator_takes_for_true(
    loss: AdversarialLoss,
) -> None:
    made_logits = torch.tensor([[-0.5]], requires_grad=True)
    true_logits = torch.tensor([[0.5]])

    before = loss.generator(true_logits, made_logits)
    before.backward()
    assert made_logits.grad is not None
    after = loss.generator(true_logits, made_logits.detach() - 0.1 * made_logits.grad)

    assert float(made_logits.grad) < 0
    assert after.item() < before.item()


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    assert adversarial_loss("hinge") is HINGE
    with pytest.raises(SpecError, match=r"no such adversarial loss; got non-saturating.*'non_saturating'"):
        adversarial_loss("non-saturating")
