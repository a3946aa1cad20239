"""One model on one picture: what it makes of it, and how near that is to the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from jobs.evaluation.data import Picture
from jobs.evaluation.record import ImageFigures
from jobs.evaluation.request import Protocol
from sr_core.color import ColorSpace, PlaneFormat, Planes
from sr_core.errors import SpecError
from sr_core.metrics.consistency import consistency
from sr_core.metrics.lpips import Lpips
from sr_core.metrics.psnr import psnr, studio_luma, without_border
from sr_core.metrics.ssim import ssim
from sr_core.model import ColorMode
from sr_core.shrink import rounded, shrink
from sr_core.upscale import Upscaler

_RGB = PlaneFormat(8, 0, 0, is_rgb=True)
_FULL_RANGE = ColorSpace(full_range=True)


def upscaled(upscaler: Upscaler, picture: Picture, protocol: Protocol) -> Tensor:
    """What the engine makes of a picture, on the CPU, in 8-bit values 0..1.

    Returns:
        (1, 3, H, W) R'G'B', of which the engine sees what it sees of an RGB image in `framelift upscale`; in
        the y protocol (1, 1, H, W) studio luma.

    Raises:
        SpecError: The model does not take the picture, or is not for the y protocol.
        OutputError: It made values that are not finite.
    """
    return _upscaled_luma(upscaler, picture) if protocol is Protocol.Y else _upscaled_rgb(upscaler, picture)


def figures_of(picture: Picture, sr_frame: Tensor, protocol: Protocol, lpips: Lpips | None) -> ImageFigures:
    """How near to the truth is what `upscaled` gave; the y protocol has no more than PSNR and SSIM.

    Raises:
        SpecError: The picture is too small for a measure.
    """
    if protocol is Protocol.Y:
        return _luma_figures(picture, sr_frame)
    return _rgb_figures(picture, sr_frame, lpips)


def truth_of(picture: Picture, protocol: Protocol) -> Tensor:
    """What `upscaled` would give of a picture if it were perfect.

    Returns:
        (1, 3, H, W) R'G'B'; in the y protocol (1, 1, H, W) studio luma.
    """
    return _coded_luma(picture) if protocol is Protocol.Y else picture.hr_frame


def _upscaled_rgb(upscaler: Upscaler, picture: Picture) -> Tensor:
    planes = upscaler.upscale(
        _planes(picture.lr_frame),
        _RGB,
        _FULL_RANGE,
        before=[_planes(frame) for frame in picture.before],
        after=[_planes(frame) for frame in picture.after],
        where=picture.name,
    )
    return torch.stack([plane.cpu() for plane in planes]).float()[None] / 255


def _planes(frame: Tensor) -> Planes:
    red, green, blue = (frame[0] * 255).round().to(torch.uint8)
    return red, green, blue


@torch.inference_mode()
def _upscaled_luma(upscaler: Upscaler, picture: Picture) -> Tensor:
    facts = upscaler.model.facts
    if facts.color_mode is not ColorMode.LUMA or facts.num_frames > 1:
        raise SpecError(
            "the y protocol is for models of luma alone",
            where=facts.name,
            got=f"a model of {facts.color_mode.value}",
            next_step="leave out --protocol y",
        )
    lr_luma = shrink(_coded_luma(picture), facts.scale)
    sr_luma = upscaler.run(((lr_luma * 255 - 16) / 219).to(upscaler.device), picture.name).cpu()
    return rounded((sr_luma * 219 + 16) / 255)


def _coded_luma(picture: Picture) -> Tensor:
    """(1, 1, H, W) luma of 8 bits; of a grey picture its codes as they are, as papers do."""
    return picture.hr_frame[:, :1] if picture.is_grey else rounded(studio_luma(picture.hr_frame))


def _luma_figures(picture: Picture, sr_luma: Tensor) -> ImageFigures:
    hr_luma = _coded_luma(picture)
    psnr_y, ssim_y = _luma_likeness(sr_luma, hr_luma, picture)
    height, width = picture.hr_frame.shape[-2:]
    return ImageFigures(picture.name, width, height, psnr_y, ssim_y, time_s=picture.time_s)


def _rgb_figures(picture: Picture, sr_frame: Tensor, lpips: Lpips | None) -> ImageFigures:
    hr_frame, border_px = picture.hr_frame, _border_px(picture)
    psnr_y, ssim_y = _luma_likeness(studio_luma(sr_frame.double()), studio_luma(hr_frame.double()), picture)
    inner = [without_border(frame.double(), border_px) for frame in (sr_frame, hr_frame)]
    return ImageFigures(
        name=picture.name,
        width=hr_frame.shape[-1],
        height=hr_frame.shape[-2],
        psnr_y=psnr_y,
        ssim_y=ssim_y,
        psnr_rgb=float(psnr(*inner)),
        lpips=float(lpips(sr_frame.to(lpips.mean.device), hr_frame.to(lpips.mean.device))) if lpips else None,
        consistency=float(consistency(sr_frame, picture.lr_frame, border_px)),
        time_s=picture.time_s,
    )


def _luma_likeness(sr_luma: Tensor, hr_luma: Tensor, picture: Picture) -> tuple[float, float]:
    """PSNR and SSIM without a border of `scale` pixels."""
    sr_luma, hr_luma = (without_border(luma.double(), _border_px(picture)) for luma in (sr_luma, hr_luma))
    return float(psnr(sr_luma, hr_luma)), float(ssim(sr_luma, hr_luma))


def _border_px(picture: Picture) -> int:
    """As many as the scale, by the papers' custom."""
    return picture.hr_frame.shape[-1] // picture.lr_frame.shape[-1]
