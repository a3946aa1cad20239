"""Plans of real clips."""

from __future__ import annotations

from pathlib import Path

from cluster.job import Job, ModelRef
from cluster.plan import (
    DeviceClass,
    FixedSettings,
    Input,
    JobPlan,
    SourceRef,
    Treatment,
    VideoPlan,
)
from cluster.plan_video import plan_video
from cluster.storage import LocalStorage
from cluster.video.probe import probe
from sr_core.model import load_model

FIXED = FixedSettings(DeviceClass("cpu", "test", False, {}), "fp32", 256, 1, 2, 2)


def video_plan(clip: Path, job: Job, output_name: str = "out.mp4") -> VideoPlan:
    """The plan of one clip on its own."""
    storage = LocalStorage(clip.parent)
    info = storage.head(clip.name)
    assert info is not None
    source = SourceRef(storage.url, clip.name, info.size_bytes, info.version)
    with clip.open("rb") as file:
        found, timeline = probe(file, clip.name)
    scale = load_model(job.model.path).facts.scale if job.model.path else None
    return plan_video(JobPlan(job, FIXED), Input(source, output_name), found, timeline, scale)


def treatment_of(clip: Path, weights: str | None = None) -> Treatment:
    """What is done with a clip by a model of weights, or by Lanczos."""
    model = ModelRef("weights", weights, "?") if weights else ModelRef("lanczos")
    return video_plan(clip, Job(model)).treatment
