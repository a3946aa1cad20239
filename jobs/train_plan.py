"""`framelift train --plan`: what a run would train on, what it would train, and how much that takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cluster.training import PixelStage, TrainJob
from cluster.training.data import TrainingData, read_pictures
from cluster.training.split import split
from cluster.training.super_resolution import SuperResolution, refuse_misfits
from jobs.outputs import refuse_existing
from jobs.pictures import write_png
from jobs.view import printable
from sr_core.metrics.cost import num_macs, num_parameters
from sr_core.model import Model
from sr_core.train.adversarial_stage import AdversarialStage
from sr_core.train.degradations.sheet import sheet
from sr_core.train.group import Group
from sr_core.train.trainer import Stage

_MIB = 1 << 20
_FLOAT_BYTES = 4
# Weights, gradients, two moments of Adam and the average; then what a checkpoint copies of all but gradients.
_NUM_COPIES = 5 + 4
_MOST_LEFT_OUT = 10


def show_plan(job: TrainJob, to: Console) -> None:
    """Prints what `job` would do. All pictures are read for it, as only that tells which can be used.

    Raises:
        SpecError: Nothing can be trained on, or it is more than memory may hold.
        StorageError: A store fails.
    """
    refuse_misfits(job, Group())
    data = read_pictures(job.data)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, text in (*_data_facts(job, data), *_network_facts(job), *_stage_facts(job)):
        table.add_row(Text(name), Text(printable(text)))
    to.print(table)
    for each in data.left_out[:_MOST_LEFT_OUT]:
        to.print(Text(f"left out: {printable(each.name)}: {printable(each.reason)}"), soft_wrap=True)
    if len(data.left_out) > _MOST_LEFT_OUT:
        to.print(Text(f"left out: {len(data.left_out) - _MOST_LEFT_OUT} more"))


def write_sheet(job: TrainJob, path: Path) -> None:
    """Writes the first crops that `job` would train on as a PNG, each beside what the network gets of it.

    Raises:
        SpecError: Nothing can be trained on, or something stands there already.
        StorageError: A store fails, or the file cannot be written.
    """
    refuse_existing([path], overwrite=False)
    refuse_misfits(job, Group())
    pictures = read_pictures(job.data).pictures
    training = pictures.only(split(pictures, job.validation).training)
    batch = SuperResolution(job, Group(), training, pictures.only([])).first_batch()
    write_png(path, tuple(sheet(batch.hr_frame, batch.lr_frame)))


def _data_facts(job: TrainJob, data: TrainingData) -> Iterator[tuple[str, str]]:
    parts, num_left_out = split(data.pictures, job.validation), len(data.left_out)
    num_training, num_validation = len(parts.training), len(parts.validation)
    yield "pictures", f"{num_training} to train on, {num_validation} set aside, {num_left_out} left out"
    yield "in memory", f"{data.pictures.codes.numel() / _MIB:,.0f} MiB"
    yield "output", job.output_url


def _network_facts(job: TrainJob) -> Iterator[tuple[str, str]]:
    network, facts = job.arch.build(job.config), job.arch.facts(job.config)
    yield "network", f"{job.arch.name}, scale {facts.scale}"
    yield "parameters", f"{num_parameters(network):,}"
    yield "multiply-adds", f"{num_macs(Model(network, facts, '')) / 1e9:,.1f} G for an output of 1280x720"


def _stage_facts(job: TrainJob) -> Iterator[tuple[str, str]]:
    for number, each in enumerate(job.stages):
        stage = each.stage
        losses = " + ".join(f"{weight:g} {name}" for name, weight in _losses_of(each))
        facts = (
            f"{stage.num_images:,} images",
            f"{stage.num_batches:,} batches of {stage.batch_size}",
            losses,
            f"learning rate {each.learning_rate:g}, {stage.schedule.course.value}",
            f"about {-(-training_bytes(job, stage) // _MIB):,} MiB beside the pictures",
        )
        yield f"stage {number}", "; ".join(facts)


def _losses_of(stage: PixelStage | AdversarialStage) -> Iterator[tuple[str, float]]:
    """All that the network makes small in a stage, and the weight of each."""
    yield from stage.losses
    if isinstance(stage, AdversarialStage):
        yield from ((each.network, each.weight) for each in stage.perceptual)
        game = stage.adversarial
        yield f"{game.loss} against {game.discriminator} ({game.updates.rule})", game.weight


def training_bytes(job: TrainJob, stage: Stage) -> int:
    """What a single worker holds at once of network and batch, about.

    That is, in float32, of what a forward pass keeps for the backward one; losses and workspaces come on top.
    """
    with torch.device("meta"):
        network = job.arch.build(job.config).to("meta")
        own_size = -(-stage.batch_size // job.numerics.num_parts)
        num_channels = job.arch.facts(job.config).color_mode.num_channels
        lr_frames = torch.empty(own_size, num_channels, job.lr_crop_px, job.lr_crop_px)
    return _kept_bytes(network, lr_frames) + _NUM_COPIES * _FLOAT_BYTES * num_parameters(network)


def _kept_bytes(network: nn.Module, lr_frames: Tensor) -> int:
    """Of what a forward pass keeps beside weights, each storage once."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        kept.append(network(lr_frames))
    sizes = {_storage_of(each): each.untyped_storage().nbytes() for each in kept}
    for weight in network.parameters():
        sizes.pop(_storage_of(weight), None)
    return sum(sizes.values())


def _storage_of(tensor: Tensor) -> int:
    """Names the storage of a tensor that may be without memory, and so without an address."""
    return int(tensor.untyped_storage()._cdata)
