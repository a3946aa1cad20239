"""Whether a process sees what every worker must."""

from __future__ import annotations

from pathlib import Path

from cluster.sight import Sight, refusal
from cluster.storage import LocalStorage
from sr_core.errors import SpecError, StorageError


def test_an_object_is_seen_only_at_its_version(tmp_path: Path) -> None:
    info = LocalStorage(tmp_path).put("films/a.mp4", b"film")
    url = str(tmp_path)
    assert refusal([Sight(url, "films/a.mp4", info.version), Sight(url, "films/a.mp4")]) is None
    for sight in (Sight(url, "films/b.mp4"), Sight(url, "films/a.mp4", "another")):
        error = refusal([sight])
        assert isinstance(error, SpecError)
        assert str(tmp_path / sight.key) in error.where
        assert "shared folder" in error.next_step


def test_a_store_that_fails_is_told_with_the_machine(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    error = refusal([Sight(str(tmp_path), "loop")])
    assert isinstance(error, StorageError)
    assert " on " in error.where
