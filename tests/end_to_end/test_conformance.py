"""The conformance corpus through the real command, on a real local Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.conformance import all_cases
from tests.end_to_end.conftest import Framelift

# One case is expected to show what it does not.
_SPOILED = """
import sys
import tempfile
from dataclasses import replace
from cluster.video.corpus import cases
from jobs.conformance import conformance

case = next(case for case in cases.CASES if case.name == "container_mp4.mp4")
wrong = replace(case, expected=replace(case.expected, numbers=tuple(range(2, 12))))
cases.CASES = (wrong,)
if __name__ == "__main__":
    tempfile.tempdir = sys.argv[1]  # not TMPDIR, where Ray puts sockets of short paths
    sys.exit(conformance(None, ["container_mp4"]))
"""


def verdicts_in(printed: str) -> list[dict[str, Any]]:
    """The JSON at the beginning of what a command printed."""
    found, _ = json.JSONDecoder().raw_decode(printed)
    return found


@pytest.mark.slow
def test_cases_that_hold_give_exit_code_0(framelift: Framelift) -> None:
    names = ["container_mp4.mp4", "damage_text.mp4", "still_png_rgb.png"]
    only = [argument for name in names for argument in ("--only", name)]
    folder = framelift.folder / "kept"
    verdicts = verdicts_in(framelift("conformance", folder, *only, "--json"))
    assert [(verdict["case"], verdict["faults"]) for verdict in verdicts] == [(name, []) for name in names]
    assert sorted(path.name for path in (folder / "corpus").iterdir()) == sorted(names)
    assert (folder / "upscaled" / "container_mp4.mp4").is_file()


@pytest.mark.slow
def test_a_case_that_does_not_hold_gives_exit_code_3_and_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "spoiled.py"
    script.write_text(_SPOILED)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, str(script), str(scratch)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "FAILED" in done.stdout
    assert "0 of 1 cases hold" in done.stdout
    assert list(scratch.iterdir()) == []


def test_an_unknown_case_is_refused_with_the_nearest_names(framelift: Framelift) -> None:
    printed = framelift("conformance", "--only", "container_mp5", exit_code=2)
    assert "container_mp4" in printed


def test_a_folder_that_is_in_use_is_refused_and_left_as_it_is(framelift: Framelift) -> None:
    mine = framelift.folder / "corpus" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    framelift("conformance", framelift.folder, "--only", "container_mp4", "--no-keep", exit_code=2)
    assert mine.read_text() == "mine"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_corpus_holds(framelift: Framelift) -> None:
    verdicts = verdicts_in(framelift("conformance", "--json", timeout_s=850))
    assert {verdict["case"]: verdict["faults"] for verdict in verdicts if verdict["faults"]} == {}
    assert len(verdicts) == len(all_cases())
