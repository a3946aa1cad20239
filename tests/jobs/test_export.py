"""`framelift export`: weights of runs and of anyone, with what is known of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.storage import open_storage
from jobs.cli import main
from jobs.evaluation.record import Environment, Record, write_json
from sr_core.archs.compact import COMPACT, Compact, CompactConfig
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.card import Card, Source, card_json, new_card, read_card
from sr_core.model import load_model
from sr_core.weights import pack_weights
from tests.sr_core.threads import one_thread
from tests.stores.s3_server import credentials, new_bucket, s3_server

CONFIG = EspcnConfig((8, 4), 2)


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    return ended.value.code


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    """What training leaves: best and last weights, which differ, each with a card."""
    folder = tmp_path / "run"
    folder.mkdir()
    for seed, name in enumerate(("best", "last")):
        torch.manual_seed(seed)
        network = ESPCN.build(CONFIG)
        card = replace(
            new_card(network, ESPCN, CONFIG),
            sources=(Source("gardens", 7),),
            recipe={"seed": "5"},
            num_images=8000 + seed,
            figures={"validation": {"psnr_y": 31.5, "ssim_y": 0.9}},
        )
        (folder / f"{name}.safetensors").write_bytes(pack_weights(network, ESPCN, CONFIG))
        (folder / f"{name}.json").write_bytes(card_json(card))
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """As anyone publishes them."""
    torch.manual_seed(0)
    path = tmp_path / "tiny.pth"
    torch.save({"params": Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict()}, path)
    return path


def card_of(output: Path) -> Card:
    return read_card(output.with_suffix(".json").read_bytes(), str(output))


def record(model: Path, data: str, psnr_y: float, degradation: str = "bicubic") -> Record:
    return Record(
        model=model.name,
        data=data,
        scale=2,
        degradation=degradation,
        psnr_y=psnr_y,
        ssim_y=0.95,
        psnr_rgb=None,
        lpips=0.1,
        consistency=50.0,
        parameters=1,
        macs=None,
        seconds_per_megapixel=0.1,
        warping_error=None,
        warping_error_of_truth=None,
        weights_sha256=load_model(str(model)).weights_sha256,
        images=(),
        environment=Environment("cpu", "fp32", "rgb", None, {}),
    )


@pytest.mark.parametrize(("flags", "name", "num_images"), [((), "best", 8000), (("--last",), "last", 8001)])
def test_of_a_run_the_weights_come_with_their_card(
    a_run: Path, tmp_path: Path, flags: tuple[str, ...], name: str, num_images: int
) -> None:
    output = tmp_path / "garden-x2.safetensors"

    assert run(a_run, output, "--licence", "CC0-1.0", *flags) == 0

    expected, got = load_file(a_run / f"{name}.safetensors"), load_file(output)
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    told = read_card((a_run / f"{name}.json").read_bytes(), name)
    assert card_of(output) == replace(told, licence="CC0-1.0")
    assert told.num_images == num_images
    assert "# garden-x2" in output.with_suffix(".md").read_text()
    assert load_model(str(output)).origin == load_model(str(a_run / f"{name}.safetensors")).origin


def test_anyones_weights_get_a_card_with_what_they_tell(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "tiny.safetensors"

    assert run(weights, output) == 0

    card = card_of(output)
    assert (card.arch, card.scale, card.sources, card.num_images) == ("compact", 2, (), None)
    assert "compact x2" in capsys.readouterr().out
    frames = torch.rand(1, 3, 12, 16)
    with torch.inference_mode():
        networks = [load_model(str(path)).network for path in (weights, output)]
        assert torch.equal(networks[0](frames), networks[1](frames))


def test_half_precision_halves_the_weights_and_is_told(a_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "half.safetensors"

    assert run(a_run, output, "--half") == 0

    expected, got = load_file(a_run / "best.safetensors"), load_file(output)
    assert all(torch.equal(expected[key].half(), got[key]) for key in expected)
    assert card_of(output).dtype == "float16"
    assert load_model(str(output)).facts == load_model(str(a_run / "best.safetensors")).facts


def test_a_weight_that_half_precision_does_not_hold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Compact(CompactConfig(num_feat=4, num_conv=1, scale=2))
    with torch.no_grad():
        network.body[0].bias[0] = 1e6
    torch.save(network.state_dict(), tmp_path / "large.pth")

    assert run(tmp_path / "large.pth", tmp_path / "half.safetensors", "--half") == 2
    assert "too large for half precision" in capsys.readouterr().err
    assert not (tmp_path / "half.safetensors").exists()
    assert not (tmp_path / "half.json").exists()


def test_figures_of_these_weights_alone_go_into_the_card(a_run: Path, tmp_path: Path) -> None:
    best, output = a_run / "best.safetensors", tmp_path / "garden.safetensors"
    records = [
        record(a_run / "last.safetensors", "Set5", 20.0),
        record(best, "Set5", 36.5),
        record(best, "Set14", 32.0, "jpeg"),
    ]
    write_json(records, tmp_path / "figures.json")

    assert run(a_run, output, "--figures", tmp_path / "figures.json") == 0

    assert card_of(output).figures == {
        "validation": {"psnr_y": 31.5, "ssim_y": 0.9},
        "Set5": {"psnr_y": 36.5, "ssim_y": 0.95, "lpips": 0.1},
        "Set14, jpeg": {"psnr_y": 32.0, "ssim_y": 0.95, "lpips": 0.1},
    }


def test_figures_of_other_weights_or_none_at_all_are_refused(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json([record(a_run / "last.safetensors", "Set5", 20.0)], tmp_path / "figures.json")
    (tmp_path / "odd.json").write_text("[1, 2]")

    for figures in ("figures.json", "odd.json", "missing.json"):
        assert run(a_run, tmp_path / "x.safetensors", "--figures", tmp_path / figures) == 2
    said = capsys.readouterr().err
    assert "no figures of these weights" in said
    assert "these are not figures" in said
    assert "the figures cannot be read" in said


def test_a_card_of_other_weights_is_not_believed(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=2)
    (a_run / "best.json").write_bytes(card_json(new_card(COMPACT.build(config), COMPACT, config)))

    assert run(a_run, tmp_path / "x.safetensors") == 2
    assert "card beside the weights is of other ones" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["empty", "empty/none.pth", "bicubic"])
def test_what_holds_no_weights_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    assert run(source, tmp_path / "x.safetensors", "--scale", 2) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_output_of_another_kind_or_that_stands_there_is_refused(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(a_run, tmp_path / "x.pth") == 2
    assert "expected: .safetensors or .onnx" in capsys.readouterr().err

    (tmp_path / "x.json").write_text("mine")
    assert run(a_run, tmp_path / "x.safetensors") == 2
    assert (tmp_path / "x.json").read_text() == "mine"
    assert run(a_run, tmp_path / "x.safetensors", "--overwrite") == 0
    assert json.loads((tmp_path / "x.json").read_text())["arch"] == "espcn"


def test_a_run_in_a_bucket_is_exported_to_this_machine(a_run: Path, tmp_path: Path) -> None:
    with credentials(), s3_server() as endpoint_url:
        url = f"s3://{new_bucket(endpoint_url)}/run?endpoint_url={endpoint_url}"
        for path in a_run.iterdir():
            open_storage(url).put(path.name, path.read_bytes())

        assert run(url, tmp_path / "garden.safetensors") == 0

    assert card_of(tmp_path / "garden.safetensors").num_images == 8000


@pytest.mark.slow
@one_thread()
def test_an_onnx_file_comes_with_the_same_card(a_run: Path, tmp_path: Path) -> None:
    assert run(a_run, tmp_path / "garden.onnx") == 0

    assert card_of(tmp_path / "garden.onnx") == read_card((a_run / "best.json").read_bytes(), "best")
    assert (tmp_path / "garden.onnx").stat().st_size > 1000
