"""The forms in which classic networks were published.

Their keys are written out here as they stand in the published files; the tensors under them are those of a
network here, renamed backwards.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.archs.arch import Arch, ColorMode
from sr_core.archs.carn import CARN, CarnConfig
from sr_core.archs.edsr import EDSR, EdsrConfig
from sr_core.archs.enlarge import enlarge
from sr_core.archs.espcn import ESPCN, Activation, EspcnConfig
from sr_core.archs.fsrcnn import FSRCNN, FsrcnnConfig
from sr_core.archs.msrresnet import MSRRESNET, MsrResNetConfig
from sr_core.archs.rrdb import RRDB, RrdbConfig
from sr_core.archs.signals import Signal
from sr_core.archs.srcnn import SRCNN, SrcnnConfig
from sr_core.archs.srresnet import SRRESNET, SrResNetConfig
from sr_core.archs.vdsr import VDSR, VdsrConfig
from sr_core.errors import ModelError
from sr_core.kernels import Kernel
from sr_core.model import load_model
from sr_core.recognition import recognise
from sr_core.resample import AxisMap, resample

Rules = tuple[tuple[str, str], ...]
MEAN_RGB = torch.tensor([0.4488, 0.4371, 0.4040])

PUBLISHED: list[tuple[Arch, Any, str, Rules]] = [
    (
        SRCNN,
        SrcnnConfig((8, 4), (9, 5, 5)),
        "yjn870",
        ((r"extract\.", "conv1."), (r"map\.", "conv2."), (r"reconstruct\.", "conv3.")),
    ),
    (
        SRCNN,
        SrcnnConfig((8, 4), (9, 1, 5)),
        "Lornatang",
        ((r"extract\.", "features.0."), (r"map\.", "map.0."), (r"reconstruct\.", "reconstruction.")),
    ),
    (
        SRCNN,
        SrcnnConfig((8, 4), (9, 3, 5), signal=Signal.YCBCR, padded=False),
        "Nhat-Thanh",
        ((r"extract\.", "patch_extraction."), (r"map\.", "nonlinear_map."), (r"reconstruct\.", "recon.")),
    ),
    (
        FSRCNN,
        FsrcnnConfig(8, 4, 4, scale=3),
        "yjn870",
        (
            (r"body\.([01])\.", r"first_part.\1."),
            *((rf"body\.{n + 2}\.", f"mid_part.{n}.") for n in range(12)),
            (r"deconv\.", "last_part."),
        ),
    ),
    (
        FSRCNN,
        FsrcnnConfig(8, 4, 4, scale=4),
        "Lornatang",
        (
            (r"body\.([01])\.", r"feature_extraction.\1."),
            *((rf"body\.{n + 2}\.", f"shrink.{n}.") for n in range(2)),
            *((rf"body\.{n + 4}\.", f"map.{n}.") for n in range(8)),
            *((rf"body\.{n + 12}\.", f"expand.{n}.") for n in range(2)),
        ),
    ),
    (
        ESPCN,
        EspcnConfig((8, 4), scale=3),
        "yjn870",
        (
            (r"layers\.0\.", "first_part.0."),
            (r"layers\.1\.", "first_part.2."),
            (r"layers\.2\.", "last_part.0."),
        ),
    ),
    (
        ESPCN,
        EspcnConfig((8, 4), scale=2),
        "Lornatang",
        (
            (r"layers\.0\.", "feature_maps.0."),
            (r"layers\.1\.", "feature_maps.2."),
            (r"layers\.2\.", "sub_pixel.0."),
        ),
    ),
    (
        ESPCN,
        EspcnConfig((8, 4), scale=4, signal=Signal.YCBCR),
        "Nhat-Thanh",
        tuple((rf"layers\.{n}\.", f"conv_{n + 1}.") for n in range(3)),
    ),
    (
        ESPCN,
        EspcnConfig((8, 4), scale=4, signal=Signal.LUMA, has_sigmoid=True),
        "leftthomas",
        tuple((rf"layers\.{n}\.", f"conv{n + 1}.") for n in range(3)),
    ),
    (
        ESPCN,
        EspcnConfig((8, 8, 4), scale=3, signal=Signal.LUMA, activation=Activation.RELU),
        "PyTorch examples",
        tuple((rf"layers\.{n}\.", f"conv{n + 1}.") for n in range(4)),
    ),
    (
        VDSR,
        VdsrConfig(8, 20, signal=Signal.YCBCR),
        "Nhat-Thanh",
        (
            (r"layers\.0\.", "conv_1."),
            *((rf"layers\.{n}\.", f"conv_2_to_19.conv_{n + 1}.") for n in range(1, 19)),
            (r"layers\.19\.", "conv_20."),
        ),
    ),
    (
        SRRESNET,
        SrResNetConfig(8, 2, scale=8, has_tanh=True),
        "leftthomas",
        (
            (r"conv_first\.", "block1.0."),
            (r"act_first\.", "block1.1."),
            (r"body\.0\.act", "block2.prelu"),
            (r"body\.1\.act", "block3.prelu"),
            (r"body\.0\.", "block2."),
            (r"body\.1\.", "block3."),
            (r"conv_body\.", "block4.0."),
            (r"body_end\.", "block4.1."),
            (r"upsample\.(\d)\.act", r"block5.\1.prelu"),
            (r"upsample\.(\d)\.", r"block5.\1."),
            (r"conv_last\.", "block5.3."),
        ),
    ),
    (
        MSRRESNET,
        MsrResNetConfig(8, 2, scale=4),
        "BasicSR, KAIR, mmagic",
        ((r"upsample\.0\.", "upconv1."), (r"upsample\.1\.", "upconv2.")),
    ),
    (
        MSRRESNET,
        MsrResNetConfig(8, 2, scale=3),
        "BasicSR, KAIR, mmagic",
        ((r"upsample\.0\.", "upconv1."), (r"body\.", "recon_trunk."), (r"conv_hr\.", "HRconv.")),
    ),
    (
        MSRRESNET,
        MsrResNetConfig(8, 2, scale=2),
        "BasicSR, KAIR, mmagic",
        (
            (r"upsample\.0\.", "generator.upsample1.upsample_conv."),
            (r"(body|conv_first|conv_hr|conv_last)\.", r"generator.\1."),
        ),
    ),
    (EDSR, EdsrConfig(8, 2, scale=4), "BasicSR", ((r"upsample\.1\.", "upsample.2."),)),
    (
        EDSR,
        EdsrConfig(8, 2, scale=3, value_range=1.0),
        "mmagic",
        (
            (r"upsample\.(\d)\.", r"generator.upsample.\1.upsample_conv."),
            (r"(\w+)\.", r"generator.\1."),
        ),
    ),
    (
        RRDB,
        RrdbConfig(8, 2, 4, num_doublings=2, unshuffle=2),
        "BasicSR, Real-ESRGAN, mmagic",
        ((r"conv_up\.0\.", "conv_up1."), (r"conv_up\.1\.", "conv_up2.")),
    ),
    (
        RRDB,
        RrdbConfig(8, 2, 4, num_doublings=1),
        "KAIR, ESRGAN",
        (
            (r"body\.(\d)\.rdb(\d)\.", r"RRDB_trunk.\1.RDB\2."),
            (r"conv_body\.", "trunk_conv."),
            (r"conv_up\.0\.", "upconv1."),
            (r"conv_hr\.", "HRconv."),
        ),
    ),
    *(
        (
            RRDB,
            RrdbConfig(8, 2, 4, num_doublings=num_doublings),
            "ESRGAN, first code",
            (
                (r"conv_first\.", "model.0."),
                (r"body\.(\d)\.rdb(\d)\.(conv\d)\.", r"model.1.sub.\1.RDB\2.\3.0."),
                (r"conv_body\.", "model.1.sub.2."),
                *((rf"conv_up\.{n}\.", f"model.{3 * n + 3}.") for n in range(num_doublings)),
                (r"conv_hr\.", f"model.{3 * num_doublings + 2}."),
                (r"conv_last\.", f"model.{3 * num_doublings + 4}."),
            ),
        )
        for num_doublings in (0, 1, 2, 3)
    ),
]


def tensors_of(arch: Arch, config: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(arch.build(config).state_dict())


def renamed(tensors: dict[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Each key after the first rule whose pattern begins it."""
    return {_renamed(key, rules): value for key, value in tensors.items()}


def _renamed(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, key):
            return re.sub(rf"^{pattern}", replacement, key)
    return key


def assert_same(state_dict: Any, tensors: dict[str, Tensor]) -> None:
    assert set(state_dict) == set(tensors)
    for key, value in tensors.items():
        torch.testing.assert_close(state_dict[key], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arch", "config", "form", "rules"),
    [pytest.param(*case, id=f"{case[0].name}-{case[2]}-{case[1].scale}") for case in PUBLISHED],
)
def test_a_published_form_is_recognised(arch: Arch, config: Any, form: str, rules: Rules) -> None:
    tensors = tensors_of(arch, config)

    found = recognise(renamed(tensors, rules), config.scale)

    assert (found.arch.name, found.form.name, found.config) == (arch.name, form, config)
    assert_same(found.state_dict, tensors)


def test_fsrcnn_of_nhat_thanh_has_one_activation_after_all_mappings() -> None:
    config = FsrcnnConfig(8, 4, 4, scale=2, signal=Signal.YCBCR)
    tensors = tensors_of(FSRCNN, config)
    for place in (5, 7, 9):
        tensors[f"body.{place}.weight"] = torch.ones(4)
    rules = (
        (r"body\.0\.", "feature_extract."),
        (r"body\.1\.", "activation_1."),
        (r"body\.2\.", "shrink."),
        (r"body\.3\.", "activation_2."),
        *((rf"body\.{4 + 2 * n}\.", f"map_{n + 1}.") for n in range(4)),
        (r"body\.11\.", "activation_3."),
        (r"body\.12\.", "expand."),
        (r"body\.13\.", "activation_4."),
    )
    files = renamed(
        {key: value for key, value in tensors.items() if key[5:7] not in ("5.", "7.", "9.")}, rules
    )

    found = recognise(files, 2)

    assert (found.form.name, found.config) == ("Nhat-Thanh", config)
    assert_same(found.state_dict, tensors)


@pytest.mark.parametrize(
    ("form", "rules"),
    [
        (
            "twtygqyy",
            (
                (r"layers\.0\.", "input."),
                *((rf"layers\.{n}\.", f"residual_layer.{n - 1}.conv.") for n in range(1, 19)),
                (r"layers\.19\.", "output."),
            ),
        ),
        ("twtygqyy, early", tuple((rf"layers\.{n}\.", f"features.{2 * n}.") for n in range(20))),
        (
            "Lornatang",
            (
                (r"layers\.0\.", "conv1.0."),
                *((rf"layers\.{n}\.", f"trunk.{n - 1}.conv.") for n in range(1, 19)),
                (r"layers\.19\.", "conv2."),
            ),
        ),
    ],
)
def test_vdsr_without_biases_is_recognised(form: str, rules: Rules) -> None:
    tensors = tensors_of(VDSR, VdsrConfig(8, 20, scale=3))
    weights = {key: value for key, value in tensors.items() if key.endswith(".weight")}
    zeros = {key: torch.zeros_like(value) for key, value in tensors.items() if key.endswith(".bias")}

    found = recognise(renamed(weights, rules), 3)

    assert (found.form.name, found.config) == (form, VdsrConfig(8, 20, scale=3))
    assert_same(found.state_dict, weights | zeros)


@pytest.mark.parametrize("names", ["conv_block", "conv"])
def test_srresnet_of_lornatang_is_recognised_without_the_biases_before_batch_norm(names: str) -> None:
    config = SrResNetConfig(8, 2, scale=3)
    tensors = tensors_of(SRRESNET, config)
    lacking = [key for key in tensors if re.match(r"(body\.\d\.conv\d|conv_body)\.bias", key)]
    layers = {"conv1": "0", "bn1": "1", "act": "2", "conv2": "3", "bn2": "4"}
    rules = (
        (r"conv_first\.", f"{names}1.0."),
        (r"act_first\.", f"{names}1.1."),
        *((rf"body\.(\d)\.{layer}\.", rf"trunk.\1.rcb.{place}.") for layer, place in layers.items()),
        (r"conv_body\.", f"{names}2.0."),
        (r"body_end\.", f"{names}2.1."),
        (r"upsample\.(\d)\.conv\.", r"upsampling.\1.upsample_block.0."),
        (r"upsample\.(\d)\.act\.", r"upsampling.\1.upsample_block.2."),
        (r"conv_last\.", f"{names}3."),
    )

    found = recognise(renamed({k: v for k, v in tensors.items() if k not in lacking}, rules))

    assert (found.form.name, found.config) == ("Lornatang", config)
    assert_same(found.state_dict, tensors | {key: torch.zeros(8) for key in lacking})


def test_srresnet_of_twtygqyy_has_no_biases_and_leaky_activations() -> None:
    config = SrResNetConfig(8, 2, scale=4)
    tensors = tensors_of(SRRESNET, config)
    biases = {k: torch.zeros_like(v) for k, v in tensors.items() if re.search(r"conv\w*\.bias", k)}
    slopes = {k: torch.tensor([0.2]) for k in tensors if re.search(r"act\w*\.weight", k)}
    rules = (
        (r"conv_first\.", "conv_input."),
        (r"body\.", "residual."),
        (r"conv_body\.", "conv_mid."),
        (r"body_end\.", "bn_mid."),
        (r"upsample\.0\.conv\.", "upscale4x.0."),
        (r"upsample\.1\.conv\.", "upscale4x.3."),
        (r"conv_last\.", "conv_output."),
    )
    lacking = biases | slopes | {k: v for k, v in tensors.items() if k.endswith("num_batches_tracked")}

    found = recognise(renamed({k: v for k, v in tensors.items() if k not in lacking}, rules))

    assert (found.form.name, found.config) == ("twtygqyy", config)
    assert_same(found.state_dict, tensors | lacking)


@pytest.mark.parametrize(
    ("value_range", "form"), [(255.0, "EDSR-PyTorch, torchSR"), (1.0, "EDSR-PyTorch of 0..1")]
)
def test_edsr_tells_its_range_by_the_mean_that_it_subtracts(value_range: float, form: str) -> None:
    tensors = tensors_of(EDSR, EdsrConfig(8, 2, scale=4))
    rules = (
        (r"conv_first\.", "head.0."),
        (r"body\.(\d)\.conv1\.", r"body.\1.body.0."),
        (r"body\.(\d)\.conv2\.", r"body.\1.body.2."),
        (r"conv_after_body\.", "body.2."),
        (r"upsample\.0\.", "tail.0.0."),
        (r"upsample\.1\.", "tail.0.2."),
        (r"conv_last\.", "tail.1."),
    )
    shifts = {
        "sub_mean.weight": torch.eye(3).view(3, 3, 1, 1),
        "sub_mean.bias": -value_range * MEAN_RGB,
        "add_mean.weight": torch.eye(3).view(3, 3, 1, 1),
        "add_mean.bias": value_range * MEAN_RGB,
    }

    found = recognise(renamed(tensors, rules) | shifts)

    assert (found.form.name, found.config) == (form, EdsrConfig(8, 2, scale=4, value_range=value_range))
    assert_same(found.state_dict, tensors)
    with pytest.raises(ModelError, match=r"sub_mean\.bias"):
        recognise(renamed(tensors, rules) | shifts | {"sub_mean.bias": torch.zeros(3)})


def conv(tensors: dict[str, Tensor], name: str, features: Tensor) -> Tensor:
    weight = tensors[f"{name}.weight"]
    return F.conv2d(features, weight, tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)


def test_edsr_computes_what_its_authors_do() -> None:
    config = EdsrConfig(256, 1, scale=4, block_strength=0.1)
    network, lr_frames = EDSR.build(config), torch.rand(1, 3, 6, 5)
    tensors = dict(network.state_dict())
    mean = 255 * MEAN_RGB.view(1, 3, 1, 1)

    head = conv(tensors, "conv_first", 255 * lr_frames - mean)
    block = head + 0.1 * conv(tensors, "body.0.conv2", conv(tensors, "body.0.conv1", head).relu())
    tail = head + conv(tensors, "conv_after_body", block)
    for stage in ("upsample.0", "upsample.1"):
        tail = F.pixel_shuffle(conv(tensors, stage, tail), 2)
    expected = (conv(tensors, "conv_last", tail) + mean) / 255

    torch.testing.assert_close(network(lr_frames), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3])
def test_msrresnet_computes_what_its_authors_do(scale: int) -> None:
    network, lr_frames = MSRRESNET.build(MsrResNetConfig(8, 1, scale=scale)), torch.rand(1, 3, 6, 5)
    tensors = dict(network.state_dict())

    head = F.leaky_relu(conv(tensors, "conv_first", lr_frames), 0.1)
    block = head + conv(tensors, "body.0.conv2", conv(tensors, "body.0.conv1", head).relu())
    tail = F.leaky_relu(F.pixel_shuffle(conv(tensors, "upsample.0", block), scale), 0.1)
    details = conv(tensors, "conv_last", F.leaky_relu(conv(tensors, "conv_hr", tail), 0.1))
    expected = details + F.interpolate(lr_frames, scale_factor=scale, mode="bilinear", align_corners=False)

    torch.testing.assert_close(network(lr_frames), expected, rtol=0, atol=1e-5)


def test_rrdb_computes_what_its_authors_do() -> None:
    config = RrdbConfig(8, 1, 4, num_doublings=2, unshuffle=2)
    network, lr_frames = RRDB.build(config), torch.rand(1, 3, 6, 4)
    tensors = dict(network.state_dict())

    head = conv(tensors, "conv_first", F.pixel_unshuffle(lr_frames, 2))
    block = head
    for rdb in ("body.0.rdb1", "body.0.rdb2", "body.0.rdb3"):
        parts = [block]
        for number in range(1, 5):
            parts.append(F.leaky_relu(conv(tensors, f"{rdb}.conv{number}", torch.cat(parts, 1)), 0.2))
        block = 0.2 * conv(tensors, f"{rdb}.conv5", torch.cat(parts, 1)) + block
    tail = head + conv(tensors, "conv_body", 0.2 * block + head)
    for stage in ("conv_up.0", "conv_up.1"):
        doubled = tail.repeat_interleave(2, 2).repeat_interleave(2, 3)
        tail = F.leaky_relu(conv(tensors, stage, doubled), 0.2)
    expected = conv(tensors, "conv_last", F.leaky_relu(conv(tensors, "conv_hr", tail), 0.2))

    torch.testing.assert_close(network(lr_frames), expected, rtol=0, atol=1e-5)


def test_srresnet_computes_what_its_authors_do() -> None:
    network = SRRESNET.build(SrResNetConfig(8, 1, scale=3)).eval()
    lr_frames = torch.rand(1, 3, 6, 5)
    tensors = dict(network.state_dict())
    for layer in ("body.0.bn1", "body.0.bn2", "body_end"):
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{layer}.{tensor}"].uniform_(0.5, 1.5)

    def norm(name: str, features: Tensor) -> Tensor:
        mean, var, weight, bias = (
            tensors[f"{name}.{tensor}"].view(1, -1, 1, 1)
            for tensor in ("running_mean", "running_var", "weight", "bias")
        )
        normed: Tensor = (features - mean) / (var + 1e-5).sqrt() * weight + bias
        return normed

    head = F.prelu(conv(tensors, "conv_first", lr_frames), tensors["act_first.weight"])
    inner = norm("body.0.bn1", conv(tensors, "body.0.conv1", head))
    inner = F.prelu(inner, tensors["body.0.act.weight"])
    block = head + norm("body.0.bn2", conv(tensors, "body.0.conv2", inner))
    tail = head + norm("body_end", conv(tensors, "conv_body", block))
    tail = F.pixel_shuffle(conv(tensors, "upsample.0.conv", tail), 3)
    expected = conv(tensors, "conv_last", F.prelu(tail, tensors["upsample.0.act.weight"]))

    torch.testing.assert_close(network(lr_frames), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "config"), [(SRCNN, SrcnnConfig()), (FSRCNN, FsrcnnConfig()), (VDSR, VdsrConfig())]
)
def test_weights_that_do_not_tell_their_scale_ask_for_it(arch: Arch, config: Any) -> None:
    with pytest.raises(ModelError, match="--scale"):
        recognise(tensors_of(arch, config))


def test_other_networks_are_not_asked_for_a_scale() -> None:
    carn = tensors_of(CARN, CarnConfig(num_feat=8, num_groups=2, scale=3, scales=(2, 3)))
    with pytest.raises(ModelError, match=r"no known architecture.*as carn, no entry\.bias"):
        recognise({key: value for key, value in carn.items() if key != "entry.bias"})
    shapes = {
        "srcnn": {"conv1": (8, 3, 9, 9), "conv2": (4, 8, 5, 5), "conv3": (7, 4, 5, 5)},
        "vdsr": {"layers.0": (8, 3, 7, 7), "layers.1": (3, 8, 7, 7)},
        "deep vdsr": {"layers.0": (8, 3, 3, 3), "layers.1": (9, 8, 3, 3), "layers.2": (3, 8, 3, 3)},
        "fsrcnn": {"body.0": (8, 3, 5, 5), "body.2": (4, 8, 1, 1), "deconv": (8, 3, 4, 4)},
    }

    for layers in shapes.values():
        state_dict = {f"{name}.weight": torch.zeros(shape) for name, shape in layers.items()}
        biases = {f"{name}.bias": torch.zeros(shape[0]) for name, shape in layers.items()}
        with pytest.raises(ModelError, match="no known architecture"):
            recognise(state_dict | biases)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [Kernel.BILINEAR, Kernel.BICUBIC])
def test_enlarging_inside_a_network_is_resampling(kernel: Kernel, scale: int) -> None:
    torch.manual_seed(0)
    frames, axis = torch.rand(2, 3, 7, 5), AxisMap(Fraction(scale))

    inside = enlarge(frames, scale, kernel)

    outside = resample(frames, (7 * scale, 5 * scale), kernel, axis, axis)
    torch.testing.assert_close(inside, outside, rtol=0, atol=1e-6)


@pytest.mark.parametrize("signal", list(Signal))
def test_a_signal_becomes_the_frames_that_it_was_made_of(signal: Signal) -> None:
    torch.manual_seed(0)
    frames = torch.rand(2, signal.num_channels, 5, 4)

    again = signal.to_frames(signal.of_frames(frames))

    torch.testing.assert_close(again, frames, rtol=0, atol=3e-3 if signal is Signal.YCBCR else 1e-6)


def test_studio_luma_is_what_matlab_makes_of_rgb() -> None:
    white = torch.ones(1, 1, 1, 1)

    assert float(Signal.STUDIO_LUMA.of_frames(white)) * 255 == pytest.approx(235)
    assert float(Signal.STUDIO_LUMA.of_frames(0 * white)) * 255 == pytest.approx(16)


def test_unpadded_srcnn_sees_no_black_around_the_picture() -> None:
    config = SrcnnConfig((8, 4), (9, 1, 5), scale=2)
    tensors = tensors_of(SRCNN, config)
    grey = torch.full((1, 1, 12, 12), 0.5)

    edges = {}
    for padded in (True, False):
        network = SRCNN.build(replace(config, padded=padded))
        network.load_state_dict(tensors)
        sr_frame = network(grey).detach()
        edges[padded] = float((sr_frame - sr_frame[..., 12, 12]).abs().max())

    assert edges[False] < 1e-5 < edges[True]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_fsrcnn_ends_in_a_transposed_convolution(scale: int) -> None:
    network = FSRCNN.build(FsrcnnConfig(8, 4, 1, scale=scale, signal=Signal.RGB))
    deconv = network.get_submodule("deconv")
    assert isinstance(deconv, torch.nn.ConvTranspose2d)
    features = torch.rand(2, 8, 7, 5)

    made = deconv(features)

    expected = torch.nn.ConvTranspose2d.forward(deconv, features)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("arch_name", ["ESPCN", "FSRCNN"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_published_weights_of_nhat_thanh_take_ycbcr(
    published: Callable[[str], Path], arch_name: str, scale: int
) -> None:
    model = load_model(str(published(f"{arch_name}_x{scale}.pt")), scale)

    assert (model.facts.name, model.facts.scale) == (arch_name.lower(), scale)
    assert model.facts.color_mode is ColorMode.RGB
    grey = model.network(torch.full((1, 3, 24, 24), 0.5))[..., 24:-24, 24:-24]
    torch.testing.assert_close(grey, torch.full_like(grey, 0.5), rtol=0, atol=0.03)
