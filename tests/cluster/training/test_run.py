"""Whole training runs on a few pictures, in processes that may be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cluster.training import PixelStage, TrainJob, train
from cluster.training.data import DataSettings
from cluster.training.job import TeacherWeights
from cluster.training.recoding import RecodedShare
from cluster.training.split import SplitSettings
from cluster.training.tasks.super_resolution import SuperResolutionSettings
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.errors import ModelError, SpecError, StorageError
from sr_core.model import load_model
from sr_core.train.adversarial import AdversarialSettings
from sr_core.train.adversarial_stage import AdversarialStage, PerceptualTerm
from sr_core.train.game import Player
from sr_core.train.group import Group
from sr_core.train.schedule import Schedule
from sr_core.train.trainer import Cadence, Stage
from sr_core.train.updates import UpdateSettings
from sr_core.weights import pack_weights
from tests.sr_core.threads import one_thread

ROOT = Path(__file__).parents[3]
STAGES = (
    PixelStage(Stage(480, 8, Schedule(warm_up_images=40), ema_decay=0.95), learning_rate=2e-3),
    PixelStage(Stage(160, 8), losses=(("mse", 1.0),), learning_rate=5e-4),
)


def pictures(folder: Path, number: int = 8) -> Path:
    """Smooth colours with edges in them, each another picture."""
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[0:72, 0:96]
    for index in range(number):
        angle = index * 0.7
        wave = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) / (3 + index))
        planes = [
            128 + 90 * np.roll(wave, 5 * c, axis=1) + 30 * ((rows + columns) // 9 % 2) for c in range(3)
        ]
        Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def settings(config: EspcnConfig, recoding: RecodedShare | None = None) -> SuperResolutionSettings:
    return SuperResolutionSettings(ESPCN, config, lr_crop_px=16, recoding=recoding)


def job(folder: Path, name: str, signal_: Signal = Signal.RGB) -> TrainJob:
    return TrainJob(
        output_url=str(folder / name),
        task=settings(EspcnConfig((16, 8), 2, signal_)),
        data=DataSettings((str(folder / "pictures"),), least_side_px=48),
        stages=STAGES,
        validation=SplitSettings(0.25),
        cadence=Cadence(log=10, validate=20, checkpoint=15),
        seed=5,
    )


RUN = """
import sys
from pathlib import Path

import torch

from cluster.training import train
from sr_core.train.adversarial import AdversarialSettings
from sr_core.train.adversarial_stage import AdversarialStage, PerceptualTerm
from sr_core.train.game import Player
from sr_core.train.group import Group
from tests.cluster.training.test_run import job

torch.set_num_threads(1)
print(train(job(Path(sys.argv[1]), sys.argv[2]), Group(), tell=print), flush=True)
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, str(folder), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def weights(folder: Path, name: str, file: str = "last.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / name / file)


def test_a_run_that_is_killed_twice_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    whole = start(tmp_path, "whole")
    assert "True" in whole.communicate(timeout=250)[0]

    for num_checkpoints in (1, 2):
        broken = start(tmp_path, "broken")
        deadline_s = time.monotonic() + 200
        folder = tmp_path / "broken" / "checkpoints"
        seen = {path.name for path in folder.glob("*.pt")}
        while len({path.name for path in folder.glob("*.pt")} - seen) < 1:
            assert broken.poll() is None, f"it ended before kill {num_checkpoints}"
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        broken.send_signal(signal.SIGKILL)
        broken.communicate()
    told = start(tmp_path, "broken").communicate(timeout=250)[0]

    assert "goes on from image" in told
    for file in ("last.safetensors", "best.safetensors"):
        expected, got = weights(tmp_path, "whole", file), weights(tmp_path, "broken", file)
        assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.parametrize("signal_", [Signal.RGB, Signal.STUDIO_LUMA])
def test_what_comes_out_is_a_model_that_beats_its_start(tmp_path: Path, signal_: Signal) -> None:
    pictures(tmp_path / "pictures")
    told = list[str]()

    assert train(job(tmp_path, "run", signal_), Group(), tell=told.append)

    decibels = [float(line.split(": ")[1].split(" dB")[0]) for line in told if "images: " in line]
    assert decibels[-1] > decibels[0] + 1
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["figures"]["validation"]["psnr_y"] == pytest.approx(max(decibels), abs=1e-3)
    model = load_model(str(tmp_path / "run" / "best.safetensors"))
    assert (model.facts.name, model.facts.scale) == ("espcn", 2)


def test_only_so_many_checkpoints_are_kept(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")

    train(job(tmp_path, "run"), Group())

    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["000000000600.pt", "000000000640.pt"]


def test_it_stops_when_it_is_told_and_goes_on_later(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    asked = job(tmp_path, "run")

    assert not train(asked, Group(), is_over=lambda: True)
    assert (tmp_path / "run" / "checkpoints" / "000000000008.pt").exists()
    assert train(asked, Group())


def test_without_pictures_to_set_aside_nothing_is_trained(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", number=1)

    with pytest.raises(SpecError):
        train(job(tmp_path, "run"), Group())


def test_a_job_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nothing to train"):
        replace(job(tmp_path, "run"), stages=())


def test_a_batch_that_workers_cannot_share_evenly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="8 images over 3 workers"):
        train(job(tmp_path, "run"), Group(0, 3))


def test_the_output_of_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    asked = job(tmp_path, "run")
    train(asked, Group(), is_over=lambda: True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").iterdir()}

    with pytest.raises(SpecError, match=r"run: seed: .*got 6; expected 5; .*another output"):
        train(replace(asked, seed=6), Group())

    assert {path.name: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").iterdir()} == before
    assert not train(replace(asked, cadence=Cadence(log=1)), Group(), is_over=lambda: True)


def test_a_damaged_checkpoint_is_told_and_the_one_before_goes_on(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(job(tmp_path, "run"), Group())
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    expected = weights(tmp_path, "run")

    told = list[str]()
    assert train(job(tmp_path, "run"), Group(), tell=told.append)
    assert any(f"{newest.name} is damaged and was set aside" in sentence for sentence in told)
    assert newest.with_suffix(".pt.damaged").stat().st_size == 1000
    assert all(torch.equal(expected[key], value) for key, value in weights(tmp_path, "run").items())

    for each in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        each.write_bytes(b"")
    with pytest.raises(StorageError, match="no checkpoint can be read"):
        train(job(tmp_path, "run"), Group())


def test_a_run_may_start_from_weights_of_its_network(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(job(tmp_path, "first"), Group())
    start = str(tmp_path / "first" / "best.safetensors")
    told = list[str]()

    train(replace(job(tmp_path, "second"), start=start), Group(), tell=told.append)

    reached = json.loads((tmp_path / "first" / "best.json").read_text())["figures"]["validation"]["psnr_y"]
    first = next(line for line in told if "images: " in line)
    assert float(first.split(": ")[1].split(" dB")[0]) > reached - 0.5
    other = replace(job(tmp_path, "third"), start=start, task=settings(EspcnConfig((16, 4), 2, Signal.RGB)))
    with pytest.raises(SpecError, match="another network"):
        train(other, Group())


def test_pictures_that_went_through_codecs_are_the_same_in_every_run(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    config = EspcnConfig((16, 8), 2, Signal.RGB)
    coded = replace(
        job(tmp_path, "whole"),
        stages=(PixelStage(Stage(80, 8)),),
        task=settings(config, RecodedShare(share=0.8)),
    )

    for asked in (
        coded,
        replace(coded, output_url=str(tmp_path / "again")),
        replace(coded, output_url=str(tmp_path / "plain"), task=settings(config)),
    ):
        train(asked, Group())

    expected, got, plain = (weights(tmp_path, name) for name in ("whole", "again", "plain"))
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    assert not any(torch.equal(expected[key], plain[key]) for key in expected if key.endswith("weight"))


def adversarial(folder: Path, name: str, **changed: object) -> TrainJob:
    settings = AdversarialSettings(discriminator="patch", num_feat=8, **changed)  # type: ignore[arg-type]
    stages = (STAGES[1], AdversarialStage(Stage(160, 8, ema_decay=0.95), adversarial=settings))
    return replace(job(folder, name), stages=stages)


def test_an_adversarial_stage_that_is_stopped_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    pictures(tmp_path / "pictures")
    assert train(adversarial(tmp_path, "whole"), Group())
    num_batches = 0

    def is_over() -> bool:
        nonlocal num_batches
        num_batches += 1
        return num_batches == 28

    assert not train(adversarial(tmp_path, "broken"), Group(), is_over)
    assert train(adversarial(tmp_path, "broken"), Group())
    expected, got = (weights(tmp_path, name) for name in ("whole", "broken"))
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    lines = [json.loads(line) for line in (tmp_path / "broken" / "log.jsonl").read_text().splitlines()]
    assert {"generator", "discriminator"} <= set(lines[-2]["losses"])


def test_what_the_guard_of_a_stage_sees_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    told = list[str]()
    rates = {Player.GENERATOR: 1e-6, Player.DISCRIMINATOR: 0.05}
    beaten = adversarial(
        tmp_path, "run", r1=0.0, watch_batches=5, loss="vanilla", updates=UpdateSettings(learning_rates=rates)
    )

    train(beaten, Group(), tell=told.append)

    assert any("batch" in sentence and "discriminator" in sentence for sentence in told)


def test_a_recipe_without_checkpoints_claims_nothing(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    with pytest.raises(ModelError, match=r"typo\.safetensors"):
        train(replace(job(tmp_path, "run"), start=str(tmp_path / "typo.safetensors")), Group())

    assert not train(job(tmp_path, "run"), Group(), is_over=lambda: True)


def test_other_pictures_are_no_way_to_go_on(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(job(tmp_path, "run"), Group(), is_over=lambda: True)
    (tmp_path / "pictures" / "7.png").unlink()

    with pytest.raises(SpecError, match=r"run: pictures: .*got \d to train on"):
        train(job(tmp_path, "run"), Group())


@pytest.mark.parametrize(
    ("stage", "where"),
    [
        (
            AdversarialStage(Stage(8, 8), adversarial=AdversarialSettings(discriminator="strided")),
            r"stages\.2\.game\.discriminator",
        ),
        (
            AdversarialStage(Stage(8, 8), perceptual=(PerceptualTerm(1.0, "alexnet", Path("none.pth")),)),
            r"stages\.2: .*none\.pth",
        ),
    ],
)
def test_what_a_later_stage_lacks_is_told_before_the_first(
    tmp_path: Path, stage: AdversarialStage, where: str
) -> None:
    pictures(tmp_path / "pictures")

    with pytest.raises((SpecError, ModelError), match=where):
        train(replace(job(tmp_path, "run"), stages=(*STAGES, stage)), Group())

    assert not (tmp_path / "run").exists()


def test_an_output_among_the_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="the output lies among the pictures"):
        replace(job(tmp_path, "run"), data=DataSettings((str(tmp_path),), 48))


def test_files_of_others_in_the_output_do_no_harm(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(job(tmp_path, "run"), Group(), is_over=lambda: True)
    (tmp_path / "run" / "checkpoints" / "mine.pt").write_bytes(b"mine")
    (tmp_path / "run" / "samples").mkdir(exist_ok=True)
    (tmp_path / "run" / "samples" / "mine.png").write_bytes(b"mine")

    assert train(job(tmp_path, "run"), Group())
    assert (tmp_path / "run" / "checkpoints" / "mine.pt").exists()


def test_the_signs_of_a_game_are_in_the_log(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(adversarial(tmp_path, "run"), Group())

    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"loss_scale"} <= [line for line in lines if "losses" in line][-1]["signs"].keys()


def test_the_best_weights_come_again_where_they_were_deleted(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    num_batches = 0

    def is_over() -> bool:
        nonlocal num_batches
        num_batches += 1
        return num_batches == 22

    train(job(tmp_path, "run"), Group(), is_over)
    (tmp_path / "run" / "best.safetensors").unlink()

    assert train(job(tmp_path, "run"), Group())
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_recipes_name_settings_one_by_one_and_files_without_their_folders() -> None:
    recipe = replace(
        job(Path("/films"), "run"),
        start="/films/weights/a.pth",
        stages=(
            AdversarialStage(Stage(8, 8), perceptual=(PerceptualTerm(1.0, "alexnet", Path("/x/n.pth")),)),
        ),
    ).recipe()

    assert recipe["start"] == "a.pth"
    assert recipe["network.signal"] == "rgb"
    assert recipe["stages.0.perceptual.0.weights"] == "n.pth"
    assert recipe["stages.0.adversarial.updates.learning_rates.generator"] == "0.0001"
    assert not [text for text in recipe.values() if "/" in text or "<" in text]


def test_a_teacher_changes_what_is_learnt_and_is_named_without_its_folder(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(job(tmp_path, "teacher"), Group())
    best = str(tmp_path / "teacher" / "best.safetensors")
    taught = replace(
        job(tmp_path, "taught"), stages=(replace(STAGES[1], teacher=TeacherWeights(best, weight=2.0)),)
    )

    train(taught, Group())
    train(replace(job(tmp_path, "alone"), stages=(STAGES[1],)), Group())

    alone, learnt = weights(tmp_path, "alone"), weights(tmp_path, "taught")
    assert not any(torch.equal(alone[key], learnt[key]) for key in alone if key.endswith("weight"))
    assert taught.recipe()["stages.0.teacher.weights"].startswith("best.safetensors, SHA-256 ")


def test_a_teacher_that_does_something_else_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    teacher, config = tmp_path / "x4.safetensors", EspcnConfig((8, 8), 4, Signal.RGB)
    teacher.write_bytes(pack_weights(ESPCN.build(config), ESPCN, config))
    stages = (STAGES[1], replace(STAGES[1], teacher=TeacherWeights(str(teacher))))

    with pytest.raises(SpecError, match=r"stages\.1\.teacher\.weights: .*scale"):
        train(replace(job(tmp_path, "run"), stages=stages), Group())


def test_of_two_runs_in_one_output_the_earlier_ends_and_the_later_is_whole(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(job(tmp_path, "whole"), Group())
    has_begun = list[bool]()

    def begin_another() -> bool:
        if not has_begun:
            has_begun.append(True)
            assert train(job(tmp_path, "run"), Group())
        return False

    with pytest.raises(StorageError, match=r"another run goes on in this output.*one at a time"):
        train(job(tmp_path, "run"), Group(), begin_another)

    for file in ("last.safetensors", "best.safetensors"):
        expected, got = weights(tmp_path, "whole", file), weights(tmp_path, "run", file)
        assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_other_weights_of_the_same_name_are_another_start(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    config = EspcnConfig((16, 8), 2, Signal.RGB)
    starts = [tmp_path / name / "best.safetensors" for name in ("first", "second")]
    for seed, start in enumerate(starts):
        start.parent.mkdir()
        torch.manual_seed(seed)
        start.write_bytes(pack_weights(ESPCN.build(config), ESPCN, config))
    asked = [replace(job(tmp_path, "run"), start=str(start)) for start in starts]
    train(asked[0], Group(), is_over=lambda: True)

    with pytest.raises(SpecError, match=r"run: start: .*got best\.safetensors, SHA-256"):
        train(asked[1], Group(), is_over=lambda: True)
    assert not train(asked[0], Group(), is_over=lambda: True)


def test_pictures_behind_a_link_stand_in_the_card(tmp_path: Path) -> None:
    pictures(tmp_path / "real")
    (tmp_path / "pictures").symlink_to(tmp_path / "real")

    train(job(tmp_path, "run"), Group(), is_over=lambda: True)

    (source,) = json.loads((tmp_path / "run" / "last.json").read_text())["sources"]
    assert source["num_pictures"] > 0


def test_asked_again_a_finished_run_keeps_its_figures(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures")
    train(job(tmp_path, "run"), Group())
    before = (tmp_path / "run" / "last.json").read_text()

    train(job(tmp_path, "run"), Group())

    assert "psnr_y" in before
    assert (tmp_path / "run" / "last.json").read_text() == before
