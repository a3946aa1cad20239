from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.cli import main
from sr_core.archs import ARCHS
from sr_core.archs.compact import Compact, CompactConfig
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
