"""What a kind of networks promises to the run that trains one: super-resolution is a task, others are too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cluster.images.panel import Cell
from sr_core.card import Card
from sr_core.train.crops import Pictures
from sr_core.train.group import Group
from sr_core.train.measures import Figures, Measure
from sr_core.train.step import Step
from sr_core.train.trainer import Batches

if TYPE_CHECKING:
    from cluster.training.data import DataSettings, TrainingData
    from cluster.training.job import TrainJob


class TaskSettings(Protocol):
    """What is asked of a task: a frozen dataclass that travels to workers."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What networks are compared by on what is set aside; by the first, where nothing else is asked."""

    def recipe(self) -> Mapping[str, object]:
        """By the names of the user's keys, what of this decides the weights: numbers, texts, dataclasses."""

    def facts(self) -> Iterator[tuple[str, str]]:
        """Names and values, in words, of what the network is, for the plan of a run."""

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """Says what cannot be trained by so many workers, whatever the pictures are.

        Raises:
            SpecError: The network is of no use here, or what a stage asks for does not fit or is missing.
            ModelError: Weights that a stage needs cannot be used.
        """

    def build(self) -> nn.Module:
        """The untrained network on the CPU, of torch's own random numbers as they are."""

    def weights_at(self, url: str) -> Mapping[str, Tensor]:
        """Those to start from, by the keys of the network.

        Raises:
            SpecError: They are of another network.
            ModelError: They cannot be used.
            StorageError: Their store refuses or fails.
        """

    def example(self, num_items: int) -> tuple[Tensor, ...]:
        """What the network takes of a batch of so many items, on torch's default device."""

    def read(self, data: DataSettings) -> TrainingData:
        """All that can be trained on.

        Raises:
            SpecError: There is none, or it is more than memory may hold.
            StorageError: A store fails.
        """

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> Task:
        """The task on both parts of the pictures."""


class Task(Protocol):
    """How networks of one kind are trained on pictures and measured. See `MakeStep`, `MakeBatches`."""

    def make_step(self, stage: int, network: nn.Module) -> Step[Any]:
        """The step of the stage of that number, on the network."""

    def make_batches(self, stage: int, first: int) -> Batches[Any]:
        """This worker's share of the stage's batches from that number on."""

    def sheet(self) -> npt.NDArray[np.uint8]:
        """(height, width, 3): what a run sees first, to look at."""

    def baseline(self) -> str | None:
        """How good it is to do without a network, in words: one that is worse has learnt nothing."""

    def measure(self, network: nn.Module) -> Figures:
        """How good `network`, in evaluation mode, is on what was set aside; only the first worker asks."""

    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """What `network`, in evaluation mode, makes, to look at; only the first worker asks."""

    def packed(self, network: nn.Module) -> bytes:
        """A safetensors file with the weights of `network`."""

    def card(self, network: nn.Module) -> Card:
        """What is known of `network` by itself."""
