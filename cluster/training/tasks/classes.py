"""Training a classifier on pictures in folders: what a picture shows is the name of its folder.

As in torchvision's `ImageFolder`, the folders right below a source are the classes, with all that lies below
them. A source whose pictures lie right in it is a class by itself, under its own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cluster.images.panel import Cell
from cluster.places import place_of
from cluster.storage import open_storage
from cluster.training.data import file_names
from cluster.training.job import TrainJob
from cluster.training.tasks.families import FamilySettings, FamilyTask
from cluster.training.tasks.squares import AHEAD_BATCHES, LOADER_THREADS, grid
from sr_core.card import Card, Purpose, card_for
from sr_core.classifier import CLASSIFIER, ClassifierConfig
from sr_core.errors import SpecError
from sr_core.train.crops import Ahead, Pictures
from sr_core.train.group import Group
from sr_core.train.labels import LabelStage, label_step
from sr_core.train.measures import Figures, Measure, in_words
from sr_core.train.step import Batch, Step
from sr_core.train.trainer import Batches

_MEASURED_AT_ONCE = 64
_SHOWN_ACROSS, _SHOWN_DOWN = 4, 3
_MOST_LISTED = 10


@dataclass(frozen=True)
class ClassSettings(FamilySettings):
    """A classifier.

    Attributes:
        classes: Names of what it tells apart, in the order of its outputs.
        image_px: Side of the squares that it learns from; it takes pictures of any size afterwards.
    """

    family = CLASSIFIER
    purpose = Purpose.CLASSIFICATION

    config: ClassifierConfig = field(default_factory=ClassifierConfig)
    classes: tuple[str, ...] = ()
    image_px: int = 64

    @property
    def side_px(self) -> int:
        """See `FamilySettings`."""
        return self.image_px

    @property
    def measures(self) -> tuple[Measure, ...]:
        """See `TaskSettings`: cross entropy first, which sees more in a few pictures than which are right."""
        return Measure.CROSS_ENTROPY, Measure.ACCURACY

    def recipe(self) -> Mapping[str, object]:
        """See `TaskSettings`."""
        return {**super().recipe(), "classes": self.classes, "image_px": self.image_px}

    def facts(self) -> Iterator[tuple[str, str]]:
        """See `TaskSettings`."""
        more = f" and {len(self.classes) - _MOST_LISTED} more" if len(self.classes) > _MOST_LISTED else ""
        yield "network", f"{CLASSIFIER.name}, {self.told_images}"
        yield "classes", f"{len(self.classes)}: {', '.join(self.classes[:_MOST_LISTED])}{more}"

    def refuse_misfits(self, job: TrainJob, num_workers: int) -> None:
        """See `TaskSettings`."""
        self.refuse_other_channels()
        if len(self.classes) < 2 or len(self.classes) != self.config.num_classes:
            raise SpecError(
                "there are no classes to tell apart",
                where="data.train",
                got=f"{', '.join(self.classes) or 'none'}, for {self.config.num_classes} outputs",
                expected="two folders at least, each with the pictures of a class",
            )
        least_px = 1 << (len(self.config.widths) - 1)
        if self.image_px < least_px:
            raise SpecError(
                "the pictures are too small for the network's stages",
                where="network.image_px",
                got=f"{self.image_px} px",
                expected=f"{least_px} px at least",
            )
        for number in range(len(job.stages)):
            job.stage_of(number, LabelStage)

    def example(self, num_items: int) -> tuple[Tensor, ...]:
        """See `TaskSettings`."""
        return (torch.empty(num_items, self.config.num_channels, self.image_px, self.image_px),)

    def open(self, job: TrainJob, group: Group, training: Pictures, validation: Pictures) -> ClassTask:
        """See `TaskSettings`.

        Raises:
            SpecError: Of a class, nothing can be trained on.
        """
        return ClassTask(self, job, group, training, validation)


class ClassTask(FamilyTask):
    """The steps, batches and figures of a job that trains a classifier."""

    def __init__(
        self, settings: ClassSettings, job: TrainJob, group: Group, training: Pictures, validation: Pictures
    ) -> None:
        """Takes both parts of the pictures."""
        super().__init__(settings, job, group, training, validation)
        self._classes = settings.classes
        folders = _Folders(job.data.sources)
        numbers = {name: number for number, name in enumerate(self._classes)}
        self._labels, self._held_out_labels = (
            torch.tensor([numbers[folders.class_of(name)] for name in part.names], dtype=torch.int64)
            for part in (training, validation)
        )
        self._refuse_empty_classes()

    def _refuse_empty_classes(self) -> None:
        counts = torch.bincount(self._labels, minlength=len(self._classes)).tolist()
        empty = [name for name, count in zip(self._classes, counts, strict=True) if not count]
        if empty:
            raise SpecError(
                "there is no picture of a class to train on",
                where="data.train",
                got=", ".join(empty[:_MOST_LISTED]),
                expected="some in each folder that can be used, and are not set aside",
                next_step="see what --plan says of what is left out",
            )

    def make_step(self, stage: int, network: nn.Module) -> Step[Batch]:
        """See `Task`."""
        asked = self.job.stage_of(stage, LabelStage)
        return label_step(asked, network, self.training.group, self.job.numerics)

    def make_batches(self, stage: int, first: int) -> Batches[Batch]:
        """See `Task`."""
        source, squares = self.training, self.training.squares(stage)

        def make(number: int) -> Batch:
            items = source.items(stage, number)
            labels = self._labels[[squares.picture(item) for item in items]]
            return Batch(number, (source.seen(squares.batch(items)),), labels.to(source.group.device))

        return Ahead(make, first, LOADER_THREADS, AHEAD_BATCHES)

    def baseline(self) -> str:
        """See `Task`: of what knows nothing but how many pictures of each class there are."""
        counts = torch.bincount(self._labels, minlength=len(self._classes))
        logits = (counts / counts.sum()).log().expand(len(self._held_out_labels), -1)
        return f"the same guess for every picture: {in_words(self._figures(logits))}"

    @torch.inference_mode()
    def measure(self, network: nn.Module) -> Figures:
        """See `Task`: means over the squares in the middle of pictures."""
        return self._figures(self._logits(network, self.held_out.middles()))

    def _figures(self, logits: Tensor) -> Figures:
        labels = self._held_out_labels.to(logits.device)
        return {
            Measure.CROSS_ENTROPY: float(F.cross_entropy(logits, labels)),
            Measure.ACCURACY: float((logits.argmax(1) == labels).float().mean()),
        }

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        return torch.cat([network(each).float() for each in torch.split(images, _MEASURED_AT_ONCE)])

    @torch.inference_mode()
    def rows(self, network: nn.Module) -> list[list[Cell]]:
        """See `Task`: some of what was set aside of every class in turn, with what it is taken for."""
        chosen = _in_turn(self._held_out_labels.tolist())[: _SHOWN_ACROSS * _SHOWN_DOWN]
        images = self.held_out.middles()[chosen]
        shares = self._logits(network, images).softmax(1)
        cells = [
            self._cell(image[None], int(self._held_out_labels[index]), share)
            for index, image, share in zip(chosen, images, shares, strict=True)
        ]
        return [cells[first : first + _SHOWN_ACROSS] for first in range(0, len(cells), _SHOWN_ACROSS)]

    def _cell(self, image: Tensor, label: int, shares: Tensor) -> Cell:
        guess = int(shares.argmax())
        verdict = "right" if guess == label else "wrong"
        told = f"{verdict}: {self._classes[guess]}, {float(shares[guess]):.0%} sure"
        return Cell(self._classes[label], told, grid(image))

    def card(self, network: nn.Module) -> Card:
        """See `Task`."""
        config = CLASSIFIER.config_of(network.state_dict())
        return card_for(Purpose.CLASSIFICATION, network, CLASSIFIER, config, classes=self._classes)


def classes_of(sources: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes in sources, sorted.

    Args:
        sources: Folders, as `DataSettings` has them.

    Raises:
        SpecError: It is not clear what a picture shows, or there are no pictures.
        StorageError: A store fails.
    """
    for source in sources:
        if place_of(source).is_file:
            raise _unclear(source, "a single file")
    folders, names = _Folders(sources), set[str]()
    for source in sources:
        files = file_names(source)
        if len({folders.is_below(name) for name in files}) > 1:
            raise _unclear(source, "pictures right in it and in folders below it")
        names |= {folders.class_of(name) for name in files}
    return tuple(sorted(names))


def _unclear(source: str, got: str) -> SpecError:
    return SpecError(
        "it is not clear what pictures show",
        where=source,
        got=got,
        expected="a folder with the pictures of one class, or with a folder for each class",
    )


class _Folders:
    """Tells the class of a picture from its name."""

    def __init__(self, sources: Sequence[str]) -> None:
        # The innermost source that holds a picture decides.
        prefixes = ((f"{open_storage(place_of(each).url).url.rstrip('/')}/", each) for each in sources)
        self._sources = sorted(prefixes, key=lambda pair: len(pair[0]), reverse=True)

    def is_below(self, name: str) -> bool:
        """Whether a picture lies in a folder below its source, not right in it."""
        return "/" in self._key(name)[0]

    def class_of(self, name: str) -> str:
        """The folder right below the source, or the source itself where there is none."""
        key, source = self._key(name)
        return key.partition("/")[0] if "/" in key else place_of(source).name

    def _key(self, name: str) -> tuple[str, str]:
        """The name below its source, and the source."""
        prefix, source = next(pair for pair in self._sources if name.startswith(pair[0]))
        return name.removeprefix(prefix), source


def _in_turn(labels: Sequence[int]) -> list[int]:
    """Places of labels: the first of each class, then the second of each."""
    seen: Counter[int] = Counter()
    ranks = []
    for label in labels:
        ranks.append((seen[label], label))
        seen[label] += 1
    return sorted(range(len(labels)), key=lambda place: ranks[place])
