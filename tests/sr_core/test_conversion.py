from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.archs.arch import ColorMode, ModelFacts, Network
from sr_core.color import (
    ChromaLocation,
    ColorSpace,
    Matrix,
    PlaneFormat,
    Planes,
    rgb_to_planes,
    rgb_to_yuv,
)
from sr_core.errors import SpecError
from sr_core.kernels import Kernel
from sr_core.model import Model, load_model
from sr_core.upscale import Upscaler
from tests.sr_core.frames import SAMPLINGS, equal, every_format, flat, noise, numbers, stored

YUV = ColorSpace()
FULL = ColorSpace(full_range=True)
GREY = PlaneFormat(8, has_chroma=False)
RGB = PlaneFormat(8, 0, 0, is_rgb=True)
NOT_SUBSAMPLED = [each for each in every_format(8, 11, 16) if each.chroma_size((2, 2)) == (2, 2)]
NOT_SUBSAMPLED += [replace(GREY, bit_depth=16, has_alpha=True)]


class Repeater(Network):
    """Nearest at any scale, tinted: some red is added."""

    def __init__(self, scale: int, tint: float) -> None:
        super().__init__()
        self.scale = scale
        self.tint = tint

    def set_body_dtype(self, dtype: torch.dtype) -> None:
        pass

    def forward(self, lr_frames: Tensor) -> Tensor:
        sr_frames = F.interpolate(lr_frames, scale_factor=self.scale)
        sr_frames[:, 0] += self.tint
        return sr_frames


def repeater(color_mode: ColorMode, scale: int = 1, tint: float = 0.0) -> Upscaler:
    facts = ModelFacts("repeater", scale, 0, 1, (torch.float32,), color_mode)
    return Upscaler(Model(Repeater(scale, tint), facts, ""), "cpu", "fp32", 10_000, 1)


def kernel(name: str, scale: int) -> Upscaler:
    return Upscaler(load_model(name, scale), "cpu", "fp32", 10_000, 1)


def visible_noise(height: int, width: int, plane_format: PlaneFormat) -> Planes:
    """Noise of which alpha hides nothing."""
    planes = noise(height, width, plane_format)
    if plane_format.has_alpha:
        planes = (*planes[:-1], stored(numbers(planes[-1]).clamp(min=1), plane_format))
    return planes


def smooth_rgb(height: int, width: int) -> Tensor:
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(6))
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("plane_format", every_format(*range(8, 17)), ids=str)
@pytest.mark.parametrize("full_range", [False, True])
def test_interpolation_at_scale_one_changes_no_code(plane_format: PlaneFormat, full_range: bool) -> None:
    planes, space = visible_noise(21, 31, plane_format), ColorSpace(full_range=full_range)

    assert equal(kernel("lanczos", 1).upscale(planes, plane_format, space), planes)


@pytest.mark.parametrize("plane_format", NOT_SUBSAMPLED, ids=str)
@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
def test_networks_that_change_nothing_change_no_code_of_what_is_not_subsampled(
    plane_format: PlaneFormat, color_mode: ColorMode
) -> None:
    planes = visible_noise(21, 31, plane_format)

    assert equal(repeater(color_mode).upscale(planes, plane_format, YUV), planes)


@pytest.mark.parametrize("plane_format", every_format(8, 10, 16), ids=str)
@pytest.mark.parametrize("size", [(42, 62), (57, 75), (13, 20)])
@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
def test_flat_colours_are_exact_at_any_size(
    plane_format: PlaneFormat, size: tuple[int, int], color_mode: ColorMode
) -> None:
    step = 1 << (plane_format.bit_depth - 8)
    codes = (*(code * step + step // 3 for code in (81, 90, 190)), 77 * step)
    planes = flat(
        21, 31, plane_format, *codes[: plane_format.num_color_planes], *codes[3:][: plane_format.has_alpha]
    )

    got = repeater(color_mode, 2).upscale(planes, plane_format, YUV, size)

    assert [numbers(plane).unique().tolist() for plane in got] == [[int(plane[0, 0])] for plane in planes]
    assert tuple(tuple(plane.shape) for plane in got) == plane_format.plane_sizes(size)


@pytest.mark.parametrize("name", list(Kernel))
@pytest.mark.parametrize("size", [(42, 62), (50, 71), (15, 17)])
def test_interpolating_rgb_is_interpolating_each_of_its_planes(name: Kernel, size: tuple[int, int]) -> None:
    planes = noise(21, 31, RGB)

    got = kernel(name, 2).upscale(planes, RGB, FULL, size)

    for plane, source in zip(got, planes, strict=True):
        alone = kernel(name, 2).upscale((source,), GREY, FULL, size)[0]
        assert int((numbers(plane) - numbers(alone)).abs().max()) <= 1


def test_luma_networks_see_bt601_luma_of_rgb_and_leave_its_chroma() -> None:
    planes = tuple(stored(numbers(plane) // 2 + 32, RGB) for plane in noise(20, 30, RGB))

    got = repeater(ColorMode.LUMA, 1, tint=20 / 255).upscale(planes, RGB, FULL)

    assert all(
        torch.equal(numbers(plane), numbers(source) + 20) for plane, source in zip(got, planes, strict=True)
    )
    luma, _ = rgb_to_yuv(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), Matrix.BT601)
    assert float(luma) == pytest.approx(0.299)


@pytest.mark.parametrize("matrix", list(Matrix))
@pytest.mark.parametrize(
    "made", [PlaneFormat(10, 0, 0), PlaneFormat(8, 1, 1), PlaneFormat(16, 2, 0)], ids=str
)
@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
def test_rgb_becomes_luma_and_chroma_of_the_matrix_asked_for(
    matrix: Matrix, made: PlaneFormat, color_mode: ColorMode
) -> None:
    source, space = replace(RGB, bit_depth=16), ColorSpace(matrix)
    rgb = smooth_rgb(24, 32)
    planes = rgb_to_planes(rgb, source, FULL)

    got = repeater(color_mode).upscale(planes, source, FULL, out_format=made, out_space=space)

    for plane, wanted in zip(got, rgb_to_planes(rgb, made, space), strict=True):
        assert int((numbers(plane) - numbers(wanted)).abs().max()) <= 1


@pytest.mark.parametrize("before", [8, 10, 16])
@pytest.mark.parametrize("after", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
def test_depths_convert_by_the_meaning_of_codes(before: int, after: int, color_mode: ColorMode) -> None:
    source, made = PlaneFormat(before, 0, 0), PlaneFormat(after, 0, 0)
    planes = tuple(
        stored(numbers(plane).clamp(16 << (before - 8), 235 << (before - 8)), source)
        for plane in noise(20, 30, source)
    )

    narrow = repeater(color_mode).upscale(planes, source, YUV, out_format=made)
    wide = repeater(color_mode).upscale(planes, source, YUV, out_format=made, out_space=FULL)

    middle, highest = float(1 << (after - 1)), float((1 << after) - 1)
    units = [numbers(plane).double() / (1 << (before - 8)) for plane in planes]
    for number, (unit, a, b) in enumerate(zip(units, narrow, wide, strict=True)):
        black, span, zero = (16, 219, 0.0) if number == 0 else (128, 224, middle)
        tolerance = 0.55 if after < 14 else 0.7  # beyond one half lies what float32 leaves of 16 bits
        assert float((numbers(a) - unit * (1 << (after - 8))).abs().max()) <= tolerance
        wanted = ((unit - black) / span * highest + zero).clamp(0, highest)
        assert float((numbers(b) - wanted).abs().max()) <= tolerance


def test_more_depth_and_back_is_the_same_frame() -> None:
    source, deep = PlaneFormat(8, 1, 1, has_alpha=True), PlaneFormat(16, 1, 1, has_alpha=True)
    planes = visible_noise(20, 30, source)

    there = kernel("lanczos", 1).upscale(planes, source, YUV, out_format=deep, out_space=FULL)
    back = kernel("lanczos", 1).upscale(there, deep, FULL, out_format=source, out_space=YUV)

    # Full range ends where codes beyond black and white begin.
    legal = (slice(16, 235), slice(16, 240), slice(16, 240), slice(0, 255))
    for plane, wanted, codes in zip(back, planes, legal, strict=True):
        assert torch.equal(numbers(plane), numbers(wanted).clamp(codes.start, codes.stop))


@pytest.mark.parametrize("before", SAMPLINGS)
@pytest.mark.parametrize("after", SAMPLINGS)
@pytest.mark.parametrize("locations", [("left", "left"), ("left", "topleft"), ("center", "left")])
@pytest.mark.parametrize("size", [(80, 96), (120, 144)])
def test_resampled_chroma_does_not_move_against_luma(
    before: tuple[int, int],
    after: tuple[int, int],
    locations: tuple[str, str],
    size: tuple[int, int],
) -> None:
    source, made = PlaneFormat(12, *before), PlaneFormat(12, *after)
    spaces = [ColorSpace(chroma_location=ChromaLocation(location)) for location in locations]

    def ramps(height: int, width: int, plane_format: PlaneFormat, space: ColorSpace) -> Planes:
        down = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
        across = ((torch.arange(width) + 0.5) / width)[None].expand(height, width)
        return rgb_to_planes(torch.stack([across, 1 - across, down])[None], plane_format, space)

    got = kernel("bicubic", 1).upscale(
        ramps(80, 96, source, spaces[0]), source, spaces[0], size, out_format=made, out_space=spaces[1]
    )

    for plane, wanted in zip(got, ramps(*size, made, spaces[1]), strict=True):
        top, left = 24 >> made.chroma_h_shift, 24 >> made.chroma_w_shift
        inner = (slice(top, -top), slice(left, -left))
        assert int((numbers(plane)[inner] - numbers(wanted)[inner]).abs().max()) <= 4  # half a sample is 18


def test_411_becomes_422_where_each_sample_lies() -> None:
    """Left-sited 4:1:1 has chroma at luma columns 0, 4, 8 and left-sited 4:2:2 at 0, 2, 4."""
    source, made = PlaneFormat(8, 2, 0), PlaneFormat(8, 1, 0)
    chroma = torch.arange(0, 256, 8).expand(6, 32)
    planes = tuple(stored(plane, source) for plane in (torch.full((6, 128), 90), chroma, chroma))

    _, cb, _ = kernel("bilinear", 1).upscale(planes, source, YUV, out_format=made)

    assert numbers(cb)[0].tolist() == [min(4 * column, 248) for column in range(64)]


@pytest.mark.parametrize("made", [PlaneFormat(8), PlaneFormat(10, 0, 0), PlaneFormat(12, 2, 0)], ids=str)
@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
@pytest.mark.parametrize("full_range", [False, True])
def test_grey_gets_chroma_of_no_colour(made: PlaneFormat, color_mode: ColorMode, full_range: bool) -> None:
    space = ColorSpace(Matrix.BT601, full_range)

    got = repeater(color_mode, 2, tint=0.1).upscale(
        noise(21, 31, GREY), GREY, YUV, out_format=made, out_space=space
    )

    assert tuple(tuple(plane.shape) for plane in got) == made.plane_sizes((42, 62))
    assert {int(code) for plane in got[1:] for code in numbers(plane).unique()} == {1 << (made.bit_depth - 1)}


@pytest.mark.parametrize("color_mode", list(ColorMode))
def test_grey_output_drops_chroma_and_keeps_luma(color_mode: ColorMode) -> None:
    planes = tuple(stored(numbers(plane) // 4 + 96, PlaneFormat()) for plane in noise(20, 30, PlaneFormat()))

    got = repeater(color_mode).upscale(
        planes,
        PlaneFormat(),
        ColorSpace(Matrix.BT2020NC),
        out_format=GREY,
        out_space=ColorSpace(Matrix.BT601),
    )

    assert equal(got, planes[:1])


def test_yuv420_networks_give_other_formats_and_scale_alpha() -> None:
    source, made = PlaneFormat(8, 1, 1, has_alpha=True), PlaneFormat(10, 0, 0, has_alpha=True)
    planes = flat(21, 31, source, 81, 90, 190, 201)

    got = repeater(ColorMode.YUV420, 2).upscale(planes, source, YUV, out_format=made)

    assert equal(got, flat(42, 62, made, 324, 360, 760, 806))


def test_alpha_is_dropped_where_the_result_has_none() -> None:
    source = PlaneFormat(8, 1, 1, has_alpha=True)
    planes = visible_noise(20, 30, source)

    got = kernel("lanczos", 2).upscale(planes, source, YUV, out_format=PlaneFormat())

    assert equal(got, kernel("lanczos", 2).upscale(planes[:3], PlaneFormat(), YUV))


@pytest.mark.parametrize(
    ("source", "made", "space"),
    [
        (PlaneFormat(), RGB, YUV),
        (GREY, RGB, YUV),
        (PlaneFormat(), PlaneFormat(has_alpha=True), YUV),
        (RGB, replace(RGB, has_alpha=True), YUV),
        (PlaneFormat(), PlaneFormat(10), ColorSpace(Matrix.BT601)),
    ],
)
def test_results_that_contradict_the_source_are_refused(
    source: PlaneFormat, made: PlaneFormat, space: ColorSpace
) -> None:
    with pytest.raises(SpecError, match=r"clip: .*contradict"):
        kernel("lanczos", 2).upscale(
            noise(8, 8, source), source, YUV, out_format=made, out_space=space, where="clip"
        )


def test_frames_of_every_size_reach_the_size_of_the_output() -> None:
    for size in ((20, 30), (21, 29), (150, 90), (1, 1), (64, 200)):
        for engine in (kernel("lanczos", 2), repeater(ColorMode.RGB, 4), repeater(ColorMode.YUV420, 2)):
            got = engine.upscale(noise(*size, PlaneFormat()), PlaneFormat(), YUV, (54, 82))
            assert tuple(tuple(plane.shape) for plane in got) == PlaneFormat().plane_sizes((54, 82))
