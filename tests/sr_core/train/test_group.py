"""Workers that train together, in processes of their own over gloo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn

from sr_core.train.group import Group
from sr_core.train.losses.pixel import pixel_terms
from sr_core.train.losses.weighted import WeightedLoss
from sr_core.train.step import Batch, Numerics, PixelStep, Step
from sr_core.train.trainer import Stage, Trainer
from tests.sr_core.train.test_trainer import Notes, batches, network

SIZE = 2


def train(group: Group, seed: int) -> tuple[nn.Module, Notes]:
    """A few steps, each worker on its share of every batch."""

    def make_step(stage: int, trained: nn.Module) -> Step:
        return PixelStep(trained, WeightedLoss(pixel_terms({"mse": 1.0})), 1e-3, group, Numerics())

    def share(stage: int, first: int) -> Iterator[Batch]:
        for batch in batches(stage, first):
            mine = slice(group.rank * 4 // group.size, (group.rank + 1) * 4 // group.size)
            yield Batch(batch.number, (batch.inputs[0][mine],), batch.truth[mine])

    trained, notes = network(), Notes()
    with torch.no_grad():
        for weight in trained.parameters():
            weight += seed * 0.01  # workers start apart, and must not stay so
    Trainer(trained, [Stage(24, 4)], make_step, share, notes if group.is_first else None, group).run()
    return trained, notes


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=SIZE)
    group = Group(rank, SIZE)
    trained, notes = train(group, seed=rank)
    torch.save(trained.state_dict(), f"{folder}/{rank}.pt")
    Path(f"{folder}/{rank}.log").write_text(f"{len(notes.states)}")
    assert group.agree(rank == 1)
    assert not group.agree(False)
    dist.destroy_process_group()


def loaded(path: Path) -> list[Tensor]:
    return list(torch.load(path, weights_only=True).values())


def test_two_workers_train_as_one_does_on_the_whole_batch(tmp_path: Path) -> None:
    multiprocessing.start_processes(work, (str(tmp_path),), nprocs=SIZE, start_method="spawn")

    first, second = (loaded(tmp_path / f"{rank}.pt") for rank in range(SIZE))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alone, _ = train(Group(), seed=0)
    for a, b in zip(first, alone.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_only_the_first_worker_saves(tmp_path: Path) -> None:
    multiprocessing.start_processes(work, (str(tmp_path),), nprocs=SIZE, start_method="spawn")

    assert [int((tmp_path / f"{rank}.log").read_text()) > 0 for rank in range(SIZE)] == [True, False]
