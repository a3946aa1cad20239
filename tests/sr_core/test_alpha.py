import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.alpha import fill_hidden, scale_alpha
from sr_core.archs.arch import ColorMode, ModelFacts, Network
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.color import ColorSpace, PlaneFormat, Planes, UnitFrame
from sr_core.model import Model, load_model
from sr_core.upscale import Upscaler
from tests.sr_core.frames import equal, flat, noise, numbers, stored

RGBA = PlaneFormat(8, 0, 0, is_rgb=True, has_alpha=True)
FULL = ColorSpace(full_range=True)


class Recorder(Network):
    """Nearest x2 that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def set_body_dtype(self, dtype: torch.dtype) -> None:
        pass

    def forward(self, lr_frames: Tensor) -> Tensor:
        self.seen.append(lr_frames.clone())
        return F.interpolate(lr_frames, scale_factor=2)


def engine(network: Network, color_mode: ColorMode) -> Upscaler:
    facts = ModelFacts("recorder", 2, 0, 1, (torch.float32,), color_mode)
    return Upscaler(Model(network, facts, ""), "cpu", "fp32", 10_000, 1)


def rgb_compact() -> Upscaler:
    torch.manual_seed(7)
    config = CompactConfig(num_feat=16, num_conv=2, scale=2)
    return Upscaler(Model(COMPACT.build(config).eval(), COMPACT.facts(config), ""), "cpu", "fp32", 24, 2)


def hidden_right_half(plane_format: PlaneFormat, visible: tuple[int, ...], hidden: tuple[int, ...]) -> Planes:
    left, right = flat(36, 26, plane_format, *visible, 255), flat(36, 26, plane_format, *hidden, 0)
    return tuple(torch.cat([a, b], dim=1) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("name", ["lanczos", "bicubic"])
def test_green_behind_transparency_does_not_bleed_into_red(name: str) -> None:
    planes = hidden_right_half(RGBA, (255, 0, 0), (0, 255, 0))

    red, green, blue, alpha = Upscaler(load_model(name, 2), "cpu", "fp32", 24, 2).upscale(planes, RGBA, FULL)

    assert int(red.min()) == 255
    assert int(green.max()) == int(blue.max()) == 0
    assert int(alpha[:, :46].min()) == 255
    assert int(alpha[:, -40:].max()) == 0


def test_no_network_sees_what_alpha_hides() -> None:
    planes = hidden_right_half(RGBA, (255, 0, 0), (0, 255, 0))
    other = hidden_right_half(RGBA, (255, 0, 0), (9, 90, 200))

    got = rgb_compact().upscale(planes, RGBA, FULL)

    assert equal(got, rgb_compact().upscale(other, RGBA, FULL))
    assert equal(got, rgb_compact().upscale((*flat(36, 52, RGBA, 255, 0, 0, 9)[:3], planes[3]), RGBA, FULL))


@pytest.mark.parametrize("shifts", [(0, 0), (1, 1), (2, 0), (2, 2), (0, 1)])
@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
def test_hidden_colours_of_subsampled_chroma_do_not_bleed(
    shifts: tuple[int, int], color_mode: ColorMode
) -> None:
    plane_format = PlaneFormat(8, *shifts, has_alpha=True)
    size, chroma_size = (36, 52), plane_format.chroma_size((36, 52))
    half = chroma_size[1] // 2
    luma, alpha = torch.full(size, 100), torch.full(size, 255)
    cb, cr = torch.full(chroma_size, 90), torch.full(chroma_size, 200)
    edge = half << shifts[0]
    luma[:, edge:], cb[:, half:], cr[:, half:], alpha[:, edge:] = 220, 240, 16, 0
    planes = tuple(stored(plane, plane_format) for plane in (luma, cb, cr, alpha))

    got = engine(Recorder(), color_mode).upscale(planes, plane_format, ColorSpace())

    for plane, code in zip(got[:3], (100, 90, 200), strict=True):
        assert numbers(plane).unique().tolist() == [code]


def test_a_chroma_sample_of_which_some_luma_shows_keeps_its_colour() -> None:
    alpha = torch.zeros(1, 1, 4, 4)
    alpha[..., 1, 1] = 0.01
    chroma = torch.arange(8.0).view(1, 2, 2, 2)
    frame = UnitFrame(torch.rand(1, 1, 4, 4), chroma, alpha)

    filled = fill_hidden(frame, PlaneFormat(8, 1, 1, has_alpha=True)).chroma

    assert filled is not None
    assert filled.flatten().tolist() == [0.0] * 4 + [4.0] * 4


def test_whatever_has_opacity_keeps_its_colour_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    alpha = torch.rand(1, 1, 37, 53, generator=generator).sub(0.6).clamp_(min=0)
    colors = torch.rand(1, 3, 37, 53, generator=generator)

    filled = fill_hidden(UnitFrame(colors, None, alpha), RGBA).colors

    shown = (alpha > 0).expand_as(colors)
    assert torch.equal(filled[shown], colors[shown])
    assert not torch.equal(filled[~shown], colors[~shown])
    assert float(filled.max()) <= float(colors[shown].max()) + 1e-6


def test_holes_take_the_colours_that_are_nearest() -> None:
    colors, alpha = torch.zeros(1, 3, 40, 90), torch.zeros(1, 1, 40, 90)
    colors[..., :10], alpha[..., :10] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1), 1.0
    colors[..., -10:], alpha[..., -10:] = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1), 1.0

    filled = fill_hidden(UnitFrame(colors, None, alpha), RGBA).colors

    assert float(filled[0, 0, :, 10:14].min()) > 0.85
    assert float(filled[0, 2, :, 76:80].min()) > 0.85
    torch.testing.assert_close(filled[:, 0] + filled[:, 2], torch.ones(1, 40, 90))


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_frames_of_which_nothing_or_all_is_hidden_stay_as_they_are(opacity: float) -> None:
    frame = UnitFrame(torch.rand(1, 3, 7, 5), None, torch.full((1, 1, 7, 5), opacity))

    assert fill_hidden(frame, RGBA) is frame


@pytest.mark.parametrize("bit_depth", range(8, 17))
@pytest.mark.parametrize("size", [(74, 106), (55, 81), (20, 30)])
def test_flat_opacity_stays_flat_to_the_last_code(bit_depth: int, size: tuple[int, int]) -> None:
    plane_format = PlaneFormat(bit_depth, has_chroma=False, has_alpha=True)
    highest = (1 << bit_depth) - 1

    for code in (0, 1, highest // 3, highest - 1, highest):
        planes = (*noise(37, 53, plane_format)[:1], *flat(37, 53, plane_format, 0, code)[1:])
        got = Upscaler(load_model("lanczos", 2), "cpu", "fp32", 24, 2).upscale(
            planes, plane_format, ColorSpace(), size
        )
        assert numbers(got[1]).unique().tolist() == [code]


def test_no_network_touches_opacity() -> None:
    planes = (*noise(36, 52, RGBA)[:3], *flat(36, 52, RGBA, 0, 0, 0, 255)[3:])

    got = rgb_compact().upscale(planes, RGBA, FULL)

    assert int(got[3].min()) == 255


def test_soft_opacity_stays_monotone_and_within_its_range() -> None:
    soft = torch.linspace(0, 1, 40).mul(1.5).sub(0.25).clamp(0, 1)[None, None, None].expand(1, 1, 8, 40)

    scaled = scale_alpha(soft, (16, 80))

    assert tuple(scaled.shape) == (1, 1, 16, 80)
    assert float(scaled.min()) == 0.0
    assert float(scaled.max()) == 1.0
    middle = scaled[0, 0, 8, 20:60]
    assert float((middle[1:] - middle[:-1]).min()) > 0
    position = (torch.arange(80) + 0.5) / 2 - 0.5
    torch.testing.assert_close(middle, (position / 39 * 1.5 - 0.25).clamp(0, 1)[20:60], atol=0.003, rtol=0)


def test_opacity_uses_all_codes_beside_colours_of_limited_range() -> None:
    source = PlaneFormat(8, 0, 0, has_alpha=True)
    made = PlaneFormat(10, 0, 0, has_alpha=True)
    codes = torch.tensor([[0, 1, 16, 128, 235, 255]])
    planes = (*flat(1, 6, source, 100, 128, 128, 0)[:3], stored(codes, source))

    got = Upscaler(load_model("lanczos", 1), "cpu", "fp32", 24, 2).upscale(
        planes, source, ColorSpace(), out_format=made
    )

    assert numbers(got[3]).tolist() == [[0, 4, 64, 514, 943, 1023]]


def test_where_alpha_is_dropped_nothing_is_hidden() -> None:
    planes = noise(20, 30, RGBA)
    opaque = PlaneFormat(8, 0, 0, is_rgb=True)
    planes = (*planes[:3], torch.zeros_like(planes[3]))
    planes[3][:, :9] = 200

    got = rgb_compact().upscale(planes, RGBA, FULL, out_format=opaque)

    assert equal(got, rgb_compact().upscale(planes[:3], opaque, FULL))
