from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.clean import Cleaned
from cluster.manifest import Manifest
from cluster.storage import LocalStorage
from jobs.clean import clean, cleaned_text
from sr_core.errors import SpecError

LOOSE = "segments/0-0-000000/20200101T000000-aaaaaa-1.mp4"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    storage = LocalStorage(tmp_path / "out")
    storage.put(f".framelift/{LOOSE}", b"12345")
    storage.put("film.mp4", b"film")
    return tmp_path / "out"


def test_a_folder_is_cleaned_and_it_is_said_what_was_removed(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean(str(output), 86400.0, is_dry_run=True) == 0
    assert capsys.readouterr().out == "would remove 1 part; 0.0 MB of objects\n"
    assert clean(str(output), 86400.0, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["num_parts"], told["num_bytes"], told["is_dry_run"]) == (1, 5, False)
    assert [path.name for path in output.rglob("*") if path.is_file()] == ["film.mp4"]


def test_the_output_of_a_single_file_is_cleaned_where_its_state_lies(output: Path) -> None:
    assert clean(str(output / "film.mp4"), 86400.0) == 0
    assert not list(Manifest(LocalStorage(output)).listed())


def test_a_folder_that_no_job_wrote_to_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no job has written here"):
        clean(str(tmp_path), 86400.0)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_is_removed_that_is_said() -> None:
    assert cleaned_text(Cleaned(0, 0, 0, 0, 0, 0, 0, 0, 0), is_dry_run=False) == "nothing to remove"
