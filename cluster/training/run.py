"""One training run, from its pictures to its weights."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn

from cluster.storage import open_storage
from cluster.training.checkpoints import Checkpoints
from cluster.training.data import TrainingData
from cluster.training.job import TrainJob
from cluster.training.record import Record, Tell
from cluster.training.split import Split, split
from cluster.training.task import Task
from sr_core.errors import SpecError, StorageError
from sr_core.train.group import Group
from sr_core.train.trainer import Position, Trainer


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
    refuse_misfits(job, group)
    storage = open_storage(job.output_url)
    checkpoints = Checkpoints(storage, job.output_url)
    opened = _open(job, group)
    task, recipe = opened.task, job.recipe() | {"pictures": opened.identity}
    checkpoints.refuse_other(recipe)
    state = checkpoints.last()
    num_images = 0 if state is None else Position(*state["position"]).num_images
    network = job.numerics.prepared(_network(job, is_new=state is None).to(group.device))
    _refuse_other_workers(group, recipe | {"images seen": str(num_images)}, job.output_url)
    with contextlib.ExitStack() as stack:
        record = None
        if group.is_first:
            checkpoints.claim(recipe)
            for damaged in checkpoints.set_aside_damaged():
                tell(f"{damaged} is damaged and was set aside")
            record = stack.enter_context(
                closing(Record(job, task, opened.names, storage, checkpoints, state, tell))
            )
            tell(opened.sentence)
            baseline = task.baseline()
            if baseline:
                tell(baseline)
        trainer = Trainer(
            network,
            [each.stage for each in job.stages],
            task.make_step,
            task.make_batches,
            record,
            group,
            cadence=job.cadence,
            seed=job.seed,
        )
        if state is not None:
            trainer.load_state_dict(state)
        if state is not None and record is not None:
            tell(f"goes on from image {trainer.position.num_images}")
        return trainer.run(is_over)


@dataclass(frozen=True)
class _Opened:
    """A task on its pictures. Beyond what it keeps of them itself, they are let go.

    Attributes:
        names: Of the pictures to train on.
        identity: Of both parts, by their content.
        sentence: What is trained on, in words.
    """

    task: Task
    names: tuple[str, ...]
    identity: str
    sentence: str


def _open(job: TrainJob, group: Group) -> _Opened:
    data = job.task.read(job.data)
    parts = data.parts or split(data.pictures, job.validation)
    training, validation = (data.pictures.only(each) for each in (parts.training, parts.validation))
    return _Opened(
        job.task.open(job, group, training, validation),
        training.names,
        _told_pictures(data, parts),
        _told_data(data, len(parts.validation)),
    )


def refuse_misfits(job: TrainJob, group: Group) -> None:
    """Says what cannot be trained whatever the pictures are.

    Raises:
        SpecError: Workers cannot share a batch evenly, or see `TaskSettings.refuse_misfits`.
        ModelError: See there.
    """
    for number, each in enumerate(job.stages):
        if each.stage.batch_size % group.size:
            raise SpecError(
                "a batch cannot be shared evenly",
                where=f"stages.{number}",
                got=f"{each.stage.batch_size} images over {group.size} workers",
                expected="a multiple of the number of workers",
            )
    job.task.refuse_misfits(job, group.size)


def _told_pictures(data: TrainingData, parts: Split) -> str:
    """Names the pictures of both parts by their content: a run that goes on needs just the same."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (parts.training, parts.validation):
        digest.update(" ".join(data.pictures.digests[index] for index in part).encode() + b";")
    return f"{len(parts.training)} to train on, {len(parts.validation)} set aside, {digest.hexdigest()}"


def _told_data(data: TrainingData, num_validation: int) -> str:
    """What is trained on, in words."""
    told = "".join(f"\n  {each.name}: {each.reason}" for each in data.left_out)
    num_training = len(data.pictures) - num_validation
    return (
        f"{num_training} pictures to train on, {num_validation} set aside, "
        f"{len(data.left_out)} left out{told}"
    )


def _refuse_other_workers(group: Group, recipe: Mapping[str, str], output_url: str) -> None:
    """Lets workers begin that all see the same: then what each does by itself fits together.

    Raises:
        StorageError: They do not, as where folders of one name are not those of one machine.
    """
    digest = hashlib.blake2b(repr(sorted(recipe.items())).encode(), digest_size=7).digest()
    own = torch.tensor([int.from_bytes(digest, "little")], device=group.device)
    first = own.clone()
    group.take_from_first([first])
    if group.agree(bool(first != own)):
        raise StorageError(
            "workers do not see the same pictures, or not the same checkpoints",
            where=output_url,
            got=f"worker {group.rank}: {recipe['pictures']}; {recipe['images seen']} images seen",
            next_step="name places that all machines see alike, as shared folders or s3://bucket/prefix",
        )


def _network(job: TrainJob, *, is_new: bool) -> nn.Module:
    """The network of a run, which starts from the seed or from weights."""
    torch.manual_seed(job.seed)
    network = job.task.build()
    if is_new and job.start is not None:
        network.load_state_dict(job.task.weights_at(job.start))
    return network
