"""The contract of `Storage`, over every implementation."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cluster.storage import LocalStorage, Storage, open_storage
from cluster.storage.memory import MemoryStorage
from sr_core.errors import MediaError, SourceChanged, StorageError
from tests.stores.s3_server import new_bucket


@pytest.fixture(params=["memory", "local", "s3", pytest.param("radosgw", marks=pytest.mark.ceph)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    match request.param:
        case "memory":
            return MemoryStorage()
        case "local":
            return LocalStorage(tmp_path / "store")
    endpoint_url: str = request.getfixturevalue(f"{request.param}_endpoint")
    return open_storage(f"s3://{new_bucket(endpoint_url)}/some/prefix?endpoint_url={endpoint_url}")


def test_what_was_put_is_got_whole(storage: Storage) -> None:
    storage.put("a/b.json", b"content")
    assert storage.get("a/b.json") == b"content"


def test_put_replaces_the_whole_object_and_its_version(storage: Storage) -> None:
    first = storage.put("key", b"a long first content")
    second = storage.put("key", b"short")
    assert storage.get("key") == b"short"
    assert first.version != second.version
    assert storage.head("key") == second


def test_put_returns_what_a_listing_shows(storage: Storage) -> None:
    stored = storage.put("folder/key", b"1234")
    assert stored.size_bytes == 4
    assert list(storage.list("folder/")) == [stored]


def test_a_missing_object_is_none_and_not_an_error(storage: Storage) -> None:
    storage.put("there/a", b"")
    assert storage.get("missing") is None
    assert storage.head("missing") is None
    assert storage.get("there/a/below-a-file") is None
    assert storage.head("there") is None


def test_put_file_consumes_the_file(storage: Storage) -> None:
    path = storage.scratch_dir() / "part"
    path.write_bytes(b"pixels")
    storage.put_file("segments/one", path)
    assert storage.get("segments/one") == b"pixels"
    assert not path.exists()


def test_an_object_can_be_read_as_a_file(storage: Storage) -> None:
    storage.put("segments/one", b"pixels")
    with storage.as_file("segments/one") as path:
        assert path.read_bytes() == b"pixels"
    assert storage.get("segments/one") == b"pixels"
    with pytest.raises(StorageError), storage.as_file("missing"):
        pass


def test_listing_is_ordered_by_key_and_limited_to_the_prefix(storage: Storage) -> None:
    for key in ["b", "a/2", "a/1", "a.mp4", "ab/1", "a-/x"]:
        storage.put(key, b"")
    keys = [info.key for info in storage.list()]
    assert keys == sorted(["b", "a/2", "a/1", "a.mp4", "ab/1", "a-/x"])
    assert [info.key for info in storage.list("a/")] == ["a/1", "a/2"]
    assert [info.key for info in storage.list("a")] == ["a-/x", "a.mp4", "a/1", "a/2", "ab/1"]


def test_listing_is_ordered_by_the_bytes_of_the_keys(storage: Storage) -> None:
    keys = ["Z", "a b", "a/b", "é", "\uffee", "\U0001f600"]
    for key in reversed(keys):
        storage.put(key, b"")
    assert [info.key for info in storage.list()] == sorted(keys, key=str.encode) == keys


def test_an_empty_object_is_read_in_every_way(storage: Storage) -> None:
    version = storage.put("empty", b"").version
    assert storage.get("empty") == b""
    with storage.open("empty", version) as file:
        assert file.read() == b""
    with storage.as_file("empty") as path:
        assert path.read_bytes() == b""


def test_those_of_many_keys_that_there_are_are_found(storage: Storage) -> None:
    infos = {f"{i}/key": storage.put(f"{i}/key", b"") for i in range(0, 60, 2)}
    assert storage.find(f"{i}/key" for i in range(40)) == {
        f"{i}/key": infos[f"{i}/key"] for i in range(0, 40, 2)
    }


def test_scratch_files_are_never_listed(storage: Storage) -> None:
    (storage.scratch_dir() / "unfinished-listing-test").write_bytes(b"half")
    assert list(storage.list()) == []
    (storage.scratch_dir() / "unfinished-listing-test").unlink()


@pytest.mark.parametrize("storage", ["local", "s3"], indirect=True)
def test_scratch_files_are_swept_when_nobody_writes_to_them_any_more(storage: Storage) -> None:
    old, new = storage.scratch_dir() / "old", storage.scratch_dir() / "new"
    for path in (old, new):
        path.write_bytes(b"half")
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))
    assert storage.sweep_scratch(7200) == 0
    assert storage.sweep_scratch(1800) == 1
    assert (old.exists(), new.exists()) == (False, True)
    new.unlink()


def test_deleting_is_done_twice_without_harm(storage: Storage) -> None:
    storage.put("a/b", b"")
    storage.delete("a/b")
    storage.delete("a/b")
    assert list(storage.list()) == []


def test_open_reads_the_version_that_was_planned(storage: Storage) -> None:
    info = storage.put("film", b"0123456789")
    with storage.open("film", info.version) as file:
        file.seek(4)
        assert file.read(3) == b"456"


def test_open_refuses_another_version(storage: Storage) -> None:
    info = storage.put("film", b"first")
    storage.put("film", b"the second")
    with pytest.raises(SourceChanged, match="film"):
        storage.open("film", info.version)


def test_open_refuses_what_is_gone(storage: Storage) -> None:
    info = storage.put("film", b"first")
    storage.delete("film")
    with pytest.raises(SourceChanged):
        storage.open("film", info.version)


@pytest.mark.parametrize("key", ["../outside", "/absolute", "a/../../b", ""])
def test_local_keys_cannot_leave_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(StorageError):
        LocalStorage(tmp_path).get(key)


def test_a_failed_put_leaves_the_old_object_and_nothing_else(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a", b"old")
    with pytest.raises(StorageError, match="a/b"):
        storage.put("a/b", b"a is a file")
    assert [info.key for info in storage.list()] == ["a"]
    assert storage.get("a") == b"old"
    assert list(storage.scratch_dir().iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_the_sources_fault(tmp_path: Path) -> None:
    (tmp_path / "film").touch(mode=0o000)
    storage = LocalStorage(tmp_path)
    info = storage.head("film")
    assert info is not None
    with pytest.raises(MediaError, match="may not be read"):
        storage.open("film", info.version)


def test_a_link_to_a_file_is_listed_and_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "film.mp4").write_bytes(b"film")
    inside = tmp_path / "store"
    inside.mkdir()
    (inside / "loop").symlink_to(tmp_path)
    (inside / "film.mp4").symlink_to(outside / "film.mp4")
    assert [info.key for info in LocalStorage(inside).list()] == ["film.mp4"]
