"""One training run, from its pictures to its weights."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing

import torch
from torch import nn

from cluster.storage import open_storage
from cluster.training.checkpoints import Checkpoints
from cluster.training.data import TrainingData, read_pictures
from cluster.training.job import TrainJob
from cluster.training.record import Record, Tell
from cluster.training.split import Split, split
from cluster.training.super_resolution import SuperResolution, refuse_misfits
from cluster.weights import model_at
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
    data = read_pictures(job.data)
    parts = split(data.pictures, job.validation)
    task = SuperResolution(
        job, group, data.pictures.only(parts.training), data.pictures.only(parts.validation)
    )
    recipe = job.recipe() | {"pictures": _told_pictures(data, parts)}
    checkpoints.refuse_other(recipe)
    state = checkpoints.last()
    num_images = 0 if state is None else Position(*state["position"]).num_images
    network = _network(job, task, is_new=state is None)
    _refuse_other_workers(group, recipe | {"images seen": str(num_images)}, job.output_url)
    with contextlib.ExitStack() as stack:
        record = None
        if group.is_first:
            checkpoints.claim(recipe)
            for damaged in checkpoints.set_aside_damaged():
                tell(f"{damaged} is damaged and was set aside")
            record = stack.enter_context(closing(Record(job, task, storage, num_images, tell)))
            record.told(_told_data(data, len(parts.validation)))
            record.told(f"bicubic interpolation: {task.measure_bicubic()}")
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
            record.told(f"goes on from image {trainer.position.num_images}")
        return trainer.run(is_over)


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


def _network(job: TrainJob, task: SuperResolution, *, is_new: bool) -> nn.Module:
    """The network of a run, which starts from the seed or from weights."""
    torch.manual_seed(job.seed)
    network = task.network()
    if is_new and job.start is not None:
        model = model_at(job.start)
        if model.origin is None or model.origin.config != job.config:
            raise SpecError(
                "the weights to start from are of another network",
                where=job.start,
                got=str(model.origin.config if model.origin else "no weights"),
                expected=str(job.config),
                next_step="leave out network, and that of the weights is taken",
            )
        network.load_state_dict(model.network.state_dict())
    return network
