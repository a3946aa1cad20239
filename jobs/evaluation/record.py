"""The figures of an evaluation, as its JSON says them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.outputs import written


@dataclass(frozen=True)
class ImageFigures:
    """One picture, or one frame of a video; None is what was not measured.

    Attributes:
        name: Of its file, or `frame N`.
        width: Of the truth, cropped to a multiple of the scale; as the height.
        psnr_y: dB of luma without a border of `scale` pixels.
        ssim_y: Of the same.
        psnr_rgb: dB of R'G'B' without that border.
        lpips: Distance of the whole pictures; lower is better.
        consistency: dB between the LR picture and the result, shrunk by bicubic.
        time_s: When the video shows it.
        warping_error: Mean squared difference from the frame before, when the truth's motion is taken out.
    """

    name: str
    width: int
    height: int
    psnr_y: float
    ssim_y: float
    psnr_rgb: float | None = None
    lpips: float | None = None
    consistency: float | None = None
    time_s: float | None = None
    warping_error: float | None = None


@dataclass(frozen=True)
class Environment:
    """Where figures were measured, and how."""

    device: str
    precision: str
    protocol: str
    lpips: str | None
    versions: dict[str, str]


@dataclass(frozen=True)
class Record:
    """One model on one data set; figures are the means of those of the pictures.

    Attributes:
        model: As it was named; `bicubic` for the reference.
        degradation: How LR frames were made; `given` where they were not.
        parameters: Weights that the model has learnt.
        macs: Multiply-adds for an output of 1280x720; None where they cannot be counted.
        seconds_per_megapixel: Of output, median over the pictures.
        warping_error: Of a video; None for still pictures.
        warping_error_of_truth: The same of the true frames: flicker has more, and blur less.
        weights_sha256: Of the model's file.
    """

    model: str
    data: str
    scale: int
    degradation: str
    psnr_y: float
    ssim_y: float
    psnr_rgb: float | None
    lpips: float | None
    consistency: float | None
    parameters: int
    macs: int | None
    seconds_per_megapixel: float
    warping_error: float | None
    warping_error_of_truth: float | None
    weights_sha256: str
    images: tuple[ImageFigures, ...]
    environment: Environment


def write_json(records: list[Record], path: Path) -> None:
    """Writes the records to a file, as a list of objects with the names of their attributes.

    Raises:
        StorageError: It cannot be written.
    """
    text = json.dumps([asdict(record) for record in records], indent=2, allow_nan=False)
    with written(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
