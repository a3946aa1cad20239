"""What holds of every discriminator, and what is special about each."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.discriminators import DISCRIMINATORS, Discriminator
from sr_core.discriminators.patch import PATCH, PatchConfig
from sr_core.discriminators.strided import STRIDED, StridedConfig
from sr_core.discriminators.unet import UNET, UnetConfig
from sr_core.discriminators.vgg import VGG, VggConfig
from sr_core.errors import ModelError, SpecError
from sr_core.family import Family, build_network
from tests.sr_core.threads import one_thread

SIDE_PX = 32
KINDS: list[tuple[Family[Discriminator], Any]] = [
    (VGG, VggConfig(SIDE_PX, 6, 10)),
    (VGG, VggConfig(SIDE_PX, 4, 7, num_channels=1)),
    (PATCH, PatchConfig(num_feat=8)),
    (PATCH, PatchConfig(6, 4, 1)),
    (UNET, UnetConfig(num_feat=8)),
    (UNET, UnetConfig(1, 4)),
    (STRIDED, StridedConfig((8, 12, 16))),
    (STRIDED, StridedConfig((8,), 1)),
]
CASES = [pytest.param(family, config, id=f"{family.name}-{config}") for family, config in KINDS]


def built(family: Family[Discriminator], config: Any) -> Discriminator:
    torch.manual_seed(0)
    return family.build(config)


def images(config: Any, count: int = 2) -> Tensor:
    return torch.rand(count, config.num_channels, SIDE_PX, SIDE_PX)


def test_every_discriminator_is_in_the_tests() -> None:
    assert {family.name for family in DISCRIMINATORS} == {family.name for family, _ in KINDS}


@pytest.mark.parametrize(("family", "config"), CASES)
def test_the_configuration_is_read_back_and_the_weights_with_it(
    family: Family[Discriminator], config: Any
) -> None:
    discriminator = built(family, config)

    found = build_network(dict(discriminator.state_dict()), DISCRIMINATORS)

    assert family.config_of(discriminator.state_dict()) == config
    assert type(found) is type(discriminator)
    batch = images(config)
    torch.testing.assert_close(found(batch), discriminator.eval()(batch))


@pytest.mark.parametrize(("family", "config"), CASES)
def test_a_tensor_less_or_of_another_shape_is_refused(family: Family[Discriminator], config: Any) -> None:
    state_dict = built(family, config).state_dict()
    key = list(state_dict)[-1]
    cut = {name: value for name, value in state_dict.items() if name != key}

    for wrong in (cut, {**state_dict, key: torch.zeros(3, 3, 3)}, {**state_dict, "more": torch.zeros(1)}):
        with pytest.raises(ModelError, match="none of the networks"):
            build_network(wrong, DISCRIMINATORS)


@pytest.mark.parametrize(("family", "config"), CASES)
def test_logits_are_of_images_or_regions_and_reach_every_weight(
    family: Family[Discriminator], config: Any
) -> None:
    discriminator = built(family, config)

    *maps, logits = discriminator.features(images(config))
    logits.square().sum().backward()

    assert logits.shape[:2] == (2, 1)
    assert logits.dim() in (2, 4)
    assert all(len(each) == 2 for each in maps)
    assert len(maps) >= 2 or config == StridedConfig((8,), 1)
    assert [name for name, value in discriminator.named_parameters() if value.grad is None] == []


@one_thread()
@pytest.mark.parametrize(("family", "config"), CASES)
def test_a_few_steps_teach_it_to_tell_bright_images_from_dark_ones(
    family: Family[Discriminator], config: Any
) -> None:
    discriminator = built(family, config)
    optimiser = torch.optim.Adam(discriminator.parameters(), 3e-3)
    for _ in range(25):
        noise = images(config, 16) / 2
        noise[:8] += 0.5
        logits = discriminator(noise)
        loss = F.softplus(-logits[:8]).mean() + F.softplus(logits[8:]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    of_bright, of_dark = logits.detach().split(8)
    assert float(of_bright.mean()) > float(of_dark.mean()) + 0.3


def test_vgg_takes_its_own_size_only() -> None:
    with pytest.raises(SpecError, match=r"48x32.*expected 32x32"):
        built(VGG, VggConfig(SIDE_PX, 4, 8))(torch.rand(1, 3, 32, 48))


@pytest.mark.parametrize(("num_stages", "patch_px"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_of_the_patch_discriminator_sees_one_patch(num_stages: int, patch_px: int) -> None:
    config = PatchConfig(1, 4, num_stages)
    batch = torch.rand(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    logits = built(PATCH, config).eval().double()(batch)

    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()

    assert batch.grad is not None
    seen = batch.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [patch_px, patch_px]
    assert config.patch_px == patch_px


def test_unet_has_the_tensors_that_real_esrgan_published() -> None:
    normed = {f"conv{index}.weight{suffix}" for index in range(1, 9) for suffix in ("_orig", "_u", "_v")}
    ends = {"conv0.weight", "conv0.bias", "conv9.weight", "conv9.bias"}

    state_dict = UNET.build(UnetConfig()).state_dict()

    assert set(state_dict) == normed | ends
    assert state_dict["conv3.weight_orig"].shape == (512, 256, 4, 4)
    assert state_dict["conv4.weight_orig"].shape == (256, 512, 3, 3)


def test_unet_judges_every_pixel_of_images_of_any_size() -> None:
    discriminator = built(UNET, UnetConfig(num_feat=4))

    assert discriminator(torch.rand(1, 3, 29, 43)).shape == (1, 1, 29, 43)


def test_spectral_norm_holds_the_largest_singular_value_at_one() -> None:
    discriminator = built(UNET, UnetConfig(num_feat=4)).train()
    with torch.no_grad():
        discriminator.conv5.weight_orig.mul_(20)
        for _ in range(40):
            discriminator(torch.rand(1, 3, 16, 16))

    assert float(torch.linalg.svdvals(discriminator.conv5.weight.flatten(1))[0]) == pytest.approx(1, abs=1e-3)


def test_strided_gives_one_logit_for_its_smallest_image_and_a_map_for_larger_ones() -> None:
    config = StridedConfig((4, 6, 8))
    discriminator = built(STRIDED, config)

    assert config.image_px == 32
    assert discriminator(torch.rand(2, 3, 32, 32)).shape == (2, 1, 1, 1)
    assert discriminator(torch.rand(2, 3, 64, 48)).shape == (2, 1, 5, 3)
    with pytest.raises(SpecError, match="too small"):
        discriminator(torch.rand(2, 3, 31, 64))
