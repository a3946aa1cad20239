"""The independent check of a whole folder: what the report says is so, and nothing else lies there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.end_to_end import independent
from tests.end_to_end.independent import Report, read_report
from tests.end_to_end.independent.folders import check_report
from tests.end_to_end.independent.report import Outcome

pytestmark = pytest.mark.skipif(not independent.have_ffmpeg(), reason="ffmpeg and ffprobe are not installed")


def outcome(source: str, state: str = "done", output: str = "", **more: Any) -> dict[str, Any]:
    return {"source": source, "output": output or source, "state": state, **more}


@pytest.fixture
def job(tmp_path: Path) -> tuple[Path, Path]:
    """Two images, a broken one and a text; the outputs of the images, and what a job leaves beside them."""
    source, output = tmp_path / "in", tmp_path / "out"
    for folder in (source / "sub", output / "sub", output / ".framelift" / "runs"):
        folder.mkdir(parents=True)
    gradient = Image.linear_gradient("L").resize((16, 12), Image.Resampling.BOX)
    for name in ("a.png", "sub/b.webp"):
        gradient.save(source / name, lossless=True)
        gradient.resize((32, 24), Image.Resampling.BICUBIC).save(output / name, lossless=True)
    (source / "broken.png").write_bytes(b"not an image")
    (source / "notes.txt").write_text("to be ignored")
    (output / ".framelift" / "runs" / "1.json").write_text("{}")
    return source, output


GOOD = [outcome("a.png"), outcome("broken.png", "failed", reason="it is no image"), outcome("sub/b.webp")]


def found(
    job: tuple[Path, Path], outcomes: list[dict[str, Any]], exit_code: int = 3, **more: Any
) -> set[str]:
    source, output = job
    content = {"job_id": "j", "outcomes": outcomes, "ignored": ["notes.txt"], "stopped": "", **more}
    (output / "report.json").write_text(json.dumps(content))
    report = read_report(output / "report.json")
    return {fault.key for fault in check_report(source, output, report, exit_code).faults}


def test_true_report_has_no_faults(job: tuple[Path, Path]) -> None:
    assert found(job, GOOD) == set()


def test_every_input_needs_exactly_one_outcome(job: tuple[Path, Path]) -> None:
    assert "inputs" in found(job, GOOD[:2])
    assert "inputs" in found(job, [*GOOD, GOOD[0]])
    assert "inputs" in found(job, [*GOOD, outcome("ghost.png", "failed", reason="?")])
    assert "inputs" in found(job, GOOD, ignored=[])
    assert "inputs" in found(job, GOOD[:2], ignored=["notes.txt", "sub/b.webp"])


def test_outputs_are_those_of_the_report_and_no_others(job: tuple[Path, Path]) -> None:
    _, output = job
    (output / "sub" / "b.webp").rename(output / "b.webp")

    assert found(job, GOOD) == {"outputs"}

    (output / "b.webp").rename(output / "sub" / "b.webp")
    (output / "a.png.part").touch()
    assert found(job, GOOD) == {"outputs"}


def test_output_of_another_name_or_of_a_failure_is_a_fault(job: tuple[Path, Path]) -> None:
    _, output = job
    moved = [*GOOD[:2], outcome("sub/b.webp", output="sub/b.png")]
    (output / "sub" / "b.webp").rename(output / "sub" / "b.png")

    assert found(job, moved) == {"outputs"}

    (output / "sub" / "b.png").rename(output / "sub" / "b.webp")
    (output / "broken.png").touch()
    assert found(job, GOOD) == {"outputs"}


def test_states_reasons_and_exit_code_agree(job: tuple[Path, Path]) -> None:
    span = {"start_s": 0, "end_s": 1, "num_frames": 25}

    assert found(job, GOOD, exit_code=0) == {"exit code"}
    assert found(job, GOOD, exit_code=4) == {"exit code"}
    assert found(job, GOOD, exit_code=4, stopped="the store is gone") == set()
    assert found(job, [outcome("broken.png", "failed"), GOOD[0], GOOD[2]]) == {"state"}
    assert found(job, [outcome("a.png", missing=[span]), *GOOD[1:]]) == {"state"}
    assert found(job, [outcome("a.png", "splendid"), *GOOD[1:]]) >= {"state"}


def test_film_may_change_its_suffix_and_an_image_not() -> None:
    films = Report((Outcome("a.avi", "a.mkv"), Outcome("b.ts", "c.mp4"), Outcome("d.jpg", "d.png")))
    verdict = check_report(Path("in.avi"), Path("out"), films, None)

    assert [fault.text for fault in verdict.faults] == ["b.ts became c.mp4", "d.jpg became d.png"]


def test_command_judges_a_folder_by_its_report(
    job: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = job
    assert found(job, GOOD) == set()

    assert independent.main([str(source), str(output), "--exit-code", "3"]) == 0

    with Image.open(output / "a.png") as image:
        flipped = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    flipped.save(output / "a.png")
    (output / "stray.txt").touch()
    capsys.readouterr()
    assert independent.main([str(source), str(output), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    keys = {fault["key"] for verdict in told for fault in verdict["faults"]}
    assert keys >= {"content", "outputs"}


def test_command_pairs_without_a_report(job: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, output = job
    (source / "broken.png").unlink()

    assert independent.main([str(source), str(output)]) == 0

    (output / "sub" / "b.webp").unlink()
    assert independent.main([str(source), str(output)]) == 1
    assert "FAULT missing" in capsys.readouterr().out
