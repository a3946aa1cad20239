"""Workers that play one game together, in processes of their own over gloo."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from sr_core.train.group import Group
from sr_core.train.losses.adversarial import NON_SATURATING, WASSERSTEIN
from sr_core.train.step import Batch, Numerics
from sr_core.train.updates import RuleName, UpdateSettings
from tests.sr_core.train.test_adversarial import batch, plain_step
from tests.sr_core.train.test_trainer import network

SIZE = 2
GAMES = {
    "alternating": {"loss": NON_SATURATING.name, "updates": UpdateSettings()},
    "gem": {"loss": WASSERSTEIN.name, "updates": UpdateSettings(RuleName.GEM)},
}


def play(group: Group, settings: dict[str, Any]) -> dict[str, Any]:
    """What three steps come to, each worker having its share of every batch."""
    trained = network()
    step = plain_step(trained, group, Numerics(), r2=0.1, feature_matching=0.1, watch_batches=3, **settings)
    for number in range(3):
        whole = batch(number)
        mine = slice(group.rank * 4 // group.size, (group.rank + 1) * 4 // group.size)
        log = step(Batch(number, (whole.inputs[0][mine],), whole.truth[mine]), 1.0)
    return {
        "network": trained.state_dict(),
        "discriminator": step.state_dict()["discriminator"],
        "guard": step.state_dict()["guard"],
        "losses": dict(log.losses),
        "warnings": list(log.warnings),
    }


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=SIZE)
    played = {name: play(Group(rank, SIZE), settings) for name, settings in GAMES.items()}
    torch.save(played, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of both workers, by game."""
    folder = tmp_path_factory.mktemp("game")
    multiprocessing.start_processes(work, (str(folder),), nprocs=SIZE, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]


def tensors(state: dict[str, Any]) -> list[Tensor]:
    return [*state["network"].values(), *state["discriminator"].values()]


@pytest.mark.parametrize("name", GAMES)
def test_workers_come_to_the_same_weights_figures_and_warnings(
    played: list[dict[str, Any]], name: str
) -> None:
    first, second = (each[name] for each in played)
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))
    for key in ("losses", "guard", "warnings"):
        assert first[key] == second[key]
    assert first["warnings"]


@pytest.mark.parametrize("name", GAMES)
def test_two_workers_play_as_one_does_on_the_whole_batch(played: list[dict[str, Any]], name: str) -> None:
    alone = play(Group(), GAMES[name])
    for a, b in zip(tensors(played[0][name]), tensors(alone), strict=True):
        # Adam divides by gradients that may be tiny: rounding comes to a small part of three steps of 1e-4.
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)
    assert played[0][name]["losses"] == pytest.approx(alone["losses"], rel=1e-4)
