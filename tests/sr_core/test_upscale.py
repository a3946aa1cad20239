import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.archs.arch import ColorMode, ModelFacts, Network
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.color import (
    ChromaLocation,
    ColorSpace,
    PlaneFormat,
    Planes,
    luma_to_unit,
    planes_to_rgb,
    rgb_to_planes,
)
from sr_core.errors import OutputError, SpecError
from sr_core.kernels import Kernel
from sr_core.model import Model, load_model
from sr_core.resample import AxisMap, resample
from sr_core.upscale import Upscaler
from tests.sr_core.frames import equal, flat, noise

WHOLE = 10_000
ANIME = "realesr-animevideov3.pth"


class Doubler(Network):
    """Nearest x2 in any colour mode, refusing batches of more pixels than it has memory for."""

    def __init__(self, color_mode: ColorMode, memory_px: int = 10**9) -> None:
        super().__init__()
        self.color_mode = color_mode
        self.memory_px = memory_px
        self.shapes: list[tuple[int, ...]] = []

    def set_body_dtype(self, dtype: torch.dtype) -> None:
        pass

    def forward(self, lr_frames: Tensor) -> Tensor:
        self.shapes.append(tuple(lr_frames.shape))
        if lr_frames.shape[0] * lr_frames.shape[2] * lr_frames.shape[3] > self.memory_px:
            raise torch.OutOfMemoryError("no memory left")
        if self.color_mode is not ColorMode.YUV420:
            return F.interpolate(lr_frames, scale_factor=2)
        luma = F.interpolate(F.pixel_shuffle(lr_frames[:, :4], 2), scale_factor=2)
        chroma = F.interpolate(lr_frames[:, 4:], scale_factor=2)
        return torch.cat([F.pixel_unshuffle(luma, 2), chroma], dim=1)


def doubler(color_mode: ColorMode, memory_px: int = 10**9, halo_px: int = 0, multiple: int = 1) -> Model:
    facts = ModelFacts(
        "doubler", 2, halo_px, multiple, (torch.float32,), color_mode, Kernel.NEAREST, is_linear=True
    )
    return Model(Doubler(color_mode, memory_px), facts, "")


def compact(scale: int = 2, num_channels: int = 3) -> Model:
    torch.manual_seed(7)
    config = CompactConfig(num_channels=num_channels, num_feat=32, num_conv=4, scale=scale)
    return Model(COMPACT.build(config).eval(), COMPACT.facts(config), "")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_tiles_and_batches_change_no_bit(precision: str, channels: int) -> None:
    frame = torch.rand(1, channels, 117, 203, generator=torch.Generator().manual_seed(3))
    expected = Upscaler(compact(2, channels), "cpu", precision, WHOLE, 1).run(frame)

    for tile_px, batch_size in itertools.product([24, 32, 64], [1, 3, 8]):
        got = Upscaler(compact(2, channels), "cpu", precision, tile_px, batch_size).run(frame)
        assert torch.equal(got, expected), (tile_px, batch_size)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tiles_of_published_weights_change_no_bit(precision: str, published: Callable[[str], Path]) -> None:
    path = str(published(ANIME))
    frame = torch.rand(1, 3, 150, 290, generator=torch.Generator().manual_seed(4))
    expected = Upscaler(load_model(path), "cpu", precision, WHOLE, 1).run(frame)

    for tile_px, batch_size in ((64, 3), (256, 1)):
        got = Upscaler(load_model(path), "cpu", precision, tile_px, batch_size).run(frame)
        assert torch.equal(got, expected), tile_px


@pytest.mark.parametrize("name", list(Kernel))
@pytest.mark.parametrize("scale", [2, 3])
def test_tiles_of_interpolation_change_no_bit(name: str, scale: int) -> None:
    frame = torch.rand(1, 1, 99, 201, generator=torch.Generator().manual_seed(5))
    expected = Upscaler(load_model(name, scale), "cpu", "fp32", WHOLE, 1).run(frame)

    for tile_px, batch_size in itertools.product([5, 32, 64], [1, 4]):
        assert torch.equal(
            Upscaler(load_model(name, scale), "cpu", "fp32", tile_px, batch_size).run(frame), expected
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_number_of_threads_changes_no_bit(precision: str, threads: Callable[[int], None]) -> None:
    planes = noise(90, 122, PlaneFormat(16))

    outputs = []
    for count in (1, 2):
        threads(count)
        engine = Upscaler(compact(), "cpu", precision, 48, 2)
        outputs.append(engine.upscale(planes, PlaneFormat(16), ColorSpace()))

    assert equal(*outputs)


def muted(planes: Planes) -> Planes:
    """Luma and chroma that are colours between black and white everywhere."""
    luma, *chroma = planes
    return (luma // 2 + 64, *(plane // 8 + 112 for plane in chroma))


def test_planes_equal_those_of_a_plain_forward_pass(published: Callable[[str], Path]) -> None:
    model, plane_format, space = load_model(str(published(ANIME))), PlaneFormat(8, 0, 0), ColorSpace()
    planes = muted(noise(60, 80, plane_format))
    with torch.inference_mode():
        red, green, blue = load_model(str(published(ANIME))).network(
            planes_to_rgb(planes, plane_format, space)
        )[0]
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)

    got = Upscaler(model, "cpu", "fp32", 32, 2).upscale(planes, plane_format, space)

    for plane, want in zip(got, expected, strict=True):
        assert float((plane.float() - want.clamp(0, 255)).abs().max()) < 0.51


@pytest.mark.parametrize(
    "plane_format",
    [
        PlaneFormat(),
        PlaneFormat(10),
        PlaneFormat(8, 1, 0),
        PlaneFormat(12, 0, 0),
        PlaneFormat(8, has_chroma=False),
        PlaneFormat(8, 2, 0),
        PlaneFormat(9, 2, 2, has_alpha=True),
        PlaneFormat(14, 0, 1),
        PlaneFormat(16, 0, 0, is_rgb=True, has_alpha=True),
        PlaneFormat(8, has_chroma=False, has_alpha=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(37, 53), (36, 54), (1, 1)])
@pytest.mark.parametrize("model", [doubler(ColorMode.RGB), doubler(ColorMode.LUMA), load_model("bicubic", 3)])
def test_any_format_and_odd_sizes_come_out_in_the_same_format(
    plane_format: PlaneFormat, size: tuple[int, int], model: Model
) -> None:
    scale = model.facts.scale
    height, width = size[0] * scale, size[1] * scale

    got = Upscaler(model, "cpu", "fp32", 16, 2).upscale(
        noise(*size, plane_format), plane_format, ColorSpace()
    )

    assert [plane.dtype for plane in got] == [plane_format.dtype] * plane_format.num_planes
    assert tuple(tuple(plane.shape) for plane in got) == plane_format.plane_sizes((height, width))


@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
def test_nearest_neighbours_of_444_are_exact_in_every_colour_mode(color_mode: ColorMode) -> None:
    plane_format = PlaneFormat(10, 0, 0)
    planes = noise(20, 26, plane_format)

    got = Upscaler(doubler(color_mode), "cpu", "fp32", 8, 3).upscale(planes, plane_format, ColorSpace())

    for plane, source in zip(got, planes, strict=True):
        widened = source.to(torch.int32).repeat_interleave(2, 0).repeat_interleave(2, 1)
        assert torch.equal(plane.to(torch.int32), widened)


@pytest.mark.parametrize("size", [(20, 26), (21, 27)])
def test_yuv420_models_see_planes_in_reading_order_and_give_them_back(size: tuple[int, int]) -> None:
    planes = noise(*size, PlaneFormat())

    got = Upscaler(doubler(ColorMode.YUV420), "cpu", "fp32", 8, 3).upscale(
        planes, PlaneFormat(), ColorSpace()
    )

    wanted = [plane.repeat_interleave(2, 0).repeat_interleave(2, 1) for plane in planes]
    height, width = PlaneFormat().chroma_size((2 * size[0], 2 * size[1]))
    assert equal(got, (wanted[0], wanted[1][:height, :width], wanted[2][:height, :width]))


@pytest.mark.parametrize(
    "plane_format",
    [PlaneFormat(8, 1, 0), PlaneFormat(8, has_chroma=False), PlaneFormat(8, 0, 0, is_rgb=True)],
    ids=str,
)
def test_yuv420_models_refuse_other_sources(plane_format: PlaneFormat) -> None:
    engine = Upscaler(doubler(ColorMode.YUV420), "cpu", "fp32", 64, 1)

    with pytest.raises(SpecError, match="4:2:0 only"):
        engine.upscale(noise(8, 8, plane_format), plane_format, ColorSpace())


def test_grey_goes_through_an_rgb_model_as_its_luma() -> None:
    grey = PlaneFormat(8, has_chroma=False)
    planes = noise(9, 11, grey)

    got = Upscaler(doubler(ColorMode.RGB), "cpu", "fp32", 64, 1).upscale(planes, grey, ColorSpace())

    assert equal(got, (planes[0].repeat_interleave(2, 0).repeat_interleave(2, 1),))


@pytest.mark.parametrize("color_mode", list(ColorMode))
def test_output_size_is_reached_by_one_resampling_of_the_network_output(color_mode: ColorMode) -> None:
    grey = torch.full((20, 30), 128, dtype=torch.uint8)
    planes = (noise(40, 60, PlaneFormat())[0], grey, grey)
    engine = Upscaler(doubler(color_mode), "cpu", "fp32", WHOLE, 1)

    got = engine.upscale(planes, PlaneFormat(), ColorSpace(), (54, 81))

    assert [tuple(plane.shape) for plane in got] == [(54, 81), (27, 41), (27, 41)]
    doubled = F.interpolate(luma_to_unit(planes[0], PlaneFormat(), ColorSpace()), scale_factor=2)
    axes = AxisMap(Fraction(54, 80)), AxisMap(Fraction(81, 120))
    wanted = (16 + 219 * resample(doubled, (54, 81), Kernel.LANCZOS, *axes)).clamp(0, 255)
    assert float((got[0].float() - wanted[0, 0]).abs().max()) < 0.51


@pytest.mark.parametrize("location", list(ChromaLocation))
@pytest.mark.parametrize("model", [load_model("bicubic", 2), doubler(ColorMode.RGB)], ids=["luma", "rgb"])
def test_an_edge_of_luma_and_colour_stays_one_edge(location: ChromaLocation, model: Model) -> None:
    plane_format, space = PlaneFormat(10), ColorSpace(chroma_location=location)
    slope = torch.linspace(0, 1, 64)
    rgb = torch.stack([slope, slope * 0, 1 - slope])[None, :, None].expand(1, 3, 64, 64)
    lr_frame = rgb_to_planes(rgb, plane_format, space)

    sr_frame = Upscaler(model, "cpu", "fp32", WHOLE, 1).upscale(lr_frame, plane_format, space)

    middle = planes_to_rgb(sr_frame, plane_format, space)[..., 40:-40, 40:-40]
    position = (torch.arange(40, 88) + 0.5) / 2 - 0.5
    wanted = torch.stack([position / 63, position * 0, 1 - position / 63])[None, :, None]
    tolerance = 0.004 if model.facts.name == "bicubic" else 0.012  # nearest makes steps of half a pixel
    torch.testing.assert_close(middle, wanted.expand_as(middle), atol=tolerance, rtol=0)


def test_every_batch_has_one_full_shape() -> None:
    model = doubler(ColorMode.LUMA, halo_px=4, multiple=4)
    frame = torch.rand(1, 1, 61, 75)

    got = Upscaler(model, "cpu", "fp32", 16, 3).run(frame)  # 20 tiles: the last batch has 2

    assert torch.equal(got, F.interpolate(frame, scale_factor=2))
    shapes = model.network.shapes
    assert isinstance(shapes, list)
    assert len(shapes) > 1
    assert len(set(shapes)) == 1


def test_out_of_memory_halves_batch_then_tile_and_loses_no_pixel() -> None:
    frame = torch.rand(1, 1, 256, 256)
    engine = Upscaler(doubler(ColorMode.LUMA, memory_px=64 * 64), "cpu", "fp32", 128, 4)

    got = engine.run(frame)

    assert torch.equal(got, F.interpolate(frame, scale_factor=2))
    assert [line.split(":")[0] for line in engine.shrunk] == [
        "batch 4 -> 2",
        "batch 2 -> 1",
        "tile 128 -> 64",
    ]
    assert (engine.batch_size, engine.tile_px) == (1, 64)


def test_shrinking_starts_from_the_frame_where_tiles_are_larger() -> None:
    engine = Upscaler(doubler(ColorMode.LUMA, memory_px=64 * 64), "cpu", "fp32", WHOLE, 64)

    engine.run(torch.rand(1, 1, 128, 128))

    assert engine.shrunk == ["tile 128 -> 64: out of memory", *engine.shrunk[1:]]
    assert engine.batch_size == 1


def test_out_of_memory_with_the_smallest_tile_is_raised() -> None:
    engine = Upscaler(doubler(ColorMode.LUMA, memory_px=8), "cpu", "fp32", 64, 2)

    with pytest.raises(torch.OutOfMemoryError):
        engine.run(torch.rand(1, 1, 128, 128))


class Touchy(Network):
    """Nearest x2 that answers what lies beyond black and white with noise."""

    def forward(self, lr_frames: Tensor) -> Tensor:
        is_known = (lr_frames >= 0) & (lr_frames <= 1)
        return F.interpolate(torch.where(is_known, lr_frames, -77.0), scale_factor=2)


@pytest.mark.parametrize("color_mode", [ColorMode.RGB, ColorMode.LUMA])
def test_networks_see_nothing_beyond_black_and_white_and_nothing_of_it_is_lost(color_mode: ColorMode) -> None:
    model = Model(Touchy(), ModelFacts("touchy", 2, 0, 1, (torch.float32,), color_mode), "")
    plane_format = PlaneFormat(8, 0, 0)
    codes = ((4, 128, 128), (250, 128, 128), (60, 240, 90), (120, 30, 220))
    for color in codes:
        planes = flat(24, 32, plane_format, *color)

        got = Upscaler(model, "cpu", "fp32", 64, 1).upscale(planes, plane_format, ColorSpace())

        assert [sorted(set(plane.flatten().tolist())) for plane in got] == [[code] for code in color]


def test_interpolation_is_given_all_values_as_they_are() -> None:
    assert load_model("lanczos", 2).facts.is_linear
    assert not compact().facts.is_linear


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_an_error_that_names_the_frame(value: float) -> None:
    model = compact()
    model.network.get_parameter("body.2.bias").data[3] = value

    with pytest.raises(OutputError, match="frame 17"):
        Upscaler(model, "cpu", "fp32", 32, 2).upscale(
            noise(40, 40, PlaneFormat()), PlaneFormat(), ColorSpace(), where="frame 17"
        )


def test_planes_that_contradict_their_format_are_refused() -> None:
    engine = Upscaler(load_model("nearest", 2), "cpu", "fp32", 64, 1)
    planes = noise(8, 8, PlaneFormat())

    for wrong in (
        (),
        planes[:1],
        (planes[0], planes[0], planes[0]),
        tuple(p.to(torch.uint16) for p in planes),
    ):
        with pytest.raises(SpecError, match="contradict"):
            engine.upscale(wrong, PlaneFormat(), ColorSpace())


def test_precisions_that_a_model_lacks_and_sizes_of_zero_are_refused() -> None:
    with pytest.raises(SpecError, match="expected fp32"):
        Upscaler(load_model("lanczos", 2), "cpu", "bf16", 64, 1)
    with pytest.raises(SpecError, match="positive"):
        Upscaler(compact(), "cpu", "fp32", 64, 0)


def test_bf16_stays_close_to_fp32(published: Callable[[str], Path]) -> None:
    path = str(published(ANIME))
    smooth = F.interpolate(
        torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(2)), scale_factor=12
    )
    exact = Upscaler(load_model(path), "cpu", "fp32", WHOLE, 1).run(smooth)

    rough = Upscaler(load_model(path), "cpu", "bf16", WHOLE, 1).run(smooth)

    assert 0 < float((exact - rough).square().mean()) < 10 ** (-45 / 10)
