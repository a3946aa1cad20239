from __future__ import annotations

from pathlib import Path

import pytest

from jobs.outputs import refuse_existing, written
from sr_core.errors import SpecError, StorageError


def test_files_are_kept_unless_the_command_may_replace_them_and_folders_always(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    refuse_existing([tmp_path / "new"], overwrite=False)
    refuse_existing([tmp_path / "file"], overwrite=True)

    with pytest.raises(SpecError, match=r"file: something stands there already.*--overwrite"):
        refuse_existing([tmp_path / "new", tmp_path / "file"], overwrite=False)
    with pytest.raises(SpecError, match="something stands there already"):
        refuse_existing([tmp_path], overwrite=True)


def test_outputs_in_buckets_are_refused() -> None:
    with pytest.raises(SpecError, match="the output lies on this machine"):
        refuse_existing([Path("s3://bucket/out.png")], overwrite=True)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.txt"
    with written(out) as part:
        part.write_text("old")
        assert not out.exists()
    assert out.read_text() == "old"

    with pytest.raises(TypeError), written(out) as part, part.open("w") as file:
        file.writelines(["ne", 3])  # type: ignore[list-item]

    assert [path.name for path in out.parent.iterdir()] == ["out.txt"]
    assert out.read_text() == "old"


def test_what_the_system_refuses_is_said_of_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    out, said = tmp_path / "file" / "out.txt", r"file/out\.txt: the file cannot be written"
    with pytest.raises(StorageError, match=said), written(out) as part:
        part.write_text("")
