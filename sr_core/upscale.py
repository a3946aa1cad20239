"""The engine: one frame's planes in, upscaled planes out, through any model.

A frame becomes the network's input, is cut into windows, runs in batches of one fixed shape, is stitched and
becomes planes again. On one device the result does not depend on tile or batch, as long as the network's own
operations do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.color import (
    ColorSpace,
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
from sr_core.errors import OutputError, SpecError
from sr_core.kernels import Kernel
from sr_core.model import ColorMode, Model
from sr_core.resample import AxisMap, resample
from sr_core.tiling import Tile, TileGrid

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

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
        where: str = "",
    ) -> Planes:
        """The sr_frame's planes, on the device, in the format of the lr_frame's.

        Args:
            planes: Planes of `plane_format`, on any device.
            plane_format: How they are stored.
            color_space: What their codes mean.
            output_size: (height, width) of the result; the model's scale times the input's if None. What
                differs from that is resampled with the widened Lanczos kernel.
            where: Names the frame in errors.

        Raises:
            OutputError: The network made values that are not finite.
            SpecError: The planes contradict `plane_format`, or the model takes 4:2:0 only.
            torch.OutOfMemoryError: Even the smallest tile does not fit.
        """
        _check_planes(planes, plane_format, where)
        on_device = tuple(plane.to(self.device, non_blocking=True) for plane in planes)
        lr_frame = self._to_network_input(on_device, plane_format, color_space)
        sr_frame = self.run(lr_frame)
        if not math.isfinite(float(sr_frame.sum())):
            raise OutputError(
                "The network made values that are not finite",
                where=where,
                got=f"{self.model.facts.name} on {self.device}",
                next_step="try precision fp32",
            )
        size = output_size or self._scaled(planes[0])
        return self._from_network_output(sr_frame, on_device, plane_format, color_space, size)

    @torch.inference_mode()
    def run(self, lr_frame: Tensor) -> Tensor:
        """The network over a whole frame, in tiles; smaller ones from now on if memory runs out.

        Args:
            lr_frame: (1, C, h, w) float32 on the device, in the model's colour mode.

        Returns:
            (1, C, scale * h, scale * w), float32.

        Raises:
            torch.OutOfMemoryError: Even the smallest tile does not fit.
        """
        while True:
            try:
                return self._run_tiles(lr_frame)
            except torch.OutOfMemoryError:
                num_tiles = len(self._grid(lr_frame).tiles)
                if not self._shrink(num_tiles, max(lr_frame.shape[-2:])):
                    raise
            # Only here, with the error gone, are the tensors of the failed pass free.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _to_network_input(self, planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
        """(1, C, h, w) float32 in the model's colour mode."""
        match self.model.facts.color_mode:
            case ColorMode.RGB:
                return planes_to_rgb(planes, plane_format, color_space)
            case ColorMode.LUMA:
                return luma_to_unit(planes[0], plane_format, color_space)
            case ColorMode.YUV420:
                return self._to_yuv420_input(planes, plane_format, color_space)

    def _to_yuv420_input(self, planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace) -> Tensor:
        if not plane_format.is_420:
            got = f"chroma shifts {plane_format.chroma_w_shift} and {plane_format.chroma_h_shift}"
            raise SpecError(
                "The model takes 4:2:0 only",
                where=self.model.facts.name,
                got=got if plane_format.has_chroma else "grey",
                next_step="choose an rgb or luma model for this source",
            )
        luma = _pad_to_multiple(luma_to_unit(planes[0], plane_format, color_space), 2)
        return torch.cat(
            [F.pixel_unshuffle(luma, 2), chroma_to_unit(planes, plane_format, color_space)], dim=1
        )

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

    def _grid(self, lr_frame: Tensor) -> TileGrid:
        facts = self.model.facts
        height, width = lr_frame.shape[-2:]
        return TileGrid.plan(height, width, self.tile_px, facts.halo_px, facts.size_multiple)

    def _run_tiles(self, lr_frame: Tensor) -> Tensor:
        """(1, C, scale * h, scale * w) from (1, C, h, w)."""
        grid, scale = self._grid(lr_frame), self.model.facts.scale
        padded = _pad_to_multiple(lr_frame, self.model.facts.size_multiple)
        if len(grid.tiles) == 1:
            sr_frame = self.model.network.forward(padded)
        else:
            sr_frame = padded.new_empty(1, padded.shape[1], scale * grid.height, scale * grid.width)
            for tiles in _batches(grid.tiles, self.batch_size):
                windows = self.model.network.forward(torch.cat([_cut(padded, tile) for tile in tiles]))
                for tile, window in zip(tiles, windows, strict=True):
                    _stitch(sr_frame, window, tile, scale)
        return sr_frame[..., : scale * lr_frame.shape[-2], : scale * lr_frame.shape[-1]]

    def _scaled(self, y_plane: Tensor) -> tuple[int, int]:
        return y_plane.shape[0] * self.model.facts.scale, y_plane.shape[1] * self.model.facts.scale

    def _from_network_output(
        self,
        sr_frame: Tensor,
        planes: Planes,
        plane_format: PlaneFormat,
        color_space: ColorSpace,
        size: tuple[int, int],
    ) -> Planes:
        scaled = self._scaled(planes[0])
        match self.model.facts.color_mode:
            case ColorMode.RGB:
                return rgb_to_planes(_resize(sr_frame, scaled, size), plane_format, color_space)
            case ColorMode.LUMA:
                luma = unit_to_luma(_resize(sr_frame, scaled, size)[0, 0], plane_format, color_space)
                return luma, *self._interpolated_chroma(planes, plane_format, color_space, size)
            case ColorMode.YUV420:
                return _from_yuv420_output(sr_frame, plane_format, color_space, scaled, size)

    def _interpolated_chroma(
        self, planes: Planes, plane_format: PlaneFormat, color_space: ColorSpace, size: tuple[int, int]
    ) -> Planes:
        if not plane_format.has_chroma:
            return ()
        chroma = scale_chroma(
            chroma_to_unit(planes, plane_format, color_space),
            size,
            _ratio((planes[0].shape[0], planes[0].shape[1]), size),
            plane_format,
            color_space.chroma_location,
            self.model.facts.chroma_kernel,
        )
        return tuple(unit_to_chroma(plane, plane_format, color_space) for plane in chroma[0])


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
    size = (planes[0].shape[0], planes[0].shape[1])
    sizes = [size, *[plane_format.chroma_size(size)] * (2 if plane_format.has_chroma else 0)]
    got = [(tuple(plane.shape), plane.dtype) for plane in planes]
    expected = [(each, plane_format.dtype) for each in sizes]
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
    return F.pad(frame, (0, right, 0, below), mode="replicate") if below or right else frame


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


def _from_yuv420_output(
    sr_frame: Tensor,
    plane_format: PlaneFormat,
    color_space: ColorSpace,
    scaled: tuple[int, int],
    size: tuple[int, int],
) -> Planes:
    """Planes of `size` from the network's (1, 6, h, w); odd frames came in padded and lose that here."""
    luma = F.pixel_shuffle(sr_frame[:, :4], 2)[..., : scaled[0], : scaled[1]]
    height, width = plane_format.chroma_size(scaled)
    chroma = scale_chroma(
        sr_frame[:, 4:, :height, :width],
        size,
        _ratio(scaled, size),
        plane_format,
        color_space.chroma_location,
        Kernel.LANCZOS,
    )
    return (
        unit_to_luma(_resize(luma, scaled, size)[0, 0], plane_format, color_space),
        *(unit_to_chroma(plane, plane_format, color_space) for plane in chroma[0]),
    )
