"""The command `train --adapt`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cluster.training.adapt as adapt
from jobs.cli import main
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.model import load_model
from sr_core.train.trainer import Stage
from sr_core.weights import pack_weights
from tests.cluster.training.filmed import write_film
from tests.sr_core.threads import one_thread


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a film, and a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("adapt")
    torch.manual_seed(0)
    config = EspcnConfig((8, 4), 2, Signal.RGB)
    (folder / "raw.safetensors").write_bytes(pack_weights(ESPCN.build(config), ESPCN, config))
    write_film(folder / "film.mp4")
    return folder


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = replace(adapt._STAGE, stage=Stage(320, 8, ema_decay=0.8), learning_rate=3e-3)
    monkeypatch.setattr(adapt, "_STAGE", stage)


def run(folder: Path, *arguments: str) -> int:
    places = (str(folder / "film.mp4"), "--model", str(folder / "raw.safetensors"))
    with one_thread(), pytest.raises(SystemExit) as caught:
        main(["train", "--adapt", *places, "--device", "cpu", *arguments])
    return int(caught.value.code or 0)


def test_footage_and_a_model_become_a_better_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--output", str(tmp_path / "out")) == 0
    told = capsys.readouterr()
    assert "the adapted model:" in told.out
    assert "gain:" in told.out
    assert "h264 at CRF" in told.err
    assert load_model(str(tmp_path / "out" / "adapted.safetensors")).facts.scale == 2


def test_time_that_is_over_before_anything_was_learnt_gives_no_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--output", str(tmp_path / "out"), "--minutes", "0.00001") == 0
    told = capsys.readouterr()
    assert "already as good" in told.out
    assert "the same command goes on" in told.err
    assert not (tmp_path / "out" / "adapted.safetensors").exists()


def test_a_plan_says_what_would_be_done_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--output", str(tmp_path / "out"), "--plan") == 0
    told = capsys.readouterr().out
    for words in ("espcn x2", "to learn from", "to confirm on", "320 images"):
        assert words in told
    assert not (tmp_path / "out").exists()


def test_a_sheet_of_the_first_crops_is_written(folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert run(folder, "--output", str(tmp_path / "out"), "--sheet", str(sheet)) == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--precision", "bf16"], "--precision: this flag means nothing with --adapt"),
        (["--minutes", "soon"], "--minutes: minutes: got 'soon'"),
        (["--model", "bicubic"], "cannot be adapted"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert run(folder, "--output", str(tmp_path / "out"), *arguments) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
