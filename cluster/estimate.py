"""How long a job will take, from a few frames of one of its videos."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from cluster.frames import upscaled_frames
from cluster.plan import Treatment, VideoPlan
from cluster.report import Estimate
from cluster.segment import Reader
from cluster.video.encode import PartWriter
from sr_core.upscale import Upscaler

T = TypeVar("T")

_MAX_FRAMES = 12
_MAX_SECONDS = 10.0


def calibrate(treatment: Treatment, reader: Reader, upscaler: Upscaler, path: Path) -> dict[str, float]:
    """Seconds per frame by stage, one stage at a time, over the first frames of a video.

    Args:
        treatment: Of the video.
        reader: Of the video.
        upscaler: With the job's model.
        path: For a part, which is removed.
    """
    seconds = dict.fromkeys(("decode", "network", "encode"), 0.0)
    num_frames = 0
    decoded = _timed(islice(reader.frames(None, None), _MAX_FRAMES), seconds, "decode")
    with PartWriter(path, treatment.encode) as writer:
        for frame in decoded:
            start_s = time.perf_counter()
            [(_, sr_planes)] = upscaled_frames([frame], treatment, upscaler)
            seconds["network"] += time.perf_counter() - start_s
            with_encoder_s = time.perf_counter()
            writer.write(sr_planes, frame.pts, frame.props)
            seconds["encode"] += time.perf_counter() - with_encoder_s
            num_frames += 1
            if sum(seconds.values()) > _MAX_SECONDS:
                break
        start_s = time.perf_counter()
        writer.close()
        seconds["encode"] += time.perf_counter() - start_s
    path.unlink(missing_ok=True)
    return {stage: each / num_frames for stage, each in seconds.items()}


def estimate(
    measured: Treatment, seconds: dict[str, float], videos: Sequence[VideoPlan], num_workers: int, kind: str
) -> Estimate:
    """What the measured seconds per frame of one video say of all.

    On GPUs the slowest stage decides, as the others run beside it; on CPUs all stages share the cores.
    """
    frame_s = max(seconds.values()) if kind == "cuda" else sum(seconds.values())
    pixel_s = frame_s / (measured.encode.width * measured.encode.height)
    num_pixels = sum(video.treatment.num_output_pixels for video in videos)
    return Estimate(
        num_workers=num_workers,
        frames_per_second=num_workers / frame_s,
        seconds=num_pixels * pixel_s / num_workers,
        slowest_stage=max(seconds, key=lambda stage: seconds[stage]),
    )


def _timed(items: Iterator[T], seconds: dict[str, float], stage: str) -> Iterator[T]:
    while True:
        start_s = time.perf_counter()
        item = next(items, None)
        seconds[stage] += time.perf_counter() - start_s
        if item is None:
            return
        yield item
