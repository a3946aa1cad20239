from fractions import Fraction
from itertools import product

import pytest
import torch
from torch import Tensor

from sr_core.color import (
    ChromaLocation,
    ColorSpace,
    Matrix,
    PlaneFormat,
    Planes,
    chroma_to_unit,
    luma_to_unit,
    planes_to_rgb,
    rgb_to_planes,
    scale_chroma,
    unit_to_chroma,
    unit_to_luma,
)
from sr_core.errors import SpecError
from sr_core.kernels import Kernel
from tests.sr_core.frames import noise

YUV444_8 = PlaneFormat(8, 0, 0)
YUV444_10 = PlaneFormat(10, 0, 0)


def codes(*values: int, plane_format: PlaneFormat) -> Planes:
    return tuple(torch.tensor([[v]], dtype=torch.int32).to(plane_format.dtype) for v in values)


@pytest.mark.parametrize(
    ("plane_format", "matrix", "full_range", "rgb", "expected"),
    [
        (YUV444_8, Matrix.BT709, False, (1, 0, 0), (63, 102, 240)),
        (YUV444_8, Matrix.BT709, False, (0, 0, 1), (32, 240, 118)),
        (YUV444_8, Matrix.BT601, False, (1, 0, 0), (81, 90, 240)),
        (YUV444_8, Matrix.BT601, False, (0, 1, 0), (145, 54, 34)),
        (YUV444_8, Matrix.BT601, True, (1, 0, 0), (76, 85, 255)),
        (YUV444_10, Matrix.BT2020NC, False, (1, 0, 0), (294, 387, 960)),
        (YUV444_8, Matrix.SMPTE240M, False, (0, 1, 0), (170, 42, 28)),
        (YUV444_8, Matrix.FCC, False, (1, 0, 0), (82, 90, 240)),
        (YUV444_10, Matrix.BT709, False, (1, 1, 1), (940, 512, 512)),
    ],
)
def test_pure_colours_have_the_codes_of_their_recommendation(
    plane_format: PlaneFormat,
    matrix: Matrix,
    full_range: bool,
    rgb: tuple[int, ...],
    expected: tuple[int, ...],
) -> None:
    frame = torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1)
    space = ColorSpace(matrix, full_range)

    planes = rgb_to_planes(frame, plane_format, space)

    assert tuple(int(plane.item()) for plane in planes) == expected
    back = planes_to_rgb(planes, plane_format, space)
    torch.testing.assert_close(back, frame, atol=0.01, rtol=0)


@pytest.mark.parametrize(("matrix", "full_range"), list(product(Matrix, [False, True])))
@pytest.mark.parametrize("bit_depth", [8, 10, 12])
def test_round_trip_of_444_through_rgb_changes_no_code(
    matrix: Matrix, full_range: bool, bit_depth: int
) -> None:
    plane_format, space = PlaneFormat(bit_depth, 0, 0), ColorSpace(matrix, full_range)
    planes = noise(64, 50, plane_format)

    back = rgb_to_planes(planes_to_rgb(planes, plane_format, space), plane_format, space)

    assert all(torch.equal(a, b) for a, b in zip(planes, back, strict=True))


@pytest.mark.parametrize(
    "plane_format", [PlaneFormat(d, w, h) for d in range(8, 17) for w, h in ((1, 1), (2, 0))]
)
@pytest.mark.parametrize("full_range", [False, True])
def test_round_trip_of_every_code_through_unit_floats_is_exact(
    plane_format: PlaneFormat, full_range: bool
) -> None:
    space = ColorSpace(full_range=full_range)
    every = torch.arange(1 << plane_format.bit_depth, dtype=torch.int32).to(plane_format.dtype).view(16, -1)
    planes = (every, every, every)

    luma = unit_to_luma(luma_to_unit(planes[0], plane_format, space)[0, 0], plane_format, space)
    chroma = unit_to_chroma(chroma_to_unit(planes, plane_format, space)[0, 1], plane_format, space)

    assert luma.dtype == plane_format.dtype
    assert torch.equal(luma, every)
    assert torch.equal(chroma, every)


def test_unit_floats_run_from_black_to_white_and_beyond() -> None:
    y = torch.tensor([[16, 235, 254]], dtype=torch.uint8)

    unit = luma_to_unit(y, YUV444_8, ColorSpace())

    torch.testing.assert_close(unit.flatten(), torch.tensor([0.0, 1.0, 238 / 219]))


def test_floats_beyond_the_container_become_its_outermost_codes() -> None:
    values = torch.tensor([[-9.0, 9.0]])

    assert unit_to_luma(values, PlaneFormat(10), ColorSpace()).tolist() == [[0, 1023]]
    assert unit_to_luma(values, PlaneFormat(16), ColorSpace()).tolist() == [[0, 65535]]


def test_superwhite_survives_rgb() -> None:
    rgb = planes_to_rgb(codes(250, 128, 128, plane_format=YUV444_8), YUV444_8, ColorSpace())

    assert float(rgb.min()) > 1.06


def test_grey_is_equal_in_red_green_and_blue_and_comes_back() -> None:
    grey = PlaneFormat(10, has_chroma=False)
    planes = noise(5, 7, grey)

    rgb = planes_to_rgb(planes, grey, ColorSpace())

    assert torch.equal(rgb[:, 0], rgb[:, 2])
    back = rgb_to_planes(rgb, grey, ColorSpace())
    assert len(back) == 1
    assert torch.equal(back[0], planes[0])


def siting_in_luma_px(location: ChromaLocation, shift: int, vertical: bool) -> float:
    """Where chroma sample 0 lies, counted in luma samples from the centre of luma sample 0."""
    name, last = location.value, (1 << shift) - 1
    if vertical:
        return 0.0 if "top" in name else float(last) if "bottom" in name else last / 2
    return 0.0 if "left" in name else last / 2


def ramp(num: int, shift: int, at: float) -> Tensor:
    return ((torch.arange(num) << shift) + at).to(torch.float32)


SITED = list(product(ChromaLocation, [(1, 1), (1, 0), (2, 0), (2, 2)]))


@pytest.mark.parametrize(("location", "shifts"), SITED)
def test_chroma_reaches_the_luma_grid_without_a_shift(
    location: ChromaLocation, shifts: tuple[int, int]
) -> None:
    plane_format, space = PlaneFormat(16, *shifts), ColorSpace(Matrix.BT709, True, location)
    across = ramp(40, shifts[0], siting_in_luma_px(location, shifts[0], False))
    down = ramp(40, shifts[1], siting_in_luma_px(location, shifts[1], True))
    size = (40 << shifts[1], 40 << shifts[0])
    cr = (32768 + 100 * across[None, :] + 100 * down[:, None]).round().to(torch.int32).to(torch.uint16)
    grey = torch.full(size, 30000, dtype=torch.int32).to(torch.uint16)
    cb = torch.full((40, 40), 32768, dtype=torch.int32).to(torch.uint16)

    rgb = planes_to_rgb((grey, cb, cr), plane_format, space)

    red = (rgb[0, 0] * 65535 - 30000) / (2 * (1 - 0.2126)) / 100
    expected = torch.arange(size[1])[None, :] + torch.arange(size[0])[:, None].to(torch.float32)
    inner = (slice(12, -12), slice(12, -12))
    torch.testing.assert_close(red[inner], expected[inner], atol=0.02, rtol=0)


@pytest.mark.parametrize(("location", "shifts"), SITED)
@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(3), Fraction(4, 3), Fraction(1, 2)], ids=str)
def test_scaled_chroma_does_not_move_against_luma(
    location: ChromaLocation, shifts: tuple[int, int], ratio: Fraction
) -> None:
    plane_format = PlaneFormat(8, *shifts)
    at = (siting_in_luma_px(location, shifts[1], True), siting_in_luma_px(location, shifts[0], False))
    chroma = ramp(48, shifts[0], at[1])[None, :] + 1000 * ramp(48, shifts[1], at[0])[:, None]
    luma_size = (int((48 << shifts[1]) * ratio), int((48 << shifts[0]) * ratio))

    got = scale_chroma(chroma[None, None], luma_size, (ratio, ratio), plane_format, location, Kernel.BICUBIC)

    def source_px(num: int, shift: int, siting: float) -> Tensor:
        return (ramp(num, shift, siting) + 0.5) / float(ratio) - 0.5

    height, width = plane_format.chroma_size(luma_size)
    expected = (
        source_px(width, shifts[0], at[1])[None, :] + 1000 * source_px(height, shifts[1], at[0])[:, None]
    )
    inner = (slice(10, -10), slice(10, -10))
    torch.testing.assert_close(got[0, 0][inner], expected[inner], atol=0.01, rtol=1e-6)


@pytest.mark.parametrize("location", list(ChromaLocation))
def test_smooth_colour_survives_rgb_and_back(location: ChromaLocation) -> None:
    plane_format, space = PlaneFormat(10), ColorSpace(Matrix.BT601, False, location)
    slope = torch.arange(31)[:, None] * 5 + torch.arange(41)[None, :] * 7
    cb = (300 + slope).to(torch.int32).to(torch.uint16)
    y = torch.full((61, 81), 500, dtype=torch.int32).to(torch.uint16)

    back = rgb_to_planes(planes_to_rgb((y, cb, cb), plane_format, space), plane_format, space)

    assert torch.equal(back[0], y)
    difference = back[1].to(torch.int32) - cb.to(torch.int32)
    assert int(difference[3:-3, 3:-3].abs().max()) <= 1


def test_odd_frames_have_a_last_chroma_sample() -> None:
    assert PlaneFormat(8, 1, 1).chroma_size((121, 161)) == (61, 81)
    assert PlaneFormat(8, 2, 0).chroma_size((121, 161)) == (121, 41)


def test_formats_that_do_not_exist_are_refused() -> None:
    for bit_depth in (7, 17):
        with pytest.raises(SpecError, match="bit depth"):
            PlaneFormat(bit_depth)
    with pytest.raises(SpecError, match="subsampling"):
        PlaneFormat(8, 3, 0)
    with pytest.raises(SpecError, match="RGB has three planes"):
        PlaneFormat(8, 1, 1, is_rgb=True)


def test_planes_are_counted_and_sized_with_alpha_last() -> None:
    size = (121, 161)

    assert PlaneFormat(8, 2, 2, has_alpha=True).plane_sizes(size) == (size, (31, 41), (31, 41), size)
    assert PlaneFormat(8, has_chroma=False, has_alpha=True).plane_sizes(size) == (size, size)
    assert PlaneFormat(12, 0, 0, is_rgb=True).plane_sizes(size) == (size,) * 3
    assert PlaneFormat(12, 0, 0, is_rgb=True, has_alpha=True).num_planes == 4
