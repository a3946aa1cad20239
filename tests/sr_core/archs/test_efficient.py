"""What holds of the efficient networks beyond what holds of all: weights, ranges of values, forms."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.archs.arch import Arch, Network
from sr_core.archs.carn import CARN, CarnConfig
from sr_core.archs.imdn import IMDN, ImdnConfig
from sr_core.archs.rfdn import RFDN, RfdnConfig
from sr_core.archs.rlfn import RLFN, RlfnConfig
from sr_core.archs.span import SPAN, SpanConfig
from sr_core.errors import ModelError
from sr_core.recognition import recognise
from sr_core.weights import read_weights

Published = Callable[[str], Path]

RANGED = [("RLFN_x2.pth", "conv_1"), ("RLFN_NTIRE_x4.pth", "conv_1"), ("RFDN_x4_baseline.pth", "fea_conv")]


@pytest.mark.parametrize(("name", "first"), RANGED)
def test_the_range_of_published_weights_is_found(name: str, first: str, published: Published) -> None:
    state_dict, _ = read_weights(published(name))

    assert recognise(state_dict).config.value_range == 255
    assert recognise(for_values_up_to_1(state_dict, first)).config.value_range == 1


@pytest.mark.parametrize(("name", "first"), RANGED)
def test_both_ranges_make_the_same_picture(name: str, first: str, published: Published) -> None:
    torch.manual_seed(0)
    lr_frame = torch.rand(1, 3, 20, 20)
    state_dict, _ = read_weights(published(name))

    with torch.inference_mode():
        up_to_255 = network_of(state_dict)(lr_frame)
        up_to_1 = network_of(for_values_up_to_1(state_dict, first))(lr_frame)

    torch.testing.assert_close(up_to_1, up_to_255, rtol=0, atol=1e-4)


def for_values_up_to_1(state_dict: dict[str, Tensor], first: str) -> dict[str, Tensor]:
    last = {key: state_dict[key] / 255 for key in ("upsampler.0.weight", "upsampler.0.bias")}
    return {**state_dict, f"{first}.weight": state_dict[f"{first}.weight"] * 255, **last}


def network_of(state_dict: dict[str, Tensor]) -> Network:
    found = recognise(state_dict)
    network = found.arch.build(found.config).eval()
    network.load_state_dict(found.state_dict)
    return network


@pytest.mark.parametrize("value_range", [1.0, 255.0])
@pytest.mark.parametrize(("arch", "config"), [(RFDN, RfdnConfig()), (RLFN, RlfnConfig())])
def test_untrained_weights_count_as_the_authors(
    arch: Arch, config: RfdnConfig | RlfnConfig, value_range: float
) -> None:
    torch.manual_seed(0)
    network = arch.build(replace(config, value_range=value_range))

    assert recognise(network.state_dict()).config.value_range == 255


def test_a_tensor_that_is_missing_is_named_though_the_range_is_tried_out() -> None:
    state_dict = dict(RLFN.build(RlfnConfig(num_blocks=1)).state_dict())
    del state_dict["conv_2.bias"]

    with pytest.raises(ModelError, match=r"as rlfn, no conv_2\.bias"):
        recognise(state_dict)


def test_convolutions_of_span_in_training_become_one() -> None:
    torch.manual_seed(0)
    config = SpanConfig(num_feat=8, num_blocks=2, scale=2)
    plain = SPAN.build(config).state_dict()
    layers = [key.removesuffix(".weight") for key in plain if key.startswith(("conv_1.", "conv_2.", "block"))]
    layers = [layer for layer in layers if not layer.endswith("bias")]
    published = {key: value for key, value in plain.items() if key.startswith(("conv_cat", "upsampler"))}
    for layer in layers:
        published |= in_training(layer, *plain[f"{layer}.weight"].shape[:2])

    found = recognise(published)

    assert found.config == config
    for layer in layers:
        features = torch.randn(1, plain[f"{layer}.weight"].shape[1], 7, 9)
        merged = F.conv2d(
            features, found.state_dict[f"{layer}.weight"], found.state_dict[f"{layer}.bias"], padding=1
        )
        torch.testing.assert_close(merged, trained(published, layer, features), rtol=0, atol=1e-5)


def test_span_that_lacks_a_part_of_training_is_refused() -> None:
    state_dict = dict(SPAN.build(SpanConfig(num_feat=8, num_blocks=1)).state_dict())
    state_dict |= in_training("conv_2", 8, 8)
    del state_dict["conv_2.conv.1.bias"]

    with pytest.raises(ModelError, match=r"as span, .*conv_2\.conv\.0\.weight besides"):
        recognise(state_dict)


def in_training(layer: str, num_out: int, num_in: int) -> dict[str, Tensor]:
    """Tensors of one convolution as SPAN's authors train it; the one for use is out of date."""
    shapes = {
        "sk": (num_out, num_in, 1, 1),
        "conv.0": (2 * num_in, num_in, 1, 1),
        "conv.1": (2 * num_out, 2 * num_in, 3, 3),
        "conv.2": (num_out, 2 * num_out, 1, 1),
        "eval_conv": (num_out, num_in, 3, 3),
    }
    weights = {f"{layer}.{part}.weight": 0.3 * torch.randn(shape) for part, shape in shapes.items()}
    return weights | {f"{layer}.{part}.bias": torch.randn(shape[0]) for part, shape in shapes.items()}


def trained(tensors: dict[str, Tensor], layer: str, features: Tensor) -> Tensor:
    """What such a convolution does in training: zeros around the input, then layer by layer."""
    refined = F.pad(features, (1, 1, 1, 1))
    for part in ("conv.0", "conv.1", "conv.2"):
        refined = F.conv2d(refined, tensors[f"{layer}.{part}.weight"], tensors[f"{layer}.{part}.bias"])
    return refined + F.conv2d(features, tensors[f"{layer}.sk.weight"], tensors[f"{layer}.sk.bias"])


@pytest.mark.parametrize("arch_config", [(RFDN, RfdnConfig(num_blocks=1)), (RLFN, RlfnConfig(num_blocks=1))])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (14, 40), (40, 14)])
def test_attention_takes_frames_that_are_smaller_than_its_window(
    arch_config: tuple[Arch, RfdnConfig | RlfnConfig], height: int, width: int
) -> None:
    arch, config = arch_config

    sr_frame = arch.build(config)(torch.rand(1, 3, height, width))

    assert sr_frame.shape == (1, 3, 4 * height, 4 * width)


def test_weights_for_several_scales_make_a_network_for_the_one_asked_for() -> None:
    config = CarnConfig(num_feat=8, num_groups=2, scale=3, scales=(2, 3, 4))
    state_dict = CARN.build(config).state_dict()

    assert recognise(state_dict, 3).config == config
    for scale in (None, 8):
        with pytest.raises(ModelError, match=r"expected one of 2, 3, 4.*--scale"):
            recognise(state_dict, scale)


def test_flat_channels_have_finite_gradients_in_imdn() -> None:
    torch.manual_seed(0)
    network = IMDN.build(ImdnConfig(num_feat=16, num_blocks=1))
    for value in network.parameters():
        torch.nn.init.zeros_(value)

    network(torch.zeros(1, 3, 8, 8)).sum().backward()

    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
