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

from cluster.training import TrainJob
from cluster.training.data import TrainingData
from cluster.training.run import refuse_misfits
from cluster.training.split import split
from jobs.outputs import refuse_existing
from jobs.pictures import write_png
from jobs.view import printable
from sr_core.metrics.cost import num_parameters
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
    data = job.task.read(job.data)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, text in (*_data_facts(job, data), *_network_facts(job), *_stage_facts(job)):
        table.add_row(Text(name), Text(printable(text)))
    to.print(table)
    for each in data.left_out[:_MOST_LEFT_OUT]:
        to.print(Text(f"left out: {printable(each.name)}: {printable(each.reason)}"), soft_wrap=True)
    if len(data.left_out) > _MOST_LEFT_OUT:
        to.print(Text(f"left out: {len(data.left_out) - _MOST_LEFT_OUT} more"))


def write_sheet(job: TrainJob, path: Path) -> None:
    """Writes the first crops that `job` would train on as a PNG, with what the network gets of them.

    Raises:
        SpecError: Nothing can be trained on, or something stands there already.
        StorageError: A store fails, or the file cannot be written.
    """
    refuse_existing([path], overwrite=False)
    refuse_misfits(job, Group())
    data = job.task.read(job.data)
    parts = data.parts or split(data.pictures, job.validation)
    training = data.pictures.only(parts.training)
    rows = job.task.open(job, Group(), training, data.pictures.only([])).sheet()
    write_png(path, tuple(torch.from_numpy(rows).permute(2, 0, 1)))


def _data_facts(job: TrainJob, data: TrainingData) -> Iterator[tuple[str, str]]:
    parts, num_left_out = data.parts or split(data.pictures, job.validation), len(data.left_out)
    num_training, num_validation = len(parts.training), len(parts.validation)
    yield "pictures", f"{num_training} to train on, {num_validation} set aside, {num_left_out} left out"
    yield "in memory", f"{data.pictures.codes.numel() / _MIB:,.0f} MiB"
    yield "output", job.output_url


def _network_facts(job: TrainJob) -> Iterator[tuple[str, str]]:
    yield from job.task.facts()
    yield "parameters", f"{num_parameters(job.task.build()):,}"


def _stage_facts(job: TrainJob) -> Iterator[tuple[str, str]]:
    for number, each in enumerate(job.stages):
        stage = each.stage
        losses = " + ".join(f"{weight:g} {name}" for name, weight in each.goals)
        facts = (
            f"{stage.num_images:,} images",
            f"{stage.num_batches:,} batches of {stage.batch_size}",
            losses,
            f"learning rate {each.learning_rate:g}, {stage.schedule.course.value}",
            f"about {-(-training_bytes(job, stage) // _MIB):,} MiB beside the pictures",
        )
        yield f"stage {number}", "; ".join(facts)


def training_bytes(job: TrainJob, stage: Stage) -> int:
    """What a single worker holds at once of network and batch, about.

    That is, in float32, of what a forward pass keeps for the backward one; losses and workspaces come on top.
    """
    with torch.device("meta"):
        network = job.task.build().to("meta")
        inputs = job.task.example(-(-stage.batch_size // job.numerics.num_parts))
    return _kept_bytes(network, inputs) + _NUM_COPIES * _FLOAT_BYTES * num_parameters(network)


def _kept_bytes(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Of what a forward pass keeps beside weights, each storage once."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        made = network(*inputs)
        kept.extend([made] if isinstance(made, Tensor) else made)
    sizes = {_storage_of(each): each.untyped_storage().nbytes() for each in kept}
    for weight in network.parameters():
        sizes.pop(_storage_of(weight), None)
    return sum(sizes.values())


def _storage_of(tensor: Tensor) -> int:
    """Names the storage of a tensor that may be without memory, and so without an address."""
    return int(tensor.untyped_storage()._cdata)
