"""The engine: one frame's planes in, upscaled planes out, through any model.

A frame becomes the network's input, is cut into windows, runs in batches of one fixed shape, is stitched and
becomes planes again. On one device the result does not depend on tile or batch, as long as the network's own
operations do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.alpha import fill_hidden, scale_alpha
from sr_core.color import (
    ColorSpace,
    Conversion,
    Matrix,
    PlaneFormat,
    Planes,
    UnitFrame,
    planes_to_units,
    rgb_to_planes,
    rgb_to_yuv,
    scale_chroma,
    unit_to_alpha,
    units_to_rgb,
    yuv_to_planes,
    yuv_to_rgb,
)
from sr_core.errors import OutputError, SpecError, WorkerError
from sr_core.kernels import Kernel
from sr_core.memory import is_out_of_memory
from sr_core.model import ColorMode, Model
from sr_core.resample import AxisMap, resample
from sr_core.tiling import Tile, TileGrid

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

# Of RGB, luma networks get the luma that their papers train and measure on, which has these weights (MATLAB's
# rgb2ycbcr) whatever the primaries are. Interpolation does not mind: it is linear, as the conversion is.
_NETWORK_LUMA = Matrix.BT601

# Below this, out of memory has another reason than the size of a tile.
_SMALLEST_TILE_PX = 32


class Upscaler:
    """Upscales frames with one model on one device.

    It takes the model's network over: moves it to the device and sets its precision.

    Attributes:
        model: The model.
        device: Where it runs.
        tile_px: Side of a tile's core, in pixels of the network's input; above the frame's, no tiles.
        batch_size: Most tiles in one forward pass. A frame's tiles are spread evenly over its batches.
        shrunk: What was reduced when memory ran out, a sentence each; empty if nothing was.
    """

    def __init__(
        self, model: Model, device: torch.device | str, precision: str, tile_px: int, batch_size: int
    ) -> None:
        """Set the engine up.

        Raises:
            SpecError: The precision is unknown or not one of the model's, or a size is not positive.
        """
        self.model = model
        self.device = torch.device(device)
        self.tile_px = tile_px
        self.batch_size = batch_size
        self.shrunk: list[str] = []
        if min(tile_px, batch_size) < 1:
            got = f"tile {tile_px}, batch {batch_size}"
            raise SpecError("Tile and batch must be positive", got=got, expected="integers from 1 upwards")
        model.network.to(self.device).set_body_dtype(_dtype(model, precision))

    @torch.inference_mode()
    def upscale(
        self,
        planes: Planes,
        plane_format: PlaneFormat,
        color_space: ColorSpace,
        output_size: tuple[int, int] | None = None,
        *,
        out_format: PlaneFormat | None = None,
        out_space: ColorSpace | None = None,
        before: Sequence[Planes] = (),
        after: Sequence[Planes] = (),
        where: str = "",
    ) -> Planes:
        """The sr_frame's planes, on the device; floats are rounded to codes once, at the end.

        Opacity is scaled by Lanczos, and colours that it hides entirely are replaced by their surroundings
        before the network sees them; where the result has no alpha, nothing is hidden any more, so that they
        stay as they are.

        Args:
            planes: Planes of `plane_format`, on any device.
            plane_format: How they are stored.
            color_space: What their codes mean.
            output_size: (height, width) of the result; the model's scale times the input's if None. What
                differs from that is resampled with the widened Lanczos kernel.
            out_format: How the result is stored; `plane_format` if None. Depth and subsampling may differ,
                chroma and alpha may go, grey may get chroma of no colour, and RGB may become luma and chroma.
            out_space: What its codes mean; `color_space` if None. Range and siting may differ, and also the
                matrix where one side is RGB or grey.
            before: The frames before it, stored in the same way, for models that see several at once. Those
                that are not there are replaced by the nearest one that is, or by the frame itself.
            after: The frames after it.
            where: Names the frame in errors.

        Raises:
            OutputError: The network made values that are not finite.
            SpecError: The planes contradict `plane_format`, the result cannot be made of the source, or the
                model takes 4:2:0 only.
            MemoryError, torch.OutOfMemoryError, RuntimeError: Even the smallest tile does not fit; see
                `is_out_of_memory`.
        """
        conversion = Conversion(
            plane_format, color_space, out_format or plane_format, out_space or color_space
        )
        for each in (*before, planes, *after):
            _check_planes(each, plane_format, where)
        conversion.refuse_contradictions(where)
        lr_frame = self._to_units(planes, conversion)
        sr_frame = self._bounded_run(self._window(lr_frame, before, after, conversion), where)
        size = output_size or self._scaled(lr_frame.size)
        colors = self._from_network_output(sr_frame, lr_frame, conversion, size)
        return *colors, *_alpha_planes(lr_frame, conversion.out_format, size)

    def _bounded_run(self, lr_frame: Tensor, where: str) -> Tensor:
        """`run` on values between black and white; what lies beyond them is interpolated and added again.

        Video has such values: whiter than white, and colours that no R'G'B' of 0..1 makes. Networks never saw
        any, and answer some with noise.
        """
        facts = self.model.facts
        if facts.is_linear:
            return self.run(lr_frame, where)
        within = _within_range(lr_frame, facts.color_mode)
        sr_frame, beyond = self.run(within, where), lr_frame - within
        if facts.num_frames > 1:
            beyond = beyond[:, facts.frames_before]
        if not bool(beyond.any()):
            return sr_frame
        axis, (height, width) = AxisMap(Fraction(facts.scale)), sr_frame.shape[-2:]
        return sr_frame + resample(beyond, (height, width), Kernel.BILINEAR, axis, axis)

    @torch.inference_mode()
    def run(self, lr_frame: Tensor, where: str = "") -> Tensor:
        """The network over a whole frame, in tiles; smaller ones from now on if memory runs out.

        Args:
            lr_frame: (1, C, h, w) float32 on the device, in the model's colour mode; (1, T, C, h, w) for
                models that see T frames at once.
            where: Names the frame in errors.

        Returns:
            (1, C, scale * h, scale * w), float32.

        Raises:
            OutputError: The network made values that are not finite.
            MemoryError, torch.OutOfMemoryError, RuntimeError: Even the smallest tile does not fit; see
                `is_out_of_memory`.
            WorkerError: The frame does not fit, and the model allows no tiles.
        """
        sr_frame = self._run(lr_frame)
        if not math.isfinite(float(sr_frame.sum())):
            raise OutputError(
                "The network made values that are not finite",
                where=where,
                got=f"{self.model.facts.name} on {self.device}",
                next_step="try precision fp32",
            )
        return sr_frame

    def _run(self, lr_frame: Tensor) -> Tensor:
        while True:
            try:
                return self._run_tiles(lr_frame)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.model.facts.halo_px is None:
                    raise self._too_large(lr_frame, error) from error
                num_tiles = len(self._grid(lr_frame).tiles)
                if not self._shrink(num_tiles, max(lr_frame.shape[-2:])):
                    raise
            # Only here, with the error gone, are the tensors of the failed pass free.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _window(
        self, lr_frame: UnitFrame, before: Sequence[Planes], after: Sequence[Planes], conversion: Conversion
    ) -> Tensor:
        """(1, C, h, w), or (1, T, C, h, w) for models that see T frames at once."""
        facts = self.model.facts
        center = self._to_network_input(lr_frame, conversion)
        if facts.num_frames == 1:
            return center

        def inputs(neighbours: Sequence[Planes]) -> list[Tensor]:
            return [
                self._to_network_input(self._to_units(each, conversion), conversion) for each in neighbours
            ]

        earlier = inputs(before[-facts.frames_before :]) if facts.frames_before else []
        later = inputs(after[: facts.frames_after])
        earlier = [(earlier or [center])[0]] * (facts.frames_before - len(earlier)) + earlier
        later += [(later or [center])[-1]] * (facts.frames_after - len(later))
        return torch.stack([*earlier, center, *later], dim=1)

    def _to_units(self, planes: Planes, conversion: Conversion) -> UnitFrame:
        """The lr_frame in floats, with nothing hidden in it; for luma models, RGB as luma and chroma."""
        source = conversion.source_format
        on_device = tuple(plane.to(self.device, non_blocking=True) for plane in planes)
        lr_frame = planes_to_units(on_device, source, conversion.source_space)
        if conversion.out_format.has_alpha:
            lr_frame = fill_hidden(lr_frame, source)
        if source.is_rgb and self.model.facts.color_mode is ColorMode.LUMA:
            luma, chroma = rgb_to_yuv(lr_frame.colors, _NETWORK_LUMA)
            return UnitFrame(luma, chroma, lr_frame.alpha)
        return lr_frame

    def _to_network_input(self, lr_frame: UnitFrame, conversion: Conversion) -> Tensor:
        """(1, C, h, w) float32 in the model's colour mode."""
        match self.model.facts.color_mode:
            case ColorMode.RGB:
                return units_to_rgb(lr_frame, conversion.source_format, conversion.source_space)
            case ColorMode.LUMA:
                return lr_frame.colors
            case ColorMode.YUV420:
                return self._to_yuv420_input(lr_frame, conversion.source_format)

    def _to_yuv420_input(self, lr_frame: UnitFrame, plane_format: PlaneFormat) -> Tensor:
        if lr_frame.chroma is None or not plane_format.is_420:
            got = f"chroma shifts {plane_format.chroma_w_shift} and {plane_format.chroma_h_shift}"
            raise SpecError(
                "The model takes 4:2:0 only",
                where=self.model.facts.name,
                got="rgb" if plane_format.is_rgb else got if plane_format.has_chroma else "grey",
                next_step="choose an rgb or luma model for this source",
            )
        luma = _pad_to_multiple(lr_frame.colors, 2)
        return torch.cat([F.pixel_unshuffle(luma, 2), lr_frame.chroma], dim=1)

    def _shrink(self, num_tiles: int, frame_px: int) -> bool:
        """Halve the batch or, when it is 1, the tile; False where neither is possible."""
        batch_size, tile_px = min(self.batch_size, num_tiles), min(self.tile_px, frame_px)
        if batch_size > 1:
            self.batch_size = batch_size // 2
            self.shrunk.append(f"batch {batch_size} -> {self.batch_size}: out of memory")
        elif tile_px >= 2 * _SMALLEST_TILE_PX:
            self.tile_px = tile_px // 2
            self.shrunk.append(f"tile {tile_px} -> {self.tile_px}: out of memory")
        else:
            return False
        return True

    def _too_large(self, lr_frame: Tensor, error: Exception) -> WorkerError:
        height, width = lr_frame.shape[-2:]
        return WorkerError(
            "a frame does not fit into memory, and tiles would change what this model makes of it",
            where=f"{self.model.facts.name} on {self.device}",
            got=f"{width}x{height}: {str(error).splitlines()[0]}",
            next_step="choose a model that allows tiles ('framelift models' tells), or a larger machine",
        )

    def _grid(self, lr_frame: Tensor) -> TileGrid:
        facts = self.model.facts
        height, width = lr_frame.shape[-2:]
        tile_px = max(height, width) if facts.halo_px is None else self.tile_px
        return TileGrid.plan(height, width, tile_px, facts.halo_px or 0, facts.size_multiple)

    def _run_tiles(self, lr_frame: Tensor) -> Tensor:
        """(1, C, scale * h, scale * w) from (1, C, h, w) or (1, T, C, h, w)."""
        grid, scale = self._grid(lr_frame), self.model.facts.scale
        padded = _pad_to_multiple(lr_frame, self.model.facts.size_multiple)
        if len(grid.tiles) == 1:
            sr_frame = self.model.network.forward(padded)
        else:
            sr_frame = padded.new_empty(1, padded.shape[-3], scale * grid.height, scale * grid.width)
            for tiles in _batches(grid.tiles, self.batch_size):
                windows = self.model.network.forward(torch.cat([_cut(padded, tile) for tile in tiles]))
                for tile, window in zip(tiles, windows, strict=True):
                    _stitch(sr_frame, window, tile, scale)
        return sr_frame[..., : scale * lr_frame.shape[-2], : scale * lr_frame.shape[-1]]

    def _scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] * self.model.facts.scale, size[1] * self.model.facts.scale

    def _from_network_output(
        self, sr_frame: Tensor, lr_frame: UnitFrame, conversion: Conversion, size: tuple[int, int]
    ) -> Planes:
        """Planes of `size` without alpha."""
        scaled = self._scaled(lr_frame.size)
        match self.model.facts.color_mode:
            case ColorMode.RGB:
                return _from_rgb_output(_resize(sr_frame, scaled, size), conversion)
            case ColorMode.LUMA if conversion.source_format.is_rgb:
                rgb = self._rgb_of_luma_output(sr_frame, lr_frame)
                return _from_rgb_output(_resize(rgb, scaled, size), conversion)
            case ColorMode.LUMA:
                luma = _resize(sr_frame, scaled, size)
                return self._from_luma_output(luma, lr_frame, conversion)
            case ColorMode.YUV420:
                return _from_yuv420_output(sr_frame, conversion, scaled, size)

    def _rgb_of_luma_output(self, luma: Tensor, lr_frame: UnitFrame) -> Tensor:
        """(1, 3, H, W) R'G'B' from the network's luma and the chroma that `_to_units` made of RGB."""
        assert lr_frame.chroma is not None
        axis = AxisMap(Fraction(self.model.facts.scale))
        size = (luma.shape[-2], luma.shape[-1])
        chroma = resample(lr_frame.chroma, size, self.model.facts.chroma_kernel, axis, axis)
        return yuv_to_rgb(luma, chroma, _NETWORK_LUMA)

    def _from_luma_output(self, luma: Tensor, lr_frame: UnitFrame, conversion: Conversion) -> Planes:
        """Planes of luma's size; chroma is interpolated straight to it."""
        made, space = conversion.out_format, conversion.out_space
        if lr_frame.chroma is None or not made.has_chroma:
            return yuv_to_planes(luma, None, made, space)
        size = (luma.shape[-2], luma.shape[-1])
        chroma = scale_chroma(
            lr_frame.chroma,
            size,
            _ratio(lr_frame.size, size),
            conversion.source_format,
            conversion.source_space.chroma_location,
            self.model.facts.chroma_kernel,
            out_format=made,
            out_location=space.chroma_location,
        )
        return yuv_to_planes(luma, chroma, made, space)


def _dtype(model: Model, precision: str) -> torch.dtype:
    names = [name for name, dtype in PRECISIONS.items() if dtype in model.facts.dtypes]
    if precision not in names:
        raise SpecError(
            "The model does not run in this precision",
            where=model.facts.name,
            got=precision,
            expected=", ".join(names),
        )
    return PRECISIONS[precision]


def _check_planes(planes: Planes, plane_format: PlaneFormat, where: str) -> None:
    got = [(tuple(plane.shape), plane.dtype) for plane in planes]
    height, width = planes[0].shape if planes and planes[0].dim() == 2 else (0, 0)
    expected = [(each, plane_format.dtype) for each in plane_format.plane_sizes((height, width))]
    if got != expected:
        raise SpecError("Planes contradict their format", where=where, got=str(got), expected=str(expected))


def _batches(tiles: tuple[Tile, ...], batch_size: int) -> Iterator[list[Tile]]:
    """Batches of one size, as even as possible; the last repeats its last tile to be full."""
    num_batches = -(-len(tiles) // batch_size)
    size = -(-len(tiles) // num_batches)
    for start in range(0, len(tiles), size):
        batch = list(tiles[start : start + size])
        yield batch + [batch[-1]] * (size - len(batch))


def _pad_to_multiple(frame: Tensor, multiple: int) -> Tensor:
    below, right = -frame.shape[-2] % multiple, -frame.shape[-1] % multiple
    if not below and not right:
        return frame
    images = F.pad(frame.flatten(0, -4), (0, right, 0, below), mode="replicate")
    return images.view(*frame.shape[:-2], *images.shape[-2:])


def _within_range(frame: Tensor, mode: ColorMode) -> Tensor:
    """Values from black to white, and chroma from -0.5 to 0.5; (…, C, h, w)."""
    if mode is not ColorMode.YUV420:
        return frame.clamp(0.0, 1.0)
    return torch.cat([frame[..., :4, :, :].clamp(0.0, 1.0), frame[..., 4:, :, :].clamp(-0.5, 0.5)], dim=-3)


def _cut(frame: Tensor, tile: Tile) -> Tensor:
    return frame[..., tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]


def _stitch(sr_frame: Tensor, window: Tensor, tile: Tile, scale: int) -> None:
    """Copy the core of a window (C, H, W) to its place in the frame."""
    top, bottom = scale * tile.rows.core_start, scale * tile.rows.core_stop
    left, right = scale * tile.columns.core_start, scale * tile.columns.core_stop
    above, before = scale * tile.rows.start, scale * tile.columns.start
    core = window[:, top - above : bottom - above, left - before : right - before]
    sr_frame[0, :, top:bottom, left:right] = core


def _ratio(before: tuple[int, int], after: tuple[int, int]) -> tuple[Fraction, Fraction]:
    return Fraction(after[0], before[0]), Fraction(after[1], before[1])


def _resize(frame: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    rows, columns = _ratio(before, after)
    return resample(frame, after, Kernel.LANCZOS, AxisMap(rows), AxisMap(columns))


def _alpha_planes(lr_frame: UnitFrame, out_format: PlaneFormat, size: tuple[int, int]) -> Planes:
    if lr_frame.alpha is None or not out_format.has_alpha:
        return ()
    return (unit_to_alpha(scale_alpha(lr_frame.alpha, size)[0, 0], out_format),)


def _from_rgb_output(rgb: Tensor, conversion: Conversion) -> Planes:
    """Planes from (1, 3, H, W) R'G'B'; grey stays without colour, also where the network gave it some."""
    space = replace(conversion.out_space, matrix=conversion.matrix)
    if conversion.source_format.has_chroma:
        return rgb_to_planes(rgb, conversion.out_format, space)
    luma, _ = rgb_to_yuv(rgb, space.matrix)
    return yuv_to_planes(luma, None, conversion.out_format, space)


def _from_yuv420_output(
    sr_frame: Tensor, conversion: Conversion, scaled: tuple[int, int], size: tuple[int, int]
) -> Planes:
    """Planes of `size` from the network's (1, 6, h, w); odd frames came in padded and lose that here."""
    source, made, space = conversion.source_format, conversion.out_format, conversion.out_space
    luma = _resize(F.pixel_shuffle(sr_frame[:, :4], 2)[..., : scaled[0], : scaled[1]], scaled, size)
    if not made.has_chroma:
        return yuv_to_planes(luma, None, made, space)
    height, width = source.chroma_size(scaled)
    chroma = scale_chroma(
        sr_frame[:, 4:, :height, :width],
        size,
        _ratio(scaled, size),
        source,
        conversion.source_space.chroma_location,
        Kernel.LANCZOS,
        out_format=made,
        out_location=space.chroma_location,
    )
    return yuv_to_planes(luma, chroma, made, space)
