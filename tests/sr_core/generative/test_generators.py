"""What holds of everything that makes images of noise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sr_core.archs.compact import Compact, CompactConfig
from sr_core.errors import ModelError
from sr_core.family import Family, load_network
from sr_core.generative import GENERATORS, Generator, sample
from sr_core.generative.gan import GAN, GanConfig
from sr_core.generative.vae import VAE, VaeConfig

KINDS: list[tuple[Family[Generator], Any, int]] = [
    (GAN, GanConfig(7, (12, 10, 8)), 32),
    (GAN, GanConfig(5, (12, 10, 8, 6), num_channels=1), 64),
    (VAE, VaeConfig(7, (8, 10, 12), 32), 32),
    (VAE, VaeConfig(5, (6, 8), 48, num_channels=1), 48),
]
CASES = [pytest.param(*kind, id=f"{kind[0].name}-{kind[1]}") for kind in KINDS]


def built(family: Family[Generator], config: Any) -> Generator:
    torch.manual_seed(0)
    return family.build(config).eval()


def test_every_generator_is_in_the_tests() -> None:
    assert {family.name for family in GENERATORS} == {family.name for family, _, _ in KINDS}


@pytest.mark.parametrize(("family", "config", "image_px"), CASES)
def test_weights_come_back_from_a_file_with_their_configuration(
    family: Family[Generator], config: Any, image_px: int, tmp_path: Path
) -> None:
    generator = built(family, config)
    path = tmp_path / "generator.safetensors"
    save_file(generator.state_dict(), path)

    found = load_network(path, GENERATORS)

    assert family.config_of(generator.state_dict()) == config
    assert (type(found), found.image_px, found.training) == (type(generator), image_px, False)
    noise = torch.randn(2, generator.num_noise)
    torch.testing.assert_close(found.generate(noise), generator.generate(noise))


@pytest.mark.parametrize(("family", "config", "image_px"), CASES)
def test_samples_are_images_that_the_seed_alone_decides(
    family: Family[Generator], config: Any, image_px: int
) -> None:
    generator = built(family, config)

    four, six = (torch.stack(list(sample(generator, count, seed=3))) for count in (4, 6))
    others = torch.stack(list(sample(generator, 4, seed=4)))

    assert four.shape == (4, config.num_channels, image_px, image_px)
    assert torch.equal(four, four.clamp(0, 1))
    assert torch.equal(four, six[:4])
    assert not torch.equal(four, others)
    assert not torch.equal(four[0], four[1])


def test_weights_of_an_upscaler_are_no_generator(tmp_path: Path) -> None:
    path = tmp_path / "compact.safetensors"
    save_file(Compact(CompactConfig(num_feat=8, num_conv=1)).state_dict(), path)

    with pytest.raises(ModelError, match=r"compact\.safetensors.*expected gan, vae"):
        load_network(path, GENERATORS)


def test_a_part_of_a_generator_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    state_dict = built(GAN, GanConfig(7, (12, 10))).state_dict()
    save_file({key: value for key, value in state_dict.items() if key != "last.bias"}, path)

    with pytest.raises(ModelError, match=r"as gan: .*last\.bias"):
        load_network(path, GENERATORS)


def test_a_file_that_is_none_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    path.write_text("not weights")

    with pytest.raises(ModelError):
        load_network(path, GENERATORS)
