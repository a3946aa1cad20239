from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import jobs.models
from jobs.cli import main
from jobs.models import Choice, choose_model, find_model, with_model
from jobs.spec import UpscaleSpec
from sr_core.archs import ARCHS
from sr_core.archs.compact import COMPACT, Compact, CompactConfig
from sr_core.blend import Blend
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
        sources=(Source("gardens", 1200), Source("towns", 7, "CC-BY-4.0", "Ada | AUTHORS.md")),
        figures={"Set5": {"psnr_y": 36.512, "ssim_y": 0.95}},
        licence="CC0-1.0",
    )
    weights.with_suffix(".json").write_bytes(card_json(card))

    assert run("models", str(weights)) == 0
    said = [(line[:18].strip(), line[18:].strip()) for line in capsys.readouterr().out.splitlines()[1:]]
    assert said[-4:] == [
        ("figures", "Set5 psnr_y 36.51"),
        ("learnt from", "gardens (1,200)"),
        ("learnt from", "towns (7): CC-BY-4.0; Ada | AUTHORS.md"),
        ("licence", "CC0-1.0"),
    ]


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


@pytest.fixture
def bundled(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of `fast-x2`, the only bundled model."""
    monkeypatch.setattr(jobs.models, "BUNDLED", {"fast-x2": weights})
    return weights


def spec(**asked: object) -> UpscaleSpec:
    return UpscaleSpec.model_validate({"input": "in", "output": "out", **asked})


@pytest.mark.parametrize("asked", [{}, {"scale": 2}, {"height": 1080}, {"model": "auto"}])
def test_where_no_model_is_named_the_bundled_one_is_taken(bundled: Path, asked: dict[str, object]) -> None:
    choice = choose_model(spec(**asked))
    assert choice.name == "fast-x2"
    assert str(choice).startswith("model: fast-x2 (none is named: this one is bundled")
    assert find_model(with_model(spec(**asked), choice).model) == replace(
        find_model(str(bundled)), name="fast-x2"
    )


@pytest.mark.parametrize("scale", [1, 3, 4, 16])
def test_a_scale_that_no_bundled_model_makes_gets_lanczos_and_is_told(bundled: Path, scale: int) -> None:
    choice = choose_model(spec(scale=scale))
    assert choice.name == "lanczos"
    assert f"no bundled model makes x{scale}" in choice.why
    assert "--model FILE" in choice.why
    assert "--height, which fast-x2 is fitted to" in choice.why


@pytest.mark.parametrize("asked", [{}, {"scale": 2}, {"height": 1080}])
def test_without_bundled_models_it_is_lanczos_and_told(
    asked: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.models, "BUNDLED", {})
    choice = choose_model(spec(**asked))
    assert choice.name == "lanczos"
    assert "no bundled model makes x2" in choice.why
    assert "fast-x2" not in choice.why


@pytest.mark.parametrize("name", ["lanczos", "fast-x2", "weights.pth"])
def test_a_model_that_is_named_is_taken_without_a_word(bundled: Path, name: str) -> None:
    choice = choose_model(spec(model=name, scale=4))
    assert (choice, str(choice)) == (Choice(name), f"model: {name}")


def test_which_model_is_taken_does_not_depend_on_devices(bundled: Path) -> None:
    asked = [spec(workers=workers) for workers in ({}, {"device": "cpu"}, {"device": "cuda", "gpus": 1})]
    assert {choose_model(each).name for each in asked} == {"fast-x2"}


def test_the_list_says_which_model_is_taken_where_none_is_named(
    bundled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=2)
    bundled.with_suffix(".json").write_bytes(card_json(new_card(Compact(config), COMPACT, config)))
    assert run("models") == 0
    said = capsys.readouterr().out
    assert "Where no model is named, fast-x2 makes x2, and lanczos any other scale." in said


def test_weights_are_blended_with_a_bundled_model_by_its_name(bundled: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    tuned = tmp_path / "tuned.pth"
    torch.save({"params": Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict()}, tuned)
    by_name = find_model(str(tuned), blend=Blend("fast-x2", 0.25))
    assert by_name == find_model(str(tuned), blend=Blend(str(bundled), 0.25))
    assert by_name.weights_sha256 not in (by_name.sha256, find_model("fast-x2").sha256)
