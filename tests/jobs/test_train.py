"""The command `train`, over whole runs on a few pictures."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from jobs.cli import main
from jobs.models import find_model
from jobs.train import Stop, job_of
from jobs.train_plan import training_bytes
from jobs.train_spec import TrainSpec, network_of
from jobs.train_view import TrainView
from sr_core.archs.espcn import EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.errors import ModelError
from sr_core.model import load_model
from tests.cluster.training.test_run import pictures
from tests.sr_core.threads import one_thread

ROOT = Path(__file__).parents[2]
SPEC = """
output: {output}
network: {{arch: espcn, num_feats: [8, 4], signal: rgb}}
data: {{train: [{pictures}]}}
validation: {{share: 0.25}}
crops: {{lr_px: 16}}
stages:
  - {{kind: pixel, images: {images}, batch: 8, learning_rate: 2e-3}}
  - {{kind: pixel, images: 80, batch: 8, losses: {{mse: 1}}}}
cadence: {{log: 5, validate: 20, checkpoint: 50}}
workers: {{device: cpu}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With pictures to train on."""
    return pictures(tmp_path_factory.mktemp("train") / "pictures").parent


def spec(folder: Path, output: Path, images: int = 160) -> Path:
    path = output.with_suffix(".yaml")
    path.write_text(SPEC.format(output=output, pictures=folder / "pictures", images=images))
    return path


def run(*arguments: str | Path) -> int:
    with one_thread(), pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def weights(output: Path, name: str = "last.safetensors") -> dict[str, torch.Tensor]:
    return load_file(output / name)


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_makes_weights_that_upscale_takes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", spec(folder, tmp_path / "run")) == 0

    best = tmp_path / "run" / "best.safetensors"
    captured = capsys.readouterr()
    assert captured.out == f"done; the best weights: {best}\n"
    assert "240 images: " in captured.err
    assert find_model(str(best)).sha256
    origin = load_model(str(best)).origin
    assert origin is not None
    assert origin.config == EspcnConfig((8, 4), 2, Signal.RGB)


def test_a_run_that_is_told_to_stop_goes_on_to_the_weights_of_one_that_was_not(
    folder: Path, tmp_path: Path
) -> None:
    path = spec(folder, tmp_path / "broken", images=800)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jobs.train", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as broken:
        assert broken.stderr is not None
        told = ""
        while "images, " not in told:
            told = broken.stderr.readline()
            assert told, "it ended before it trained"
        broken.send_signal(signal.SIGTERM)
        rest = broken.stderr.read()

    assert broken.returncode == 130
    assert "the same command goes on from there" in rest
    assert (tmp_path / "broken" / "last.safetensors").exists()
    assert run("train", path) == 0
    assert run("train", spec(folder, tmp_path / "whole", images=800)) == 0
    for name in ("last.safetensors", "best.safetensors"):
        assert_equal(weights(tmp_path / "broken", name), weights(tmp_path / "whole", name))


def test_a_run_whose_time_is_over_is_no_failure_and_goes_on_later(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(folder, tmp_path / "run")

    assert run("train", path, "--minutes", "1e-6") == 0
    assert "stopped for now with a checkpoint; the same command goes on" in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "run" / "checkpoints").glob("*.pt")] == ["000000000008.pt"]
    assert run("train", path) == 0
    assert "goes on from image 8" in capsys.readouterr().err


def test_a_plan_says_what_a_stage_against_a_discriminator_makes_small(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(folder, tmp_path / "run")
    game = "{loss: hinge, discriminator: patch, updates: {rule: gem}}"
    text = path.read_text().replace("losses: {mse: 1}}", f"losses: {{mse: 1}}, game: {game}}}")
    path.write_text(text.replace("- {kind: pixel, images: 80", "- {kind: adversarial, images: 80"))

    assert run("train", path, "--plan") == 0

    assert "1 mse + 0.1 hinge against patch (gem)" in " ".join(capsys.readouterr().out.split())


def test_a_sheet_shows_crops_beside_what_the_network_gets_of_them_and_trains_nothing(
    folder: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    assert run("train", spec(folder, tmp_path / "run"), "--sheet", sheet) == 0

    with Image.open(sheet) as shown:
        cell = np.asarray(shown)[4:36, 4:68].astype(int)
    truth, got = cell[:, :32], cell[:, 32:]
    assert np.array_equal(got[::2], got[1::2])
    assert np.array_equal(got[:, ::2], got[:, 1::2])
    assert 0 < np.abs(truth - got).mean() < 30
    assert not (tmp_path / "run").exists()
    assert run("train", spec(folder, tmp_path / "run"), "--sheet", sheet) == 2, "it stands there already"


def test_a_plan_says_what_would_be_done_and_does_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", spec(folder, tmp_path / "run"), "--plan") == 0

    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"pictures \d to train on, \d set aside, 0 left out", told)
    assert "network espcn, scale 2" in told
    assert "parameters 1,344" in told
    assert "stage 0 160 images; 20 batches of 8; 1 l1; learning rate 0.002, cosine" in told
    assert "stage 1 80 images; 10 batches of 8; 1 mse" in told
    assert not (tmp_path / "run").exists()


def planned_bytes(batch: int, parts: int = 1) -> int:
    asked = {
        "output": "run",
        "start": "weights.pth",
        "data": {"train": ("pictures",)},
        "crops": {"lr_px": 16},
        "stages": ({"kind": "pixel", "batch": batch},),
        "numerics": {"parts": parts},
    }
    job = TrainSpec.model_validate(asked).job(network_of("espcn", EspcnConfig((8, 4), 2, Signal.RGB)))
    return training_bytes(job, job.stages[0].stage)


def test_a_plan_counts_what_a_part_of_a_batch_keeps_for_the_backward_pass() -> None:
    of_one = planned_bytes(2) - planned_bytes(1)

    assert of_one >= 4 * 16 * 16 * (8 + 4 + 3 * 4)  # what follows each tanh, and the result
    assert of_one <= 4 * 20 * 20 * 2 * (3 + 8 + 4 + 3 * 4)  # all of it twice, with the paddings
    assert planned_bytes(8) - planned_bytes(1) == 7 * of_one
    assert planned_bytes(8, parts=4) == planned_bytes(2)


def test_a_run_without_a_network_takes_that_of_the_weights_it_starts_from(
    folder: Path, tmp_path: Path
) -> None:
    assert run("train", spec(folder, tmp_path / "first")) == 0
    path = spec(folder, tmp_path / "second")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("network")))

    assert run("train", path, "--start", tmp_path / "first" / "last.safetensors") == 0
    assert find_model(str(tmp_path / "second" / "last.safetensors")).sha256


def test_weights_to_start_from_that_are_not_there_end_it_before_anything_runs(tmp_path: Path) -> None:
    asked = {"output": "run", "start": str(tmp_path / "none.pth"), "data": {"train": ("pictures",)}}

    with pytest.raises(ModelError):
        job_of(TrainSpec.model_validate(asked))


def test_mistakes_exit_with_2_and_pictures_that_are_not_there_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec(tmp_path, tmp_path / "run")

    assert run("train", path, "--seed", "x", "--device", "gpu") == 2
    assert "error: 2 mistakes, nothing was run" in capsys.readouterr().err
    assert run("train", path) == 2
    assert "there is neither an image nor a video here" in capsys.readouterr().err


def test_the_first_signal_asks_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop.is_over()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_over()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_before_the_first_batch_one_signal_ends() -> None:
    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert not stop.is_asked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_fast_it_goes_below_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Stop() as stop, TrainView(stop) as view:
        is_over = view.counting(stop.is_over)
        view.tell("8 images\x1b[2J")
        assert not is_over()
        assert not is_over()
        assert re.search(r"2 batches · \S+ a second · Ctrl-C stops", view.line().plain)
        signal.raise_signal(signal.SIGINT)
        assert is_over()
        assert "Ctrl-C once more ends at once" in view.line().plain

    assert "8 images�[2J" in stream.getvalue()


IMAGES = """
output: {output}
network: {{arch: vae, image_px: 16, num_latent: 4, widths: [8, 16]}}
data: {{train: [{pictures}]}}
validation: {{share: 0.25}}
stages: [{{kind: elbo, images: 48, batch: 8}}]
cadence: {{log: 2}}
workers: {{device: cpu}}
"""


def test_a_trained_auto_encoder_makes_images_and_begins_another_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vae.yaml"
    path.write_text(IMAGES.format(output=tmp_path / "vae", pictures=folder / "pictures"))
    best = tmp_path / "vae" / "best.safetensors"

    assert run("train", path, "--plan", "--sheet", tmp_path / "sheet.png") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "vae, coloured pictures of 16x16 to and from 4 numbers" in told
    assert "1 negative ELBO with a deviation of 0.1" in told
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert run("train", path) == 0
    assert run("generate", best, tmp_path / "made", "--count", "2") == 0
    assert len(list((tmp_path / "made").glob("*.png"))) == 2

    other = tmp_path / "other.yaml"
    text = IMAGES.format(output=tmp_path / "other", pictures=folder / "pictures")
    other.write_text("".join(line for line in text.splitlines(keepends=True) if "network" not in line))
    assert run("train", other, "--start", best) == 0
    assert weights(tmp_path / "other").keys() == weights(tmp_path / "vae").keys()


CLASSES = """
output: {folder}/classes
network: {{arch: classifier, image_px: 16, widths: [4, 8]}}
data: {{train: [{folder}/pictures, {folder}/others]}}
stages: [{{kind: cross-entropy, images: 64, batch: 8}}]
workers: {{device: cpu}}
"""
PERCEPTUAL = """
output: {folder}/perceptual
network: {{arch: espcn, num_feats: [8, 4], signal: {signal}}}
data: {{train: [{folder}/pictures]}}
crops: {{lr_px: 16}}
stages:
  - kind: adversarial
    images: 16
    batch: 8
    perceptual: [{{network: classifier, weights: {folder}/classes/best.safetensors}}]
    game: {{num_feat: 4}}
workers: {{device: cpu}}
"""


def test_a_trained_classifier_is_a_perceptual_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pictures", "others"):
        pictures(tmp_path / name)
    for index, path in enumerate(sorted((tmp_path / "others").iterdir())):
        turned = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        turned.point([code // 2 + index for code in range(256)] * 3).save(path)
    for name, text in (("classes", CLASSES), ("rgb", PERCEPTUAL), ("luma", PERCEPTUAL)):
        (tmp_path / f"{name}.yaml").write_text(
            text.format(folder=tmp_path, signal="rgb" if name == "rgb" else "studio luma")
        )

    assert run("train", tmp_path / "classes.yaml") == 0
    assert run("train", tmp_path / "rgb.yaml") == 0
    assert (tmp_path / "perceptual" / "best.safetensors").exists()
    capsys.readouterr()
    assert run("train", tmp_path / "luma.yaml", "--plan") == 2
    assert "trained on other pictures got: 3 channels" in " ".join(capsys.readouterr().err.split())
