"""What is left of fine slopes: 10 and 16 bit ramps through kernels and networks."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.archs.compact import COMPACT, Activation, CompactConfig
from sr_core.color import ColorSpace, PlaneFormat, Planes
from sr_core.kernels import Kernel
from sr_core.model import Model, load_model
from sr_core.resample import AxisMap, axis_taps
from sr_core.upscale import Upscaler
from tests.sr_core.frames import numbers, stored

WIDTH, HEIGHT = 1920, 12
GREY_10, YUV_10 = PlaneFormat(10, has_chroma=False), PlaneFormat(10, 0, 0)


def slope(first: int, last: int, width: int = WIDTH) -> Tensor:
    codes = first + (torch.arange(width) * (last - first)).div(width - 1, rounding_mode="floor")
    return codes.expand(HEIGHT, width)


def exact_doubling(codes: Tensor) -> np.ndarray:
    """One row through Lanczos x2, in double precision."""
    taps = axis_taps(Kernel.LANCZOS, AxisMap(Fraction(2)))
    row, num_taps = numbers(codes)[0].double().numpy(), taps.weights.shape[1]
    padded = np.pad(row, num_taps, mode="edge")
    out = np.empty(2 * len(row))
    for phase, first in enumerate(taps.first):
        starts = np.arange(len(row)) + num_taps + first
        out[phase::2] = padded[starts[:, None] + np.arange(num_taps)] @ taps.weights[phase]
    return out


@pytest.mark.parametrize("bit_depth", [10, 16])
def test_a_slow_ramp_through_lanczos_has_no_bands(bit_depth: int) -> None:
    plane_format, wider = PlaneFormat(bit_depth, has_chroma=False), bit_depth - 10
    ramp = slope(64 << wider, 940 << wider)

    (got,) = Upscaler(load_model("lanczos", 2), "cpu", "fp32", 256, 1).upscale(
        (stored(ramp, plane_format),), plane_format, ColorSpace()
    )

    row = numbers(got)[HEIGHT]
    exact = exact_doubling(ramp)
    assert torch.equal(numbers(got), row.expand(2 * HEIGHT, -1))
    assert float(np.abs(row.numpy() - exact).max()) < 0.51
    assert int((row[1:] - row[:-1]).min()) >= 0
    assert len(row.unique()) == len(np.unique(np.round(exact)))
    if bit_depth == 10:
        assert row.unique().tolist() == list(range(64, 941))


@pytest.mark.parametrize("is_rgb", [False, True])
def test_a_ramp_of_every_16_bit_code_keeps_its_steps(is_rgb: bool) -> None:
    plane_format = PlaneFormat(16, 0, 0, is_rgb=is_rgb)
    every = torch.arange(1 << 16).expand(2, -1)
    planes = (
        stored(every, plane_format),
        stored(every.flip(1), plane_format),
        stored(torch.full_like(every, 40_000), plane_format),
    )

    got = Upscaler(load_model("bilinear", 2), "cpu", "fp32", 4096, 1).upscale(
        planes, plane_format, ColorSpace(full_range=True)
    )

    steps = numbers(got[0])[0].diff()
    assert int(steps.min()) >= 0
    assert int(steps.max()) <= 1
    assert len(numbers(got[0])[0].unique()) == 1 << 16
    assert torch.equal(numbers(got[1]).flip(1), numbers(got[0]))
    assert numbers(got[2]).unique().tolist() == [40_000]


def own() -> Model:
    torch.manual_seed(7)
    config = CompactConfig(num_feat=32, num_conv=8, scale=2)
    return Model(COMPACT.build(config).eval(), COMPACT.facts(config), "")


def ramps() -> list[tuple[Planes, PlaneFormat]]:
    luma, rising, falling, none = slope(64, 940), slope(360, 660), slope(610, 410), slope(512, 512)
    grey = (stored(luma, GREY_10),)
    colour = tuple(stored(plane, YUV_10) for plane in (luma, rising, falling))
    neutral = tuple(stored(plane, YUV_10) for plane in (luma, none, none))
    return [(grey, GREY_10), (neutral, YUV_10), (colour, YUV_10)]


def lowest_psnr(load: Callable[[], Model], precision: str) -> float:
    """dB against fp32 of the worst plane of any ramp, with a peak of 1023."""
    exact = Upscaler(load(), "cpu", "fp32", 256, 1)
    rough = Upscaler(load(), "cpu", precision, 256, 1)
    errors = [
        numbers(a) - numbers(b)
        for planes, plane_format in ramps()
        for a, b in zip(
            rough.upscale(planes, plane_format, ColorSpace()),
            exact.upscale(planes, plane_format, ColorSpace()),
            strict=True,
        )
    ]
    return min(10 * float(torch.log10(1023**2 / error.double().square().mean())) for error in errors)


def test_10_bit_ramps_survive_bf16_in_published_weights(published: Callable[[str], Path]) -> None:
    path = str(published("realesr-animevideov3.pth"))

    assert lowest_psnr(lambda: load_model(path), "bf16") > 65


def test_10_bit_ramps_survive_bf16_in_a_network_of_any_weights() -> None:
    assert lowest_psnr(own, "bf16") > 65


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_kernels_keep_their_sums(dtype: torch.dtype) -> None:
    network, config = own().network, CompactConfig(num_feat=32, num_conv=8, scale=2)
    exact = network.get_parameter("body.2.weight").detach().clone()
    torch.manual_seed(7)

    rounded = COMPACT.build(config)
    rounded.set_body_dtype(dtype)

    got = rounded.get_parameter("body.2.weight").detach()
    assert got.dtype == dtype
    error = (got.double() - exact.double()).flatten(2)
    plain = (exact.to(dtype).double() - exact.double()).flatten(2)
    assert float(error.sum(2).abs().mean()) < 0.1 * float(plain.sum(2).abs().mean())
    assert float(error.abs().max()) < 2.1 * float(plain.abs().max())


@pytest.mark.parametrize("num_channels", [1, 3, 6])
def test_networks_in_bf16_see_steps_that_bf16_cannot_hold(num_channels: int) -> None:
    config = CompactConfig(num_channels, num_feat=8, num_conv=0, scale=1, activation=Activation.RELU)
    network = COMPACT.build(config)
    identity = torch.eye(num_channels, 8)
    centre = F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1))
    network.load_state_dict(
        {
            "body.0.weight": identity.T[..., None, None] * centre,
            "body.0.bias": torch.full((8,), -0.875),  # what is left is small enough for bf16
            "body.2.weight": identity[..., None, None] * centre,
            "body.2.bias": torch.zeros(num_channels),
        }
    )
    network.set_body_dtype(torch.bfloat16)
    light = (0.875 + torch.arange(128) / 1023).expand(1, num_channels, 4, 128)

    with torch.inference_mode():
        details = network(light) - light

    torch.testing.assert_close(details, light - 0.875, atol=0.0003, rtol=0)
