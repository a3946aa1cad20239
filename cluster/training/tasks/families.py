"""What tasks have in common whose networks are a `sr_core.family.Family` and see pictures as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from cluster.training.data import DataSettings, TrainingData, read_pictures
from cluster.training.job import TrainJob
from cluster.training.tasks.squares import SquareSource, grid
from cluster.weights import opened_weights
from sr_core.card import Card, Purpose, card_for
from sr_core.errors import SpecError
from sr_core.family import Family, build_network
from sr_core.train.crops import Pictures
from sr_core.train.group import Group
from sr_core.train.squares import SquareSettings
from sr_core.weights import pack_weights, read_weights


def start_weights(family: Family[nn.Module], config: Any, url: str) -> Mapping[str, Tensor]:
    """Those at a path or S3 URL, which are of the network of a family with these hyper-parameters.

    Raises:
        SpecError: They are of another one.
        ModelError: They cannot be used.
        StorageError: Their store refuses or fails.
    """
    with opened_weights(url) as path:
        tensors, _ = read_weights(Path(path))
    weights = build_network(tensors, (family,), url).state_dict()
    found = family.config_of(weights)
    if found != config:
        raise SpecError(
            "the weights to start from are of another network",
            where=url,
            got=str(found),
            expected=str(config),
            next_step="give the network the same hyper-parameters",
        )
    return weights


@dataclass(frozen=True)
class FamilySettings(ABC):
    """A network of a family, and the squares of pictures that it learns from.

    Attributes:
        family: The network's.
        purpose: What it is for.
        config: Its hyper-parameters, of the family's own type.
        squares: How squares are drawn.
    """

    family: ClassVar[Family[nn.Module]]
    purpose: ClassVar[Purpose]

    config: Any
    squares: SquareSettings = field(default_factory=SquareSettings)

    @property
    @abstractmethod
    def side_px(self) -> int:
        """Of the squares that the network sees."""

    def recipe(self) -> Mapping[str, object]:
        """See `TaskSettings`."""
        return {"arch": self.family.name, "network": self.config, "squares": self.squares}

    def build(self) -> nn.Module:
        """See `TaskSettings`."""
        return self.family.build(self.config)

    def weights_at(self, url: str) -> Mapping[str, Tensor]:
        """See `TaskSettings`."""
        return start_weights(self.family, self.config, url)

    @abstractmethod
    def example(self, num_items: int) -> tuple[Tensor, ...]:
        """See `TaskSettings`."""

    def read(self, data: DataSettings) -> TrainingData:
        """See `TaskSettings`."""
        return read_pictures(data)

    def source(self, job: TrainJob, group: Group, pictures: Pictures) -> SquareSource:
        """Squares of some of the job's pictures, in the network's size and channels."""
        return SquareSource(pictures, self.side_px, self.config.num_channels, self.squares, job, group)

    def refuse_other_channels(self) -> None:
        """Refuses a network that sees neither grey nor R'G'B'.

        Raises:
            SpecError: It does not.
        """
        if self.config.num_channels not in (1, 3):
            raise SpecError(
                "pictures have no such channels",
                where="network.num_channels",
                got=str(self.config.num_channels),
                expected="1 for grey, or 3",
            )

    @property
    def told_images(self) -> str:
        """What the network makes or sees, in words."""
        kind = "grey" if self.config.num_channels == 1 else "coloured"
        return f"{kind} pictures of {self.side_px}x{self.side_px}"


class FamilyTask:
    """What such tasks do alike.

    Attributes:
        job: What is asked for.
        training: Squares to train on.
        held_out: Squares of what was set aside.
    """

    def __init__(
        self, settings: FamilySettings, job: TrainJob, group: Group, training: Pictures, validation: Pictures
    ) -> None:
        """Takes both parts of the pictures."""
        self.job = job
        self.training, self.held_out = (settings.source(job, group, each) for each in (training, validation))
        self._settings = settings

    def sheet(self) -> npt.NDArray[np.uint8]:
        """See `Task`: the squares of the first batch."""
        return grid(self.training.seen(self.training.squares(0).batch(self.training.items(0, 0))))

    def card(self, network: nn.Module) -> Card:
        """See `Task`."""
        settings = self._settings
        return card_for(settings.purpose, network, settings.family, settings.config)

    def packed(self, network: nn.Module) -> bytes:
        """See `Task`."""
        return pack_weights(network, self._settings.family, self._settings.config)
