"""One training run, from its pictures to its weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from cluster.storage import open_storage
from cluster.training.checkpoints import Checkpoints
from cluster.training.data import TrainingData, read_pictures
from cluster.training.job import TrainJob
from cluster.training.split import split
from cluster.training.super_resolution import SuperResolution, refuse_misfits
from cluster.weights import model_at
from sr_core.errors import SpecError
from sr_core.train.group import Group
from sr_core.train.step import StepLog
from sr_core.train.trainer import Position, Trainer
from sr_core.train.validation import Figures
from sr_core.weights import pack_weights

Tell = Callable[[str], None]


def train(
    job: TrainJob,
    group: Group,
    is_over: Callable[[], bool] = lambda: False,
    tell: Tell = lambda sentence: None,
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
        SpecError: There is nothing to train on, what is asked for contradicts itself, or the output is
            another run's.
        ModelError: The weights to start from are not of this network.
        StorageError: The store of pictures or checkpoints fails.
        TrainError: Steps are not finite again and again.
    """
    if not group.is_first:
        tell = _nobody
    refuse_misfits(job, group)
    data = read_pictures(job.data)
    parts = split(data.pictures, job.validation)
    task = SuperResolution(
        job, group, data.pictures.only(parts.training), data.pictures.only(parts.validation)
    )
    _tell_data(data, len(parts.validation), tell)
    torch.manual_seed(job.seed)
    network = task.network()
    run = _Run(job, task, tell)
    state = run.begin(group.device)
    if state is None and job.start is not None:
        _start_from(job.start, job, network)
    trainer = Trainer(
        network,
        [each.stage for each in job.stages],
        task.make_step,
        task.make_batches,
        run,
        group,
        cadence=job.cadence,
        seed=job.seed,
    )
    if state is not None:
        trainer.load_state_dict(state)
        tell(f"goes on from image {trainer.position.num_images}")
    return trainer.run(is_over)


def _nobody(sentence: str) -> None:
    """Hears what other workers than the first would tell."""


def _tell_data(data: TrainingData, num_validation: int, tell: Tell) -> None:
    told = "".join(f"\n  {each.name}: {each.reason}" for each in data.left_out)
    num_training = len(data.pictures) - num_validation
    tell(
        f"{num_training} pictures to train on, {num_validation} set aside, "
        f"{len(data.left_out)} left out{told}"
    )


def _start_from(url: str, job: TrainJob, network: nn.Module) -> None:
    """Puts the weights there into the network."""
    origin = model_at(url)
    if origin.origin is None or origin.origin.config != job.config:
        raise SpecError(
            "the weights to start from are of another network",
            where=url,
            got=str(origin.origin.config if origin.origin else "no weights"),
            expected=str(job.config),
            next_step="leave out arch and config, and those of the weights are taken",
        )
    network.load_state_dict(origin.network.state_dict())


class _Run:
    """What is kept of a run: checkpoints, weights and what is told."""

    def __init__(self, job: TrainJob, task: SuperResolution, tell: Tell) -> None:
        self.told = tell
        self._job = job
        self._task = task
        self._storage = open_storage(job.output_url)
        self._checkpoints = Checkpoints(self._storage, job.output_url)
        self._start_s = time.monotonic()
        self._best: Figures | None = None

    def begin(self, device: torch.device) -> dict[str, Any] | None:
        """The state to go on from, if there is one; as all workers see it."""
        self._checkpoints.claim(self._job.recipe())
        return self._checkpoints.last(device)

    def log(self, position: Position, log: StepLog, share: float) -> None:
        """See `Watcher`."""
        rate = self._job.stages[position.stage].learning_rate * share
        losses = ", ".join(f"{name} {value:.5f}" for name, value in log.losses.items())
        seconds = time.monotonic() - self._start_s
        self.told(f"{position.num_images} images, {seconds:.0f} s, learning rate {rate:.2e}: {losses}")

    def validate(self, position: Position, network: nn.Module) -> None:
        """See `Watcher`."""
        figures = self._task.measure(network)
        self.told(
            f"{position.num_images} images: {figures.psnr_y:.3f} dB of luma, SSIM {figures.ssim_y:.4f} on "
            f"{len(self._task.pairs)} pictures"
        )
        self._put_weights("last.safetensors", position, network, figures)
        best = self._best or self._stored_best()
        if best is None or figures.psnr_y > best.psnr_y:
            self._best = figures
            self._put_weights("best.safetensors", position, network, figures)

    def save(self, position: Position, state: dict[str, Any]) -> None:
        """See `Watcher`."""
        self._checkpoints.put(position.num_images, state)

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
