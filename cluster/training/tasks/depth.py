"""Training a guided network: on depth maps shrunk by its scale, with images of the same views beside them.

LR depth is dense and without noise, as networks of `sr_core.guided` take it: zero is a depth as any, and no
pixel is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cluster.images.panel import Cell
from cluster.places import place_of
from cluster.training.data import DataSettings, TrainingData
from cluster.training.depth_maps import guides_and_depth, read_depth_pairs
from cluster.training.job import PixelStage, TrainJob
from cluster.training.tasks.families import start_weights
from sr_core.card import Card, Purpose, card_for
from sr_core.errors import SpecError
from sr_core.guided import GUIDED, GuidedConfig, bicubic_depth, guided_filter
from sr_core.metrics.psnr import psnr
from sr_core.train.crops import Ahead, Crops, CropSettings, Pictures, batch_numbers, middle_part
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.degradations.sheet import sheet
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.measures import Figures, Measure, in_words
from sr_core.train.step import Batch, PixelStep, Step
from sr_core.train.trainer import Batches
from sr_core.weights import pack_weights

_LOADER_THREADS = 2
_AHEAD_BATCHES = 8
_PEAK = 65_535

# Larger pictures are measured in their middle: networks take these in one piece.
_MOST_VALIDATION_PX = 1024

_MOST_SHOWN = 4
_SHOWN_PX = 288


@dataclass(frozen=True)
class DepthSettings:
    """The guided network, and where depth maps lie.

    Attributes:
        config: The network's hyper-parameters.
        depth_sources: Folders of depth maps, in the order of the sources of images; see
            `cluster.training.depth_maps`.
        lr_crop_px: Side of the crops of LR depth.
    """

    config: GuidedConfig
    depth_sources: tuple[str, ...]
    lr_crop_px: int = 48

    def __post_init__(self) -> None:
        if self.lr_crop_px < 1:
            raise SpecError(
                "crops must have pixels", where="crops.lr_px", got=str(self.lr_crop_px), expected="1 or more"
            )

    @property
    def measures(self) -> tuple[Measure, ...]:
        """See `TaskSettings`."""
        return (Measure.PSNR, Measure.MAE)

    def recipe(self) -> Mapping[str, object]:
        """See `TaskSettings`."""
        return {"arch": GUIDED.name, "network": self.config, "crops.lr_px": self.lr_crop_px}

    def facts(self) -> Iterator[tuple[str, str]]:
        """See `TaskSettings`."""
        yield "network", f"{GUIDED.name}, scale {self.config.scale}"
        yield "depth maps", ", ".join(self.depth_sources)

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """See `TaskSettings`."""
        for number in range(len(job.stages)):
            if job.stage_of(number, PixelStage).teacher is not None:
                raise SpecError(
                    "guided networks have no teachers",
                    where=f"stages.{number}.teacher",
                    next_step="leave it out",
                )
        for source in self.depth_sources:
            if place_of(source).holds(place_of(job.output_url)):
                raise SpecError(
                    "the output lies among the depth maps",
                    where="output",
                    got=job.output_url,
                    expected=f"a place outside {source}",
                )

    def build(self) -> nn.Module:
        """See `TaskSettings`."""
        return GUIDED.build(self.config)

    def weights_at(self, url: str) -> Mapping[str, Tensor]:
        """See `TaskSettings`."""
        return start_weights(GUIDED, self.config, url)

    def example(self, num_items: int) -> tuple[Tensor, ...]:
        """See `TaskSettings`."""
        side_px = self.lr_crop_px * self.config.scale
        depth = torch.empty(num_items, 1, self.lr_crop_px, self.lr_crop_px)
        return depth, torch.empty(num_items, 3, side_px, side_px)

    def read(self, data: DataSettings) -> TrainingData:
        """See `TaskSettings`."""
        return read_depth_pairs(data, self.depth_sources)

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> Depth:
        """See `TaskSettings`."""
        return Depth(self, job, group, training, validation)


@dataclass(frozen=True)
class _View:
    """Depth of both sizes and the image, (B, C, h, w) float32 0..1."""

    lr_depth: Tensor
    guide: Tensor
    hr_depth: Tensor

    @staticmethod
    def of(codes: Tensor, scale: int, device: torch.device) -> _View:
        """That of images and their depth, (B, 5, H, W) uint8 as `cluster.training.depth_maps` has them."""
        guide, hr_depth = guides_and_depth(codes, device)
        lr_depth = Bicubic().shrunk(hr_depth, scale).clamp(0, 1)
        return _View((lr_depth * _PEAK).round() / _PEAK, guide, hr_depth)


class Depth:
    """The steps, batches and figures of a job that trains a guided network."""

    def __init__(
        self, settings: DepthSettings, job: TrainJob, group: Group, training: Pictures, validation: Pictures
    ) -> None:
        """Takes the two parts of the pictures."""
        self._settings = settings
        self._job = job
        self._group = group
        self._training = training
        self._validation = validation
        self._scale = settings.config.scale

    def make_step(self, stage: int, network: nn.Module) -> Step[Batch]:
        """See `Task`."""
        asked = self._job.stage_of(stage, PixelStage)
        objective = WeightedLoss(pixel_terms(dict(asked.losses)))
        return PixelStep(network, objective, asked.learning_rate, self._group, self._job.numerics)

    def make_batches(self, stage: int, first: int) -> Batches[Batch]:
        """See `Task`."""
        crops = self._crops(stage)

        def make(number: int) -> Batch:
            view = self._view(crops, stage, number)
            return Batch(number, (view.lr_depth, view.guide), view.hr_depth)

        return Ahead(make, first, _LOADER_THREADS, _AHEAD_BATCHES)

    def sheet(self) -> npt.NDArray[np.uint8]:
        """See `Task`: in each row image and LR depth, then HR and LR depth."""
        view = self._view(self._crops(0), 0, 0)
        shown = torch.stack([view.guide, view.hr_depth.expand(-1, 3, -1, -1)], 1).flatten(0, 1)
        lr_depth = view.lr_depth.expand(-1, 3, -1, -1).repeat_interleave(2, 0)
        return sheet(shown, lr_depth, num_across=2).permute(1, 2, 0).numpy()

    def _crops(self, stage: int) -> Crops:
        settings = CropSettings(self._settings.lr_crop_px * self._scale)
        return Crops(self._training, settings, self._job.seed, stage)

    def _view(self, crops: Crops, stage: int, number: int) -> _View:
        """This worker's share of a batch."""
        job, group = self._job, self._group
        own_size = job.stages[stage].stage.batch_size // group.size
        items = batch_numbers(number, own_size, group.rank, group.size)
        return _View.of(crops.batch(items), self._scale, group.device)

    def _held_out(self) -> Iterator[_View]:
        for codes in self._validation:
            middle = middle_part(codes, self._scale, _MOST_VALIDATION_PX)
            yield _View.of(middle[None], self._scale, self._group.device)

    def baseline(self) -> str:
        """See `Task`: of what needs no training."""
        bicubic, guided = self.measure(_Bicubic(self._scale)), self.measure(_GuidedFilter())
        return f"bicubic interpolation: {in_words(bicubic)}; the guided filter: {in_words(guided)}"

    @torch.inference_mode()
    def measure(self, network: nn.Module) -> Figures:
        """See `Task`: with white, or 65535 in 16 bits, as 1."""
        decibels, errors = [], []
        for view in self._held_out():
            made = network(view.lr_depth, view.guide).clamp(0, 1).double()
            decibels.append(float(psnr(made, view.hr_depth.double())))
            errors.append(float((made - view.hr_depth).abs().mean()))
        return {Measure.PSNR: fmean(decibels), Measure.MAE: fmean(errors)}

    @torch.inference_mode()
    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """See `Task`: where bicubic is furthest from the truth, and the truth with all its contrast."""
        return [_row(network, view) for view, _ in zip(self._held_out(), range(_MOST_SHOWN), strict=False)]

    def packed(self, network: nn.Module) -> bytes:
        """See `Task`."""
        return pack_weights(network, GUIDED, self._settings.config)

    def card(self, network: nn.Module) -> Card:
        """See `Task`."""
        return card_for(Purpose.GUIDED, network, GUIDED, self._settings.config, scale=self._scale)


class _Bicubic(nn.Module):
    """Does without a network, and without the image."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, depth: Tensor, guide: Tensor) -> Tensor:
        """See `bicubic_depth`."""
        return bicubic_depth(depth, self.scale)


class _GuidedFilter(nn.Module):
    """Does without a network."""

    def forward(self, depth: Tensor, guide: Tensor) -> Tensor:
        """See `guided_filter`."""
        return guided_filter(depth, guide)


def _row(network: nn.Module, view: _View) -> list[Cell]:
    scale = view.guide.shape[-1] // view.lr_depth.shape[-1]
    bicubic = bicubic_depth(view.lr_depth, scale)
    window = _worst(bicubic - view.hr_depth)
    truth = view.hr_depth[window]
    made = {
        "bicubic": bicubic[window],
        "guided filter": guided_filter(view.lr_depth, view.guide)[window],
        "SR": network(view.lr_depth, view.guide)[window],
    }
    low, high = float(truth.min()), float(truth.max())

    def codes(depth: Tensor) -> npt.NDArray[np.uint8]:
        return _codes((depth - low) / max(high - low, 1 / _PEAK))

    cells = [
        Cell(name, f"{float(psnr(each, truth)):.2f} dB here", codes(each)) for name, each in made.items()
    ]
    return [Cell("image", "", _codes(view.guide[window])), *cells, Cell("HR", "", codes(truth))]


def _worst(errors: Tensor) -> tuple[slice, ...]:
    """Where errors (1, 1, H, W) are largest, as slices of all four axes."""
    size = [min(_SHOWN_PX, side) for side in errors.shape[-2:]]
    step = max(1, min(size) // 4)
    means = F.avg_pool2d(errors.square(), size, step)
    down, across = divmod(int(means.argmax()), means.shape[-1])
    rows, columns = (
        slice(at * step, at * step + side) for at, side in zip((down, across), size, strict=True)
    )
    return slice(None), slice(None), rows, columns


def _codes(frames: Tensor) -> npt.NDArray[np.uint8]:
    """(height, width, 3) of (1, C, height, width)."""
    rgb = (frames[0].clamp(0, 1) * 255).round().byte().expand(3, -1, -1)
    codes: npt.NDArray[np.uint8] = rgb.permute(1, 2, 0).cpu().numpy()
    return codes
