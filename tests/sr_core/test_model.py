from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from sr_core.archs import ARCHS
from sr_core.archs.arch import ColorMode
from sr_core.archs.compact import COMPACT, Activation, CompactConfig
from sr_core.errors import ModelError
from sr_core.kernels import Kernel
from sr_core.model import load_model
from sr_core.recognition import recognise

CONFIGS = [
    CompactConfig(),
    CompactConfig(num_feat=48, num_conv=3, scale=2),
    CompactConfig(num_channels=1, num_feat=8, num_conv=0, scale=1),
    CompactConfig(num_channels=6, num_feat=16, num_conv=2, scale=3, activation=Activation.RELU),
]


def saved(config: CompactConfig, folder: Path) -> Path:
    torch.manual_seed(5)
    path = folder / "weights.pth"
    torch.save({"params": COMPACT.build(config).state_dict()}, path)
    return path


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_hyper_parameters_are_read_back_from_the_shapes(config: CompactConfig) -> None:
    state_dict = COMPACT.build(config).state_dict()

    found = recognise(state_dict)
    assert (found.arch, found.config) == (COMPACT, config)


def test_architectures_have_names_of_their_own() -> None:
    assert len({arch.name for arch in ARCHS}) == len(ARCHS)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_halo_is_the_reach_of_the_network(config: CompactConfig) -> None:
    network, facts = COMPACT.build(config), COMPACT.facts(config)
    torch.manual_seed(6)
    centre, side = facts.halo_px + 2, 2 * facts.halo_px + 5
    frame = torch.rand(1, config.num_channels, side, side)
    near, far = frame.clone(), frame.clone()
    far[..., centre, centre - facts.halo_px - 1] += 0.5
    near[..., centre, centre - 1] += 0.5

    with torch.inference_mode():
        middle = slice(centre * facts.scale, (centre + 1) * facts.scale)
        got = [network(each)[..., middle, middle] for each in (frame, near, far)]

    assert not torch.equal(got[0], got[1])
    assert torch.equal(got[0], got[2])


@pytest.mark.parametrize(
    ("name", "num_conv"),
    [("realesr-animevideov3.pth", 16), ("realesr-general-x4v3_from_ncnn_fp16.pth", 32)],
)
def test_published_weights_give_what_a_plain_forward_pass_gives(
    name: str, num_conv: int, published: Callable[[str], Path]
) -> None:
    path = published(name)
    model = load_model(str(path))
    weights = torch.load(path, weights_only=True, map_location="cpu")["params"]
    frame = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        got = model.network(frame)
        x = frame
        for index in range(0, 2 * num_conv + 3, 2):
            x = F.conv2d(x, weights[f"body.{index}.weight"], weights[f"body.{index}.bias"], padding=1)
            if f"body.{index + 1}.weight" in weights:
                x = F.prelu(x, weights[f"body.{index + 1}.weight"])
        expected = F.pixel_shuffle(x, 4) + F.interpolate(frame, scale_factor=4, mode="nearest")

    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert (model.facts.scale, model.facts.halo_px) == (4, num_conv + 2)
    assert model.facts.color_mode is ColorMode.RGB


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flat_picture_keeps_its_level_in_half_precision(dtype: torch.dtype) -> None:
    network = COMPACT.build(CompactConfig(num_conv=1, scale=2))
    torch.nn.init.zeros_(network.get_parameter("body.4.weight"))
    torch.nn.init.zeros_(network.get_parameter("body.4.bias"))
    network.set_body_dtype(dtype)
    level = 0.7 + 1 / 4096  # bf16 has no such number

    with torch.inference_mode():
        out = network(torch.full((1, 3, 8, 8), level))

    assert torch.equal(out, torch.full((1, 3, 16, 16), level))


@pytest.mark.parametrize("name", list(Kernel))
@pytest.mark.parametrize("scale", [1, 2, 5])
def test_interpolation_is_a_luma_model_of_any_scale(name: str, scale: int) -> None:
    model = load_model(name, scale)

    out = model.network(torch.full((2, 1, 7, 9), 0.25))

    torch.testing.assert_close(out, torch.full((2, 1, 7 * scale, 9 * scale), 0.25))
    assert model.facts.chroma_kernel == Kernel(name)
    assert model.facts.color_mode is ColorMode.LUMA


def test_interpolations_have_hashes_of_their_own() -> None:
    hashes = {load_model(name, scale).weights_sha256 for name in Kernel for scale in (2, 3)}

    assert len(hashes) == 2 * len(Kernel)


@pytest.mark.parametrize("scale", [None, 0])
def test_interpolation_without_a_scale_is_refused(scale: int | None) -> None:
    with pytest.raises(ModelError, match="needs a scale"):
        load_model("lanczos", scale)


def test_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ModelError, match="did you mean 'lanczos'"):
        load_model("lancsoz", 2)


def test_missing_file_is_told_as_a_file() -> None:
    with pytest.raises(ModelError, match=r"no such weights file"):
        load_model("weights/none.pth")


def test_another_scale_than_the_weights_have_is_refused(tmp_path: Path) -> None:
    path = saved(CONFIGS[1], tmp_path)

    assert load_model(str(path), 2).facts.scale == 2
    with pytest.raises(ModelError, match=r"got scale 3; expected scale 2"):
        load_model(str(path), 3)


def test_weights_with_a_key_missing_are_refused(tmp_path: Path) -> None:
    state_dict = COMPACT.build(CONFIGS[1]).state_dict()
    del state_dict["body.2.bias"]
    torch.save(state_dict, tmp_path / "w.pth")

    with pytest.raises(ModelError, match=r"as compact, no body\.2\.bias"):
        load_model(str(tmp_path / "w.pth"))


def test_channels_without_a_colour_mode_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="colour mode"):
        load_model(str(saved(CompactConfig(num_channels=5, num_feat=8, num_conv=1, scale=2), tmp_path)))
