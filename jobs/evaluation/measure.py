"""Models on whole data sets: the figures of each picture, their means, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean, median

import torch
from torch import Tensor

from jobs.evaluation.data import Data, Picture
from jobs.evaluation.figures import figures_of, upscaled
from jobs.evaluation.record import Environment, ImageFigures, Record
from jobs.evaluation.request import Protocol
from sr_core.metrics.cost import num_macs, num_parameters
from sr_core.metrics.lpips import Lpips
from sr_core.metrics.temporal import optical_flow, visible, warping_error
from sr_core.upscale import Upscaler

# The first picture is upscaled once to warm up and then so often, the others once.
_NUM_FIRST_RUNS = 3


@dataclass(frozen=True)
class Candidate:
    """A model that is evaluated.

    Attributes:
        name: As it was named.
        upscaler: The engine with it.
        parameters: See `Record`, as for the next.
        macs: Counted.
    """

    name: str
    upscaler: Upscaler
    environment: Environment
    parameters: int
    macs: int | None

    @classmethod
    def of(cls, name: str, upscaler: Upscaler, environment: Environment) -> Candidate:
        """A candidate with what its network costs."""
        model = upscaler.model
        try:
            macs = num_macs(model)
        except RuntimeError:  # its code looks at numbers, which are not there when it is only counted
            macs = None
        return cls(name, upscaler, environment, num_parameters(model.network), macs)


@dataclass(frozen=True)
class Motion:
    """How the true picture moves from one frame of a video to the next.

    Attributes:
        flow: From the first frame to the second.
        mask: Where it can be trusted.
    """

    flow: Tensor
    mask: Tensor

    @classmethod
    def between(cls, before: Tensor, after: Tensor) -> Motion:
        """The motion from one true frame to the next."""
        flow = optical_flow(before, after)
        return cls(flow, visible(flow, optical_flow(after, before)))

    def error_of(self, before: Tensor, after: Tensor) -> float:
        """The warping error between what a model made of the two frames, or the true frames themselves."""
        return float(warping_error(before, after, self.flow, self.mask))


@dataclass
class Course:
    """One candidate's way through a data set.

    Attributes:
        figures: Of the pictures so far.
        seconds_per_megapixel: Of every timed run so far.
        sr_frame: What it made of the last picture.
    """

    candidate: Candidate
    protocol: Protocol
    lpips: Lpips | None
    figures: list[ImageFigures] = field(default_factory=list)
    seconds_per_megapixel: list[float] = field(default_factory=list)
    sr_frame: Tensor | None = None

    @torch.inference_mode()
    def add(self, picture: Picture, motion: Motion | None) -> None:
        """Upscales one more picture and measures it."""
        before = self.sr_frame
        self.sr_frame = self._timed(picture)
        moved = motion.error_of(before, self.sr_frame) if motion and before is not None else None
        figures = figures_of(picture, self.sr_frame, self.protocol, self.lpips)
        self.figures.append(replace(figures, warping_error=moved))

    def _timed(self, picture: Picture) -> Tensor:
        upscaler, is_first = self.candidate.upscaler, not self.seconds_per_megapixel
        if is_first:
            upscaled(upscaler, picture, self.protocol)
        for _ in range(_NUM_FIRST_RUNS if is_first else 1):
            start_s = time.perf_counter()
            sr_frame = upscaled(upscaler, picture, self.protocol)
            seconds = time.perf_counter() - start_s
            self.seconds_per_megapixel.append(seconds * 1e6 / (sr_frame.shape[-2] * sr_frame.shape[-1]))
        return sr_frame

    def record(self, data: Data, truth_errors: list[float]) -> Record:
        """The means of all pictures; `truth_errors` are the warping errors of the true frames."""
        candidate, figures = self.candidate, self.figures
        return Record(
            model=candidate.name,
            data=data.name,
            scale=candidate.upscaler.model.facts.scale,
            degradation="given" if data.is_paired else data.degradation.value,
            psnr_y=fmean(each.psnr_y for each in figures),
            ssim_y=fmean(each.ssim_y for each in figures),
            psnr_rgb=_mean(each.psnr_rgb for each in figures),
            lpips=_mean(each.lpips for each in figures),
            consistency=_mean(each.consistency for each in figures),
            parameters=candidate.parameters,
            macs=candidate.macs,
            seconds_per_megapixel=median(self.seconds_per_megapixel),
            warping_error=_mean(each.warping_error for each in figures),
            warping_error_of_truth=_mean(truth_errors),
            weights_sha256=candidate.upscaler.model.weights_sha256,
            images=tuple(figures),
            environment=candidate.environment,
        )


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return fmean(there) if there else None
