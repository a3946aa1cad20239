from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from jobs.generate import generate
from sr_core.archs.compact import Compact, CompactConfig
from sr_core.archs.early_fusion import EarlyFusion, EarlyFusionConfig
from sr_core.errors import ModelError, SpecError
from sr_core.generative import sample
from sr_core.generative.gan import GAN, GanConfig
from sr_core.generative.vae import VAE, VaeConfig
from tests.jobs.test_cli import run


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def saved(network: torch.nn.Module, path: Path) -> str:
    save_file(network.state_dict(), path)
    return str(path)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    return saved(GAN.build(GanConfig(8, (8, 6, 4))), tmp_path / "gan.safetensors")


def test_it_writes_the_samples_of_the_seed_as_they_are(weights: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = GAN.build(GanConfig(8, (8, 6, 4))).eval()

    assert generate(weights, tmp_path / "new" / "out", 3, 5) == 0

    names = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert names == ["5-00000.png", "5-00001.png", "5-00002.png"]
    for name, image in zip(names, sample(generator, 3, 5), strict=True):
        expected = (image * 255).round().movedim(0, -1).numpy()
        assert np.array_equal(pixels(tmp_path / "new" / "out" / name), expected)


def test_grey_generators_write_grey_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = saved(VAE.build(VaeConfig(4, (4, 6), 16, num_channels=1)), tmp_path / "vae.safetensors")

    generate(weights, tmp_path / "out", 1, 0, "lanczos", 3)

    with Image.open(tmp_path / "out" / "0-00000.png") as image:
        assert (image.mode, image.size) == ("L", (48, 48))


def test_a_network_upscales_the_samples(weights: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Compact(CompactConfig(num_feat=8, num_conv=1, scale=2)).eval()
    model = saved(network, tmp_path / "compact.safetensors")
    generate(weights, tmp_path / "small", 2, 0)

    generate(weights, tmp_path / "large", 2, 0, model)

    for index in range(2):
        small = torch.from_numpy(pixels(tmp_path / "small" / f"0-0000{index}.png").copy())
        with torch.no_grad():
            made = network((small.movedim(-1, 0)[None] / 255).contiguous())[0]
        expected = (made.clamp(0, 1) * 255).round().movedim(0, -1)
        large = torch.from_numpy(pixels(tmp_path / "large" / f"0-0000{index}.png").copy())
        assert large.shape == (64, 64, 3)
        assert float((large - expected).abs().max()) <= 1


def test_nothing_is_replaced_and_nothing_written_beside_it(weights: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0-00001.png").write_bytes(b"mine")

    with pytest.raises(SpecError, match=r"0-00001\.png: something stands there already"):
        generate(weights, tmp_path / "out", 2, 0)

    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"mine"]


def test_images_that_stand_there_are_replaced_when_that_is_asked_for(weights: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0-00001.png").write_bytes(b"mine")

    assert run("generate", weights, str(tmp_path / "out"), "--count", "2", "--overwrite") == 0

    assert pixels(tmp_path / "out" / "0-00001.png").shape == (32, 32, 3)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_weights_of_an_upscaler_are_refused_with_what_is_expected(tmp_path: Path) -> None:
    model = saved(Compact(CompactConfig(num_feat=8, num_conv=1)), tmp_path / "compact.safetensors")

    with pytest.raises(ModelError, match="expected gan, vae"):
        generate(model, tmp_path / "out", 1, 0)


def test_models_of_several_frames_are_refused(weights: str, tmp_path: Path) -> None:
    model = saved(EarlyFusion(EarlyFusionConfig(num_feat=8, num_conv=1)), tmp_path / "video.safetensors")

    with pytest.raises(ModelError, match="for videos alone"):
        generate(weights, tmp_path / "out", 1, 0, model)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1, -1)])
def test_numbers_that_make_no_sense_are_refused(weights: str, tmp_path: Path, count: int, seed: int) -> None:
    with pytest.raises(SpecError, match="make no sense"):
        generate(weights, tmp_path / "out", count, seed)


def test_a_scale_without_a_model_is_refused(weights: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a scale needs a model"):
        generate(weights, tmp_path / "out", 1, 0, None, 2)


def test_the_command_draws_sixteen_images_of_seed_0(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", weights, str(tmp_path / "out")) == 0

    assert len(list((tmp_path / "out").glob("0-*.png"))) == 16
    assert "16 images of 32x32" in capsys.readouterr().out


def test_the_command_ends_with_2_for_what_is_no_generator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", str(tmp_path / "none.pth"), str(tmp_path / "out")) == 2
    assert run("generate", "w.pth", "s3://bucket/out") == 2

    told = capsys.readouterr().err
    assert "There is no such weights file" in told
    assert "the output lies on this machine" in told
