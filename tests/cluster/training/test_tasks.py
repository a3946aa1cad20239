"""The contract of tasks: what holds for every kind of network that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import load_file
from torch import multiprocessing, nn

from cluster.training import TrainJob, train
from cluster.training.data import DataSettings
from cluster.training.job import AskedStage, PixelStage
from cluster.training.run import refuse_misfits
from cluster.training.split import SplitSettings, split
from cluster.training.task import Task, TaskSettings
from cluster.training.tasks.classes import ClassSettings
from cluster.training.tasks.depth import DepthSettings
from cluster.training.tasks.images import GanSettings, VaeSettings
from cluster.training.tasks.video import VideoSettings
from sr_core.archs.arch import ColorMode
from sr_core.archs.early_fusion import EARLY_FUSION, EarlyFusionConfig
from sr_core.card import card_markdown, read_card
from sr_core.classifier import CLASSIFIER, ClassifierConfig
from sr_core.errors import SpecError
from sr_core.family import Family, load_network
from sr_core.generative.gan import GAN, GanConfig
from sr_core.generative.vae import VAE, VaeConfig
from sr_core.guided import GUIDED, GuidedConfig
from sr_core.model import load_model
from sr_core.train.adversarial import AdversarialSettings
from sr_core.train.adversarial_stage import AdversarialStage
from sr_core.train.elbo import ElboStage
from sr_core.train.game import Player
from sr_core.train.gan_stage import GanGame, GanStage
from sr_core.train.group import Group
from sr_core.train.labels import LabelStage
from sr_core.train.measures import is_better
from sr_core.train.step import Batch, Numerics
from sr_core.train.trainer import Cadence, Stage
from sr_core.train.updates import UpdateSettings
from tests.sr_core.threads import one_thread

KINDS = ("smooth", "striped")
DEPTH = "depth"  # a folder beside that of the pictures


@dataclass(frozen=True)
class Kind:
    """A small job of a task.

    Attributes:
        task: What is trained.
        stages: How, in little time.
        load: The network of a weights file that came out, as those who use it load it.
        least_side_px: Of pictures.
    """

    task: TaskSettings
    stages: tuple[AskedStage, ...]
    load: Callable[[Path], nn.Module]
    least_side_px: int


def of_family(family: Family[nn.Module]) -> Callable[[Path], nn.Module]:
    return lambda path: load_network(path, (family,))


def upscaler(path: Path) -> nn.Module:
    return load_model(str(path)).network


FAST = GanGame(updates=UpdateSettings(learning_rates=dict.fromkeys(Player, 1e-3)), watch_batches=4)
JOBS = {
    "vae": Kind(
        VaeSettings(VaeConfig(4, (8, 16), 16)),
        (ElboStage(Stage(160, 8, ema_decay=0.8), learning_rate=3e-3), ElboStage(Stage(40, 8), 0.2)),
        of_family(VAE),
        16,
    ),
    "gan": Kind(
        GanSettings(GanConfig(8, (16, 8))),
        (GanStage(Stage(160, 8, ema_decay=0.8), FAST), GanStage(Stage(40, 8), replace(FAST, r1=0.0))),
        of_family(GAN),
        16,
    ),
    "classifier": Kind(
        ClassSettings(ClassifierConfig(2, (8, 8)), classes=KINDS, image_px=16),
        (LabelStage(Stage(320, 8, ema_decay=0.8), learning_rate=3e-3), LabelStage(Stage(40, 8), 0.0)),
        of_family(CLASSIFIER),
        16,
    ),
    "video": Kind(
        VideoSettings(EARLY_FUSION, EarlyFusionConfig(3, ColorMode.RGB, 12, 1), lr_crop_px=16),
        (
            PixelStage(Stage(200, 8, ema_decay=0.8), learning_rate=3e-3),
            AdversarialStage(Stage(24, 8), adversarial=AdversarialSettings(num_feat=8)),
        ),
        upscaler,
        32,
    ),
    "depth": Kind(
        DepthSettings(GuidedConfig(2, 12, 1, 1), (DEPTH,), lr_crop_px=16),
        (
            PixelStage(Stage(320, 8, ema_decay=0.8), learning_rate=3e-3),
            PixelStage(Stage(40, 8), (("mse", 1.0),)),
        ),
        of_family(GUIDED),
        32,
    ),
}
each_job = pytest.mark.parametrize("name", JOBS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders, of smooth colours and of stripes; every picture is another one."""
    root = tmp_path_factory.mktemp("tasks") / "pictures"
    rows, columns = np.mgrid[0:40, 0:48] / 8
    for folder in KINDS:
        (root / folder).mkdir(parents=True)
        for index in range(12):
            angle, period = index * 0.6, 1 if folder == "smooth" else 6
            wave = np.sin(period * (rows * np.cos(angle) + columns * np.sin(angle)) + index)
            planes = [128 + 90 * np.roll(wave, 7 * c, axis=1) + 3 * index for c in range(3)]
            codes = np.stack(planes, -1).clip(0, 255).astype(np.uint8)
            Image.fromarray(codes).save(root / folder / f"{index}.png")
            (root.parent / DEPTH / folder).mkdir(parents=True, exist_ok=True)
            depth = np.where(planes[0] > 128, 40_000 + 300 * index, 9_000).astype(np.uint16)
            Image.fromarray(depth).save(root.parent / DEPTH / folder / f"{index}.png")
    return root


def job_of(name: str, pictures: Path, output: Path) -> TrainJob:
    kind = JOBS[name]
    task = kind.task
    if isinstance(task, DepthSettings):
        task = replace(task, depth_sources=(str(pictures.parent / DEPTH),))
    return TrainJob(
        output_url=str(output),
        task=task,
        data=DataSettings((str(pictures),), kind.least_side_px),
        stages=kind.stages,
        validation=SplitSettings(0.25),
        cadence=Cadence(log=4, validate=1000, checkpoint=10),
        seed=3,
    )


def opened(name: str, pictures: Path, output: Path, group: Group | None = None) -> tuple[TrainJob, Task]:
    job = job_of(name, pictures, output)
    found = job.task.read(job.data).pictures
    parts = split(found, job.validation)
    training, validation = found.only(parts.training), found.only(parts.validation)
    return job, job.task.open(job, group or Group(), training, validation)


def batch_of(task: Task, number: int) -> Batch:
    with closing(task.make_batches(0, number)) as batches:
        batch = next(batches)
    assert isinstance(batch, Batch)
    return batch


def stopping_after(num_batches: int) -> Callable[[], bool]:
    left = iter([False] * (num_batches - 1))
    return lambda: next(left, True)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last.safetensors")


@each_job
def test_a_stopped_run_goes_on_to_the_weights_of_one_that_was_not(
    name: str, pictures: Path, tmp_path: Path
) -> None:
    whole, broken = (job_of(name, pictures, tmp_path / part) for part in ("whole", "broken"))

    assert train(whole, Group())
    assert not train(broken, Group(), stopping_after(7))
    assert not train(broken, Group(), stopping_after(5))
    assert train(broken, Group())

    expected, got = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert got.keys() == expected.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)


@each_job
def test_a_network_learns_and_its_weights_can_be_used(name: str, pictures: Path, tmp_path: Path) -> None:
    job, task = opened(name, pictures, tmp_path / "run")
    torch.manual_seed(job.seed)
    before = task.measure(job.task.build().eval())

    told: list[str] = []
    assert train(job, Group(), tell=told.append)

    network = JOBS[name].load(tmp_path / "run" / "best.safetensors")
    figures = task.measure(network)
    assert set(figures) == set(job.task.measures)
    assert is_better(figures, before, job.decisive)
    assert any((task.baseline() or "bicubic") in sentence for sentence in told)
    content = (tmp_path / "run" / "best.json").read_bytes()
    card = read_card(content, "best.json")
    assert card.figures["validation"] == pytest.approx({str(key): value for key, value in figures.items()})
    assert "best.safetensors" in card_markdown(card, "best.safetensors")
    assert str(tmp_path).encode() not in content


@each_job
def test_a_task_shows_what_it_does(name: str, pictures: Path, tmp_path: Path) -> None:
    job, task = opened(name, pictures, tmp_path / "run")
    network = job.task.build().eval()

    sheet = task.sheet()
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    assert sheet.std() > 5
    rows = task.rows(network)
    assert all(cell.title and cell.rgb.dtype == np.uint8 for row in rows for cell in row)
    assert task.measure(network) == task.measure(network)
    assert all(name and text for name, text in job.task.facts())
    assert all("object at" not in text and str(tmp_path) not in text for text in job.recipe().values())


@each_job
def test_an_example_is_what_a_network_takes(name: str, pictures: Path, tmp_path: Path) -> None:
    job, task = opened(name, pictures, tmp_path / "run")
    batch = batch_of(task, 0)
    example = job.task.example(batch.num_items)

    assert [each.shape for each in batch.inputs] == [each.shape for each in example]
    job.task.build()(*batch.inputs)


@each_job
def test_workers_share_a_batch(name: str, pictures: Path, tmp_path: Path) -> None:
    whole = batch_of(opened(name, pictures, tmp_path)[1], 3)
    shares = [batch_of(opened(name, pictures, tmp_path, Group(rank, 2))[1], 3) for rank in range(2)]

    assert [share.number for share in shares] == [3, 3]
    assert torch.equal(torch.cat([share.truth for share in shares]), whole.truth)
    for number, expected in enumerate(whole.inputs):
        assert torch.equal(torch.cat([share.inputs[number] for share in shares]), expected)


def work(rank: int, pictures: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name in JOBS:
        job = job_of(name, Path(pictures), Path(folder) / name)
        while not train(job, Group(rank, 2), stopping_after(9)):
            dist.barrier()  # as what starts workers again does, which waits for the last checkpoint
        train(replace(job, output_url=f"{folder}/whole-{name}"), Group(rank, 2))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_go_on_to_the_weights_of_two_that_were_not_stopped(
    pictures: Path, tmp_path: Path
) -> None:
    multiprocessing.start_processes(work, (str(pictures), str(tmp_path)), nprocs=2, start_method="spawn")

    for name in JOBS:
        expected, got = weights(tmp_path / f"whole-{name}"), weights(tmp_path / name)
        assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "num_parts"), [(4, 4, 1), (7, 1, 3), (1, 1, 1)], ids=str
)
def test_batches_that_leave_batch_norm_one_image_are_refused_at_once(
    batch_size: int, num_workers: int, num_parts: int
) -> None:
    stages = (GanStage(Stage(16, batch_size)),)
    asked = TrainJob("run", GanSettings(GanConfig(8, (8, 8))), DataSettings(("pictures",), 16), stages)
    asked = replace(asked, numerics=Numerics(num_parts=num_parts))

    with pytest.raises(SpecError, match=r"stages\.0\.batch: .*two images at least"):
        refuse_misfits(asked, Group(0, num_workers))
