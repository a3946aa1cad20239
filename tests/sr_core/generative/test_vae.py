import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from sr_core.errors import SpecError
from sr_core.generative.vae import VAE, Vae, VaeConfig, VaeOutput, left_out_nats, negative_elbo
from tests.sr_core.threads import one_thread


def vae() -> Vae:
    torch.manual_seed(0)
    return VAE.build(VaeConfig(num_latent=16, widths=(16, 24, 32), image_px=32))


@one_thread()
def test_a_few_dozen_steps_on_a_folder_make_the_loss_fall(flat_images: Tensor) -> None:
    network = vae()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        loss = negative_elbo(network(flat_images), flat_images).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert max(losses[-5:]) < losses[0] / 3
    with torch.no_grad():
        decoded = network.eval().generate(network.encode(flat_images)[0])
    mean_image = flat_images.mean(0, keepdim=True)
    assert float((decoded - flat_images).square().mean()) < float((mean_image - flat_images).square().mean())


def test_the_terms_of_the_loss_are_those_of_the_distributions() -> None:
    images, decoded = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    mean, log_variance = torch.randn(3, 5), torch.randn(3, 5)

    loss = negative_elbo(VaeOutput(decoded, mean, log_variance), images, deviation=0.3)

    codes = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(codes, Normal(torch.zeros(3, 5), torch.ones(3, 5))).sum(1).mean()
    torch.testing.assert_close(loss.divergence, expected)
    around = Normal(decoded, torch.tensor(0.3))
    constant = Normal(images, torch.tensor(0.3)).log_prob(images)
    expected = (constant - around.log_prob(images)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(loss.reconstruction, expected)
    torch.testing.assert_close(loss.total, loss.reconstruction + loss.divergence)


def test_codes_are_drawn_anew_and_gradients_reach_their_distribution(flat_images: Tensor) -> None:
    network = vae().eval()

    first, second = network(flat_images[:2]), network(flat_images[:2])
    first.images.sum().backward()

    assert not torch.equal(first.images, second.images)
    assert torch.equal(first.mean, second.mean)
    for layer in (network.mean, network.log_variance):
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().max()) > 0


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(SpecError, match=r"16x32.*expected 32x32"):
        vae()(torch.rand(1, 3, 32, 16))


def test_what_the_loss_leaves_out_is_the_constant_of_the_normal_distribution() -> None:
    images = torch.rand(1, 2, 4, 4)
    nothing = torch.zeros(1, 5)

    loss = negative_elbo(VaeOutput(images / 2, nothing, nothing), images, deviation=0.3)

    expected = -Normal(images / 2, torch.tensor(0.3)).log_prob(images).sum()
    torch.testing.assert_close(loss.total + left_out_nats(32, 0.3), expected)


def test_the_same_noise_gives_the_same_reconstruction(flat_images: Tensor) -> None:
    network = vae().eval()
    noise = torch.randn(2, 16)

    first, second = (network.reconstruct(flat_images[:2], noise) for _ in range(2))

    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, network.reconstruct(flat_images[:2], -noise).images)


@pytest.mark.parametrize("image_px", [0, 4, 36])
def test_sizes_that_cannot_be_halved_to_the_end_are_refused(image_px: int) -> None:
    with pytest.raises(SpecError, match=r"a multiple of 8") as caught:
        VaeConfig(widths=(4, 4, 4), image_px=image_px)
    assert caught.value.where == "image_px"
