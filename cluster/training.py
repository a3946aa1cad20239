"""One training run: its pictures, its checkpoints and its weights, wherever they lie."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from cluster.storage import Storage, open_storage
from cluster.training_data import DataSettings, LeftOut, read_pictures
from cluster.training_split import SplitSettings, split
from sr_core.archs.arch import Arch, ColorMode
from sr_core.errors import SpecError
from sr_core.train.crops import (
    Ahead,
    Crops,
    CropSettings,
    Pictures,
    batch_numbers,
    item_generator,
    unit_frames,
)
from sr_core.train.degradations.batch import Degradation, degraded
from sr_core.train.degradations.bicubic import Bicubic
from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.step import Batch, Numerics, PixelStep, Step, StepLog
from sr_core.train.trainer import Batches, Cadence, Position, Stage, Trainer
from sr_core.train.validation import Figures, Pair, as_seen, measure
from sr_core.weights import pack_weights

_CHECKPOINTS = "checkpoints/"
_NUM_KEPT = 2
_LOADER_THREADS = 2
_AHEAD_BATCHES = 8


@dataclass(frozen=True)
class PixelStage:
    """One stage that compares pixels.

    Attributes:
        stage: How long, how large and how fast.
        losses: Weight of each of `sr_core.train.losses.pixel.PIXEL_LOSSES` that counts.
        learning_rate: Of Adam, before the schedule.
    """

    stage: Stage
    losses: tuple[tuple[str, float], ...] = (("l1", 1.0),)
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class TrainJob:
    """What is trained, on what, and where it goes.

    Attributes:
        output_url: Of a store, for checkpoints, weights and the log.
        arch: Name of one of `sr_core.archs.ARCHS`.
        config: Its hyper-parameters.
        data: Pictures to train and to validate on.
        validation: What of them is set aside.
        stages: One after the other.
        lr_crop_px: Side of the LR crops.
        least_rescale: Pictures are shrunk by up to this before they are cropped, at random; 1 never.
        degradation: How LR crops are made.
        numerics: Precision, parts and clipping.
        cadence: How often things are done, in batches.
        seed: Of everything that is random.
    """

    output_url: str
    arch: Arch
    config: Any
    data: DataSettings
    stages: tuple[PixelStage, ...]
    validation: SplitSettings = field(default_factory=SplitSettings)
    lr_crop_px: int = 48
    least_rescale: float = 1.0
    degradation: Degradation = field(default_factory=Bicubic)
    numerics: Numerics = field(default_factory=Numerics)
    cadence: Cadence = field(default_factory=Cadence)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lr_crop_px < 1 or not self.stages:
            raise SpecError(
                "there is nothing to train",
                got=f"{len(self.stages)} stages, crops of {self.lr_crop_px} px",
                expected="a stage at least, and crops with pixels",
            )


def train(
    job: TrainJob,
    group: Group,
    is_over: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda sentence: None,
) -> bool:
    """Trains from the last checkpoint on, or from the start; the same as if it had never been interrupted.

    Args:
        job: What to do.
        group: This worker's place among those that train together.
        is_over: Asked after every batch whether to stop for now.
        tell: Gets sentences for the user, from the first worker alone.

    Returns:
        Whether all is done; else the same call goes on.

    Raises:
        SpecError: There is nothing to train on, or what is asked for contradicts itself.
        StorageError: The store of pictures or checkpoints fails.
        TrainError: Steps are not finite again and again.
    """
    facts = job.arch.facts(job.config)
    if facts.num_frames > 1 or facts.color_mode is ColorMode.YUV420:
        raise SpecError("single pictures do not train such a network", where=job.arch.name)
    for number, each in enumerate(job.stages):
        if each.stage.batch_size % group.size:
            raise SpecError(
                "a batch cannot be shared evenly",
                where=f"stage {number}",
                got=f"{each.stage.batch_size} images over {group.size} workers",
                expected="a multiple of the number of workers",
            )
    found = read_pictures(job.data)
    parts = split(found.pictures, job.validation)
    run = _Run(job, group, found.pictures.only(parts.training), open_storage(job.output_url), tell)
    run.tell_data(found.left_out, len(parts.validation))
    run.pairs = run.pairs_of(found.pictures.only(parts.validation))
    torch.manual_seed(job.seed)
    network = job.arch.build(job.config).to(group.device)
    trainer = Trainer(
        network,
        [each.stage for each in job.stages],
        run.make_step,
        run.make_batches,
        run,
        group,
        cadence=job.cadence,
        seed=job.seed,
    )
    state = run.last_checkpoint()
    if state is not None:
        trainer.load_state_dict(state)
        run.tell_start(trainer.position)
    return trainer.run(is_over)


class _Run:
    """What a trainer asks for: steps, batches, and a place for what comes of it."""

    def __init__(
        self, job: TrainJob, group: Group, pictures: Pictures, storage: Storage, tell: Callable[[str], None]
    ) -> None:
        self.told = tell
        self.pairs: list[Pair] = []
        self._job = job
        self._group = group
        self._pictures = pictures
        self._storage = storage
        self._facts = job.arch.facts(job.config)
        self._start_s = time.monotonic()
        self._best: Figures | None = None

    def tell_data(self, left_out: tuple[LeftOut, ...], num_validation: int) -> None:
        """Says what is trained on."""
        if self._group.is_first:
            told = "".join(f"\n  {each.name}: {each.reason}" for each in left_out)
            self.told(
                f"{len(self._pictures)} pictures to train on, {num_validation} set aside, "
                f"{len(left_out)} left out{told}"
            )

    def tell_start(self, position: Position) -> None:
        """Says where it goes on from."""
        if self._group.is_first:
            self.told(f"goes on from image {position.num_images}")

    def make_step(self, stage: int, network: nn.Module) -> Step:
        """See `MakeStep`."""
        asked = self._job.stages[stage]
        objective = WeightedLoss(pixel_terms(dict(asked.losses)))
        return PixelStep(network, objective, asked.learning_rate, self._group, self._job.numerics)

    def make_batches(self, stage: int, first: int) -> Batches:
        """See `MakeBatches`."""
        job, group = self._job, self._group
        own_size = job.stages[stage].stage.batch_size // group.size
        side_px = job.lr_crop_px * self._facts.scale
        settings = CropSettings(side_px, least_rescale=job.least_rescale)
        crops = Crops(self._pictures, settings, job.seed, stage)

        def make(number: int) -> Batch:
            items = batch_numbers(number, own_size, group.rank, group.size)
            hr_frames = unit_frames(crops.batch(items), group.device)
            generators = [item_generator(job.seed, stage, item, "degrade") for item in items]
            lr_frames = degraded(hr_frames, self._facts.scale, job.degradation, generators)
            mode = self._facts.color_mode
            return Batch(number, as_seen(lr_frames, mode), as_seen(hr_frames, mode))

        return Ahead(make, first, _LOADER_THREADS, _AHEAD_BATCHES)

    def pairs_of(self, pictures: Pictures) -> list[Pair]:
        """LR and HR of the pictures to validate on, cropped to whole LR pixels."""
        scale, pairs = self._facts.scale, []
        multiple = scale * self._facts.size_multiple
        for number, codes in enumerate(pictures):
            height, width = (side // multiple * multiple for side in codes.shape[-2:])
            hr_frame = unit_frames(codes[None, :, :height, :width], self._group.device)
            generator = item_generator(self._job.seed, "validation", number, "degrade")
            pairs.append(Pair(degraded(hr_frame, scale, self._job.degradation, [generator]), hr_frame))
        return pairs

    def log(self, position: Position, log: StepLog, share: float) -> None:
        """See `Watcher`."""
        rate = self._job.stages[position.stage].learning_rate * share
        losses = ", ".join(f"{name} {value:.5f}" for name, value in log.losses.items())
        seconds = time.monotonic() - self._start_s
        self.told(f"{position.num_images} images, {seconds:.0f} s, learning rate {rate:.2e}: {losses}")

    def validate(self, position: Position, network: nn.Module) -> None:
        """See `Watcher`."""
        figures = measure(network, self._facts.color_mode, self.pairs, self._facts.scale)
        self.told(
            f"{position.num_images} images: {figures.psnr_y:.3f} dB of luma, SSIM {figures.ssim_y:.4f} on "
            f"{len(self.pairs)} pictures"
        )
        self._put_weights("last.safetensors", position, network, figures)
        best = self._best or self._stored_best()
        if best is None or figures.psnr_y > best.psnr_y:
            self._best = figures
            self._put_weights("best.safetensors", position, network, figures)

    def save(self, position: Position, state: dict[str, Any]) -> None:
        """See `Watcher`."""
        content = io.BytesIO()
        torch.save(state, content)
        self._storage.put(f"{_CHECKPOINTS}{position.num_images:012d}.pt", content.getvalue())
        for key in self._checkpoint_keys()[:-_NUM_KEPT]:
            self._storage.delete(key)

    def last_checkpoint(self) -> dict[str, Any] | None:
        """The state to go on from, if there is one; as all workers see it."""
        keys = self._checkpoint_keys()
        content = self._storage.get(keys[-1]) if keys else None
        if content is None:
            return None
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), weights_only=True, map_location=self._group.device
        )
        return state

    def _checkpoint_keys(self) -> list[str]:
        return sorted(info.key for info in self._storage.list(_CHECKPOINTS) if info.key.endswith(".pt"))

    def _stored_best(self) -> Figures | None:
        content = self._storage.get("best.json")
        return Figures(**json.loads(content)["figures"]) if content else None

    def _put_weights(self, name: str, position: Position, network: nn.Module, figures: Figures) -> None:
        """Weights that `framelift upscale` takes, and beside them what they are."""
        self._storage.put(name, pack_weights(network, self._job.arch, self._job.config))
        card = {
            "arch": self._job.arch.name,
            "config": asdict(self._job.config),
            "num_images": position.num_images,
            "figures": asdict(figures),
        }
        content = json.dumps(card, indent=1, default=str).encode()
        self._storage.put(f"{name.removesuffix('.safetensors')}.json", content)
