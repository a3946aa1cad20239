"""Training a super-resolution network on HR pictures and LR ones made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cluster.training.data import DataSettings, TrainingData, read_pictures
from cluster.training.job import TrainJob
from cluster.training.tasks.upscaling import MOST_VALIDATION_PX, MakeHr, Upscaling, UpscalingSettings
from sr_core.errors import SpecError
from sr_core.train.crops import Crops, Pictures, middle_part, unit_frames
from sr_core.train.group import Group


@dataclass(frozen=True)
class SuperResolutionSettings(UpscalingSettings):
    """A network that upscales each picture by itself."""

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """See `TaskSettings`."""
        if self.network_facts.num_frames > 1:
            raise SpecError("single pictures do not train such a network", where=self.arch.name)
        super().refuse_misfits(job, num_workers)

    def read(self, data: DataSettings) -> TrainingData:
        """See `TaskSettings`."""
        return read_pictures(data)

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> Upscaling:
        """See `TaskSettings`."""
        return Upscaling(self, job, group, _Stills(self, job.seed, group, training), validation)


@dataclass(frozen=True)
class _Stills:
    """See `Footage`: pictures as they are."""

    settings: SuperResolutionSettings
    seed: int
    group: Group
    pictures: Pictures

    def crops(self, stage: int) -> MakeHr:
        """See `Footage`."""
        crops = Crops(self.pictures, self.settings.hr_crops, self.seed, stage)

        def make(numbers: Sequence[int]) -> Tensor:
            return unit_frames(crops.batch(numbers), self.group.device)

        return make

    def whole(self, number: int, codes: Tensor) -> Tensor:
        """See `Footage`."""
        facts = self.settings.network_facts
        return unit_frames(middle_part(codes, facts.scale * facts.size_multiple, MOST_VALIDATION_PX))
