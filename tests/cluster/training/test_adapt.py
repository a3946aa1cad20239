"""Adapting models to footage, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cluster.training.adapt as adapt
from cluster.training import TrainJob, train
from cluster.training.adapt import (
    Adaptable,
    Verdict,
    adaptable,
    footage_settings,
    job_of,
    judge,
    keep,
    with_footage,
)
from cluster.training.footage import Footage, FootageSettings, read_footage
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.signals import Signal
from sr_core.card import Source, new_card, read_card
from sr_core.errors import ModelError, SpecError
from sr_core.model import load_model
from sr_core.train.group import Group
from sr_core.train.trainer import Stage
from sr_core.weights import pack_weights
from tests.cluster.training.filmed import write_film
from tests.sr_core.threads import one_thread

DEVICE = torch.device("cpu")
FIGURES = {"psnr_y": 30.0, "ssim_y": 0.9}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("films") / "film.mp4")


@pytest.fixture(scope="module", params=[Signal.RGB, Signal.STUDIO_LUMA])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network that has learnt nothing."""
    torch.manual_seed(0)
    config = EspcnConfig((8, 4), 2, request.param)
    path = tmp_path_factory.mktemp("weights") / "raw.safetensors"
    path.write_bytes(pack_weights(ESPCN.build(config), ESPCN, config))
    return path


@pytest.fixture(scope="module")
def footage(film: Path) -> Footage:
    settings = FootageSettings((str(film),), scale=2, least_lr_px=16, num_pairs=24, seed=1)
    with one_thread():
        return read_footage(settings, lambda sentence: None)


def start_of(weights: Path) -> Adaptable:
    start = adaptable(str(weights), None)
    card = new_card(start.model.network, start.arch, start.model.origin.config)
    sources = (Source("photos", 7, "CC0", "somebody"),)
    return replace(start, card=replace(card, sources=sources, licence="CC BY 4.0"))


def prepared(
    weights: Path, footage: Footage, output: Path, monkeypatch: pytest.MonkeyPatch, rate: float = 3e-3
) -> tuple[Adaptable, TrainJob]:
    stage = replace(adapt._STAGE, stage=Stage(320, 8, ema_decay=0.8), learning_rate=rate)
    monkeypatch.setattr(adapt, "_STAGE", stage)
    monkeypatch.setattr(adapt, "_LR_CROP_PX", 16)
    start = start_of(weights)
    source = footage.pairs.names[0].partition(", at ")[0]
    job = job_of(start, footage_settings(start, [source], seed=1), str(output))
    return start, with_footage(job, footage)


@one_thread()
def test_a_model_that_gains_is_kept_with_a_card_that_says_what_it_is(
    weights: Path, footage: Footage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, job = prepared(weights, footage, tmp_path / "out", monkeypatch)
    assert train(job, Group())
    verdict = judge(start, footage, job, DEVICE)
    keep(start, job, verdict, str(tmp_path / "out"))
    assert verdict.is_better
    assert verdict.gain_db > 1
    model = load_model(str(tmp_path / "out" / "adapted.safetensors"))
    again = adapt._mean(adapt._figures(model, footage.pairs.only(footage.parts.confirming), DEVICE))
    assert again["psnr_y"] == pytest.approx(verdict.after["psnr_y"], abs=1e-4)
    card = read_card((tmp_path / "out" / "adapted.json").read_bytes(), "card")
    assert card.licence == "CC BY 4.0"
    assert [source.name for source in card.sources] == ["photos", "film.mp4"]
    assert card.recipe["adapted from"] == "raw.safetensors"
    assert card.recipe["adapted from SHA-256"] == start.model.weights_sha256
    assert card.figures["held-out footage"]["psnr_y"] > card.figures["held-out footage, before"]["psnr_y"]
    assert str(tmp_path) not in (tmp_path / "out" / "adapted.json").read_text()


@one_thread()
def test_where_nothing_is_gained_nothing_is_written(
    weights: Path, footage: Footage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, job = prepared(weights, footage, tmp_path / "out", monkeypatch, rate=1e-12)
    assert train(job, Group())
    verdict = judge(start, footage, job, DEVICE)
    keep(start, job, verdict, str(tmp_path / "out"))
    assert not verdict.is_better
    assert not list((tmp_path / "out").glob("adapted.*"))


@one_thread()
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    weights: Path, footage: Footage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for name, stops in (("whole", ()), ("stopped", (7,))):
        _, job = prepared(weights, footage, tmp_path / name, monkeypatch)
        for stop in stops:
            batches = iter(range(stop))
            assert not train(job, Group(), lambda batches=batches: next(batches, None) is None)
        assert train(job, Group())
        contents.append((tmp_path / name / "training" / "last.safetensors").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("verdict", "is_better"),
    [
        (Verdict(0.5, FIGURES, {"psnr_y": 30.1, "ssim_y": 0.9}, 0.1, 0.05, 0.1), True),
        (Verdict(0.5, FIGURES, {"psnr_y": 30.1, "ssim_y": 0.9}, 0.1, 0.05, 0.001), False),
        (Verdict(0.5, FIGURES, {"psnr_y": 30.1, "ssim_y": 0.9}, 0.1, 0.15, 0.1), False),
        (Verdict(0.5, FIGURES, {"psnr_y": 30.1, "ssim_y": 0.89}, 0.1, 0.05, 0.1), False),
        (Verdict(0.5, FIGURES, {"psnr_y": 29.9, "ssim_y": 0.91}, -0.1, 0.05, -0.1), False),
        (Verdict(0.5, FIGURES, {"psnr_y": 30.01, "ssim_y": 0.9}, 0.01, 0.001, 0.01), False),
        (Verdict(0.0, FIGURES, FIGURES, 0.0, 0.0, 0.0), False),
    ],
)
def test_a_gain_counts_where_it_is_clear_seen_and_not_paid_for(verdict: Verdict, is_better: bool) -> None:
    assert verdict.is_better is is_better


def test_interpolation_has_nothing_to_adapt() -> None:
    with pytest.raises(ModelError, match="cannot be adapted"):
        adaptable("bicubic", None)


def test_an_output_within_the_footage_is_refused(weights: Path, tmp_path: Path) -> None:
    start = adaptable(str(weights), None)
    with pytest.raises(SpecError, match="would be trained on"):
        job_of(start, footage_settings(start, [str(tmp_path)], 0), str(tmp_path / "out"))


def test_the_model_itself_is_never_written_over(weights: Path, tmp_path: Path) -> None:
    own = tmp_path / "adapted.safetensors"
    own.write_bytes(weights.read_bytes())

    with pytest.raises(SpecError, match=r"output: .*written over the one that it comes from"):
        job_of(adaptable(str(own), None), FootageSettings(("film.mp4",), scale=2), str(tmp_path))
