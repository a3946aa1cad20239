import math

import torch
from torch import Tensor, nn

from sr_core.discriminators.strided import STRIDED
from sr_core.generative import sample
from sr_core.generative.gan import GAN, GanConfig, init_weights
from sr_core.train.losses.adversarial import NON_SATURATING
from tests.sr_core.threads import one_thread

CONFIG = GanConfig(num_noise=16, widths=(32, 24, 16))


def snapshot(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


@one_thread()
def test_alternating_steps_on_a_folder_change_both_players_and_keep_samples_in_range(
    flat_images: Tensor,
) -> None:
    torch.manual_seed(0)
    generator, discriminator = GAN.build(CONFIG), STRIDED.build(CONFIG.discriminator)
    for network in (generator, discriminator):
        init_weights(network)
    before = [snapshot(generator), snapshot(discriminator)]
    of_generator = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    of_discriminator = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))

    losses = []
    for _ in range(40):
        true_images = flat_images[torch.randperm(len(flat_images))[:16]]
        made = generator(torch.randn(16, CONFIG.num_noise))
        loss = NON_SATURATING.discriminator(discriminator(true_images), discriminator(made.detach()))
        of_discriminator.zero_grad()
        loss.backward()
        of_discriminator.step()
        of_generator.zero_grad()
        NON_SATURATING.generator(discriminator(true_images), discriminator(made)).backward()
        of_generator.step()
        losses.append(float(loss.detach()))

    after = [snapshot(generator), snapshot(discriminator)]
    for old, new in zip(before, after, strict=True):
        assert all(not torch.equal(a, b) for a, b in zip(old, new, strict=True))
    assert losses[-1] < losses[0] < 2.5 * math.log(2)
    samples = torch.stack(list(sample(generator.eval(), 8, seed=0)))
    assert bool(torch.isfinite(samples).all())
    assert 0 <= float(samples.min()) < float(samples.max()) <= 1


def test_the_generators_images_are_what_its_discriminator_makes_one_logit_of() -> None:
    generator, discriminator = GAN.build(CONFIG), STRIDED.build(CONFIG.discriminator)

    assert discriminator(generator(torch.randn(2, 16))).shape == (2, 1, 1, 1)
