"""How a learning rate goes over a stage: a pure function of the images that were seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from sr_core.errors import SpecError


class Course(StrEnum):
    """CONSTANT: as it is. COSINE: half a wave down to `last`. STEPS: times `step` at each milestone."""

    CONSTANT = "constant"
    COSINE = "cosine"
    STEPS = "steps"


@dataclass(frozen=True)
class Schedule:
    """Shares of a stage's learning rate.

    Attributes:
        course: How it goes after the warm-up.
        warm_up_images: Images over which it grows from zero, linearly.
        last: What is left of it at the end of a cosine (SGDR, Loshchilov & Hutter 2017, arXiv:1608.03983,
            without restarts).
        milestones: Shares of the stage, ascending, at which a course of steps goes down.
        step: By what it is multiplied there.
    """

    course: Course = Course.COSINE
    warm_up_images: int = 0
    last: float = 1e-3
    milestones: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
    step: float = 0.5

    def __post_init__(self) -> None:
        if self.warm_up_images < 0:
            raise SpecError(
                "A warm-up cannot be negative",
                where="schedule.warm_up_images",
                got=f"{self.warm_up_images} images",
            )
        if not 0 <= self.last <= 1 or not 0 < self.step <= 1:
            raise SpecError(
                "Shares of the learning rate go from 0 to 1", got=f"last {self.last}, step {self.step}"
            )
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise SpecError(
                "Milestones are shares of the stage, ascending",
                where="schedule.milestones",
                got=str(self.milestones),
                expected="such as (0.5, 0.8)",
            )

    def check_length(self, total: int) -> None:
        """Lets a stage of so many images pass.

        Raises:
            SpecError: It would be over before its warm-up.
        """
        if self.warm_up_images > total:
            raise SpecError(
                "the warm-up is longer than the stage",
                where="schedule.warm_up_images",
                got=f"{self.warm_up_images} images",
                expected=f"{total} at most, the images of the stage",
            )

    def share_at(self, num_images: int, total: int) -> float:
        """What the learning rate is multiplied by after `num_images` of the stage's `total`."""
        if num_images < self.warm_up_images:
            return num_images / self.warm_up_images
        done = (num_images - self.warm_up_images) / max(1, total - self.warm_up_images)
        match self.course:
            case Course.CONSTANT:
                return 1.0
            case Course.COSINE:
                return self.last + (1 - self.last) * (1 + math.cos(math.pi * min(1.0, done))) / 2
            case Course.STEPS:
                share = num_images / total
                return self.step ** sum(milestone <= share for milestone in self.milestones)
