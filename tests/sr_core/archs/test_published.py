"""Whether published weights reach the figures in `tests/published.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import pytest

from jobs.evaluation.data import Picture, open_data
from jobs.evaluation.figures import figures_of, upscaled
from jobs.evaluation.request import Protocol
from sr_core.kernels import Kernel
from sr_core.model import load_model
from sr_core.shrink import Degradation
from sr_core.upscale import Upscaler

TABLE = Path(__file__).parents[2] / "published.json"
EVAL = Path(__file__).parents[3].parent / "shared" / "data" / "eval"

# Networks that take more than ten seconds for Set5 on two cores.
SLOW_WEIGHTS = ("IMDN_x2.pth", "RLFN_x2.pth", "realesr-general-x4v3_from_ncnn_fp16.pth")


@dataclass(frozen=True)
class Figure:
    """A row of the table; None is what its source does not say."""

    weights: str
    scale: int
    data: str
    protocol: str
    psnr_y: float
    tolerance: float
    source: str
    ssim_y: float | None = None
    ssim_tolerance: float = 0.0

    @property
    def is_slow(self) -> bool:
        return self.data != "Set5" or self.weights in SLOW_WEIGHTS


FIGURES = [Figure(**row) for row in json.loads(TABLE.read_text())["figures"]]
CASES = [
    pytest.param(
        figure,
        id=f"{figure.weights}-x{figure.scale}-{figure.data}-{figure.protocol}",
        marks=[pytest.mark.slow] if figure.is_slow else [],
    )
    for figure in FIGURES
]


@lru_cache(maxsize=4)
def pictures(data: str, scale: int) -> tuple[Picture, ...]:
    return tuple(open_data(str(EVAL / data), scale, Degradation.BICUBIC, None).pictures())


@pytest.mark.parametrize("figure", CASES)
def test_published_weights_reach_their_figure(figure: Figure, published: Callable[[str], Path]) -> None:
    if not (EVAL / figure.data).is_dir():
        pytest.skip(f"needs {figure.data}")
    is_named = figure.weights in set(Kernel)
    model = load_model(figure.weights if is_named else str(published(figure.weights)), figure.scale)
    upscaler, protocol = Upscaler(model, "cpu", "fp32", 256, 1), Protocol(figure.protocol)

    figures = [
        figures_of(picture, upscaled(upscaler, picture, protocol), protocol, None)
        for picture in pictures(figure.data, figure.scale)
    ]

    assert fmean(each.psnr_y for each in figures) == pytest.approx(figure.psnr_y, abs=figure.tolerance)
    if figure.ssim_y is not None:
        ssim_y = fmean(each.ssim_y for each in figures)
        assert ssim_y == pytest.approx(figure.ssim_y, abs=figure.ssim_tolerance)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("protocol", [*Protocol])
def test_bicubic_has_the_reference_figure_of_every_picture(protocol: Protocol, scale: int) -> None:
    path = EVAL / "bicubic_reference.json"
    if not path.exists():
        pytest.skip("needs the reference figures")
    expected = json.loads(path.read_text())["Set5"][f"x{scale}"][f"per_image_{protocol.value}"]
    upscaler = Upscaler(load_model("bicubic", scale), "cpu", "fp32", 256, 1)

    found = {
        picture.name: figures_of(picture, upscaled(upscaler, picture, protocol), protocol, None).psnr_y
        for picture in pictures("Set5", scale)
    }

    assert found == pytest.approx(expected, abs=0.001)
