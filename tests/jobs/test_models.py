from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import jobs.models
from jobs.cli import main
from jobs.models import find_model
from sr_core.archs import ARCHS
from sr_core.archs.compact import COMPACT, Compact, CompactConfig
from sr_core.card import Source, card_json, new_card
from sr_core.kernels import Kernel


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.pth"
    torch.save({"params": Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict()}, path)
    return path


def test_all_names_and_all_architectures_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert [name for name in Kernel if [name, "any"] not in rows] == []
    for arch in ARCHS:
        assert any(row[0] == arch.name and arch.paper.split()[0] in row for row in rows), arch.name


def test_a_weights_file_is_described(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", str(weights)) == 0
    said = {line[:18].strip(): line[18:].strip() for line in capsys.readouterr().out.splitlines()[1:]}
    assert said["architecture"] == "compact (arXiv:2107.10833)"
    assert said["published as"] == "framelift"
    assert said["hyper-parameters"].startswith(
        "CompactConfig(num_channels=3, num_feat=4, num_conv=1, scale=2"
    )
    assert said["scale"] == "2"
    assert said["parameters"] == f"{4 * 27 + 4 * 36 + 12 * 36 + 4 + 4 + 12 + 4 + 4:,}"
    assert (said["colours"], said["tiles"]) == ("rgb", "with a halo of 3 px")
    assert said["runs in"] == "float32, bfloat16, float16"
    assert len(said["sha256"]) == 64


def test_of_several_files_the_bad_ones_are_told_and_the_others_described(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a.weight": torch.zeros(2, 2)}, tmp_path / "none.pth")
    assert run("models", str(tmp_path / "none.pth"), str(weights)) == 2
    said = capsys.readouterr().out
    assert "no known architecture" in said
    assert "compact (arXiv:2107.10833)" in said


def test_a_scale_that_the_weights_contradict_is_told(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", str(weights), "--scale", "3") == 2
    assert "got scale 3; expected scale 2" in capsys.readouterr().out


def test_the_card_beside_weights_is_shown(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=2)
    card = replace(
        new_card(Compact(config), COMPACT, config),
        sources=(Source("gardens", 1200),),
        figures={"Set5": {"psnr_y": 36.512, "ssim_y": 0.95}},
        licence="CC0-1.0",
    )
    weights.with_suffix(".json").write_bytes(card_json(card))

    assert run("models", str(weights)) == 0
    said = {line[:18].strip(): line[18:].strip() for line in capsys.readouterr().out.splitlines()[1:]}
    assert said["figures"] == "Set5 psnr_y 36.51"
    assert said["learnt from"] == "gardens (1,200)"
    assert said["licence"] == "CC0-1.0"


def test_another_json_beside_weights_does_not_hide_what_they_are(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights.with_suffix(".json").write_text('{"name": "4x"}')

    assert run("models", str(weights)) == 0
    said = capsys.readouterr().out
    assert "compact (arXiv:2107.10833)" in said
    assert "not the card of a model" in said


def test_a_bundled_model_goes_by_its_name(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=2)
    card = replace(new_card(Compact(config), COMPACT, config), licence="Apache-2.0")
    weights.with_suffix(".json").write_bytes(card_json(card))
    monkeypatch.setattr(jobs.models, "BUNDLED", {"tiny-x2": weights})

    found = find_model("tiny-x2")
    assert (found.name, found.path) == ("tiny-x2", str(weights))
    assert found.sha256 == find_model(str(weights)).sha256
    assert run("models") == 0
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("tiny-x2")]
    assert row[:3] == ["tiny-x2", "2", "compact"]
    assert row[-1] == "Apache-2.0"
