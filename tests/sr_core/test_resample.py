from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sr_core.errors import SpecError
from sr_core.kernels import Kernel
from sr_core.resample import AxisMap, axis_taps, resample

RATIOS = [Fraction(2), Fraction(3), Fraction(3, 2), Fraction(3, 4), Fraction(1, 2), Fraction(37, 23)]


def plain_sum(signal: np.ndarray, num_out: int, kernel: Kernel, axis: AxisMap) -> np.ndarray:
    """The definition, one output after the other."""
    taps = axis_taps(kernel, axis)
    out = np.zeros(num_out)
    for j in range(num_out):
        turn, phase = divmod(j, axis.ratio.numerator)
        first = taps.first[phase] + turn * axis.ratio.denominator
        for tap, weight in enumerate(taps.weights[phase]):
            out[j] += weight * signal[min(max(first + tap, 0), len(signal) - 1)]
    return out


def scaled(planes: torch.Tensor, ratio: Fraction, kernel: Kernel) -> torch.Tensor:
    size = (int(planes.shape[-2] * ratio), int(planes.shape[-1] * ratio))
    return resample(planes, size, kernel, AxisMap(ratio), AxisMap(ratio))


@given(
    st.sampled_from(list(Kernel)),
    st.fractions(Fraction(1, 8), 8, max_denominator=9),
    st.fractions(0, 1, max_denominator=8),
)
def test_weights_of_every_phase_sum_to_one(kernel: Kernel, ratio: Fraction, origin: Fraction) -> None:
    taps = axis_taps(kernel, AxisMap(ratio, source_origin=origin))

    assert len(taps.first) == ratio.numerator
    np.testing.assert_allclose(taps.weights.sum(axis=1), 1.0, rtol=1e-14)


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_both_axes_follow_the_definition(kernel: Kernel, ratio: Fraction) -> None:
    column = torch.rand(25, generator=torch.Generator().manual_seed(1))
    vertical = AxisMap(ratio, source_origin=Fraction(1, 4))
    num_out = int(25 * ratio)
    expected = plain_sum(column.numpy(), num_out, kernel, vertical)
    still = AxisMap(Fraction(1))

    rows = resample(column.view(1, 1, 25, 1), (num_out, 1), kernel, vertical, still)
    columns = resample(column.view(1, 1, 1, 25), (1, num_out), kernel, still, vertical)

    np.testing.assert_allclose(rows.flatten(), expected, atol=1e-6)
    assert torch.equal(rows.flatten(), columns.flatten())


@pytest.mark.parametrize(
    ("kernel", "pillow"),
    [
        (Kernel.BILINEAR, Image.Resampling.BILINEAR),
        (Kernel.BICUBIC, Image.Resampling.BICUBIC),
        (Kernel.LANCZOS, Image.Resampling.LANCZOS),
    ],
)
@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(3, 4), Fraction(1, 3)], ids=str)
def test_interior_agrees_with_pillow(kernel: Kernel, pillow: Image.Resampling, ratio: Fraction) -> None:
    frame = torch.rand(120, 144, generator=torch.Generator().manual_seed(2))
    size = (int(120 * ratio), int(144 * ratio))
    expected = np.asarray(Image.fromarray(frame.numpy()).resize(size[::-1], pillow))

    got = scaled(frame[None, None], ratio, kernel)[0, 0].numpy()

    edge = 10
    np.testing.assert_allclose(got[edge:-edge, edge:-edge], expected[edge:-edge, edge:-edge], atol=2e-6)


@pytest.mark.parametrize("kernel", list(Kernel))
def test_ratio_one_without_shift_changes_no_bit(kernel: Kernel) -> None:
    frame = torch.rand(1, 2, 9, 7)

    assert torch.equal(scaled(frame, Fraction(1), kernel), frame)


def test_nearest_repeats_samples() -> None:
    frame = torch.rand(1, 1, 5, 6)

    assert torch.equal(
        scaled(frame, Fraction(3), Kernel.NEAREST),
        frame.repeat_interleave(3, -1).repeat_interleave(3, -2),
    )


def test_edges_are_continued_not_darkened() -> None:
    flat = torch.full((1, 1, 8, 8), 0.7)

    torch.testing.assert_close(
        scaled(flat, Fraction(2), Kernel.LANCZOS), torch.full((1, 1, 16, 16), 0.7), atol=1e-6, rtol=0
    )


def test_shrinking_removes_what_the_smaller_grid_cannot_hold() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 1, 64, 64).contiguous()

    shrunk = scaled(stripes, Fraction(1, 4), Kernel.LANCZOS)

    assert float((shrunk[..., 3:-3] - 0.5).abs().max()) < 0.01


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_pixel_does_not_depend_on_where_in_a_tile_it_lies(data: st.DataObject) -> None:
    kernel = data.draw(st.sampled_from(list(Kernel)))
    scale = data.draw(st.sampled_from([1, 2, 3, 4, 5, 8, 17]))
    height, width = data.draw(st.integers(8, 90)), data.draw(st.integers(8, 300))
    top, left = data.draw(st.integers(0, height - 7)), data.draw(st.integers(0, width - 7))
    bottom, right = data.draw(st.integers(top + 7, height)), data.draw(st.integers(left + 7, width))
    frame = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(height * width))
    halo = kernel.radius
    rows = slice(0 if top == 0 else top + halo, height if bottom == height else bottom - halo)
    columns = slice(0 if left == 0 else left + halo, width if right == width else right - halo)

    whole = scaled(frame, Fraction(scale), kernel)
    tile = scaled(frame[..., top:bottom, left:right], Fraction(scale), kernel)

    kept = whole[..., scale * rows.start : scale * rows.stop, scale * columns.start : scale * columns.stop]
    inner = tile[
        ...,
        scale * (rows.start - top) : scale * (rows.stop - top),
        scale * (columns.start - left) : scale * (columns.stop - left),
    ]
    assert torch.equal(kept, inner)


def test_a_ratio_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="positive"):
        AxisMap(Fraction(0))
