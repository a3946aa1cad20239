"""Training a network that sees several frames at once, on short clips whose middle frame is the truth.

Such networks here see a window of frames and carry no state from one to the next: so a clip is as long as the
window, and any frame of a video may be its middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from cluster.training.data import DataSettings, TrainingData, read_pictures
from cluster.training.job import TrainJob
from cluster.training.tasks.upscaling import MOST_VALIDATION_PX, MakeHr, Upscaling, UpscalingSettings
from sr_core.errors import SpecError
from sr_core.train.clips import Clips, still_path, whole_clip
from sr_core.train.crops import Pictures
from sr_core.train.group import Group
from sr_core.train.motion import MotionSettings


@dataclass(frozen=True)
class VideoSettings(UpscalingSettings):
    """A network that upscales the middle one of several frames.

    All frames of a clip are degraded alike but for their noise, and recoded together. What videos show moves
    by itself, and over images moves a camera.

    Attributes:
        motion: Of the camera.
    """

    motion: MotionSettings = field(default_factory=MotionSettings)

    def recipe(self) -> Mapping[str, object]:
        """See `TaskSettings`."""
        return {**super().recipe(), "motion": self.motion}

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """See `TaskSettings`."""
        facts = self.network_facts
        if facts.num_frames == 1 or facts.frames_before != facts.frames_after:
            raise SpecError(
                "clips do not train such a network",
                where=self.arch.name,
                got=f"{facts.frames_before} frames before, and {facts.frames_after} after, the one upscaled",
                expected="one or more, and as many before as after",
            )
        super().refuse_misfits(job, num_workers)

    def read(self, data: DataSettings) -> TrainingData:
        """See `TaskSettings`."""
        return read_pictures(data, self.network_facts.num_frames)

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> Upscaling:
        """See `TaskSettings`."""
        return Upscaling(self, job, group, _Clips(self, job.seed, group, training), validation)


@dataclass(frozen=True)
class _Clips:
    """See `Footage`: clips of videos, and those filmed over stills."""

    settings: VideoSettings
    seed: int
    group: Group
    pictures: Pictures

    def crops(self, stage: int) -> MakeHr:
        """See `Footage`."""
        settings, num_frames = self.settings, self.settings.network_facts.num_frames
        clips = Clips(self.pictures, settings.hr_crops, settings.motion, num_frames, self.seed, stage)

        def make(numbers: Sequence[int]) -> Tensor:
            return clips.batch(numbers, self.group.device)

        return make

    def whole(self, number: int, codes: Tensor) -> Tensor:
        """See `Footage`: over a still, the camera moves the same way in every run of a seed."""
        facts = self.settings.network_facts
        path = still_path(self.settings.motion, facts.num_frames, self.seed, "validation", number)
        multiple, least_px = facts.scale * facts.size_multiple, self.settings.lr_crop_px * facts.scale
        return whole_clip(codes, path, multiple, least_px, MOST_VALIDATION_PX)
