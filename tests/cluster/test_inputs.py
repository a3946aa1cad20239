from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.inputs import InputSet, find_inputs, state_folder
from cluster.job import ImageSettings, VideoSettings
from cluster.places import place_of
from cluster.storage import open_storage
from sr_core.errors import SpecError
from tests.stores.fault_proxy import fault_proxy
from tests.stores.s3_server import client, credentials, new_bucket, s3_server

AUTO, KEPT = VideoSettings(), ImageSettings()


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"film")
    return folder


def find(
    source: Path | str, output: Path | str, video: VideoSettings = AUTO, image: ImageSettings = KEPT
) -> InputSet:
    return find_inputs(str(source), str(output), video, image)


def names(
    source: Path, output: Path, video: VideoSettings = AUTO, image: ImageSettings = KEPT
) -> dict[str, str]:
    found = find(source, output, video, image)
    return {input_.source.key: input_.output_name for input_ in found.inputs}


def test_a_folder_is_mirrored_in_each_sources_family(tmp_path: Path) -> None:
    source = tree(tmp_path / "in", "a.mp4", "b/c.mkv", "b/d.ts", "e.webm", "f.MOV")
    assert names(source, tmp_path / "out") == {
        "a.mp4": "a.mp4",
        "b/c.mkv": "b/c.mkv",
        "b/d.ts": "b/d.mp4",
        "e.webm": "e.webm",
        "f.MOV": "f.mov",
    }


def test_what_is_no_video_is_told_and_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    source = tree(tmp_path / "in", "a.mp4", "notes.txt", ".hidden.mp4", ".framelift/plans/x.mp4")
    found = find(source, tmp_path / "out")
    assert [input_.source.key for input_ in found.inputs] == ["a.mp4"]
    assert found.ignored == ("notes.txt",)


@pytest.mark.parametrize(
    ("source", "codec", "output"),
    [
        ("a.mp4", "ffv1", "a.mkv"),
        ("a.webm", "h264", "a.mkv"),
        ("a.mov", "av1", "a.mp4"),
        ("a.mkv", "av1", "a.mkv"),
    ],
)
def test_a_codec_that_the_family_cannot_hold_gets_the_nearest_container_that_can(
    tmp_path: Path, source: str, codec: str, output: str
) -> None:
    folder = tree(tmp_path / "in", source)
    assert names(folder, tmp_path / "out", VideoSettings(codec=codec)) == {source: output}  # type: ignore[arg-type]


def test_a_file_goes_under_the_name_that_is_given(tmp_path: Path) -> None:
    source = tree(tmp_path, "a.mp4") / "a.mp4"
    found = find(source, tmp_path / "x" / "b.mkv")
    assert (found.output_url, found.inputs[0].output_name) == (str(tmp_path / "x"), "b.mkv")
    assert names(source, tmp_path / "folder") == {"a.mp4": "a.mp4"}


@pytest.mark.parametrize(
    ("source", "output", "match"),
    [
        ("missing", "out", "no such file or folder"),
        ("in", "in", "inside the input"),
        ("in", "in/out", "inside the input"),
        ("in", "x/../in/out", "inside the input"),
        ("link", "in", "inside the input"),
        ("in", "file", "must be a folder"),
        ("in", "out.mp4", "must be a folder"),
        ("empty", "out", "neither a video nor an image"),
        ("in/a.mp4", "in/a.mp4", "would replace a source"),
        ("in/a.mp4", "in", "would replace a source"),
        ("in/a.mp4", "in/sub/../a.mp4", "would replace a source"),
        ("in/a.mp4", "out.avi", "no output name"),
        ("twins", "out", "more than one input"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    tmp_path: Path, source: str, output: str, match: str
) -> None:
    tree(tmp_path / "in", "a.mp4", "sub/b.mp4")
    tree(tmp_path / "twins", "a.mp4", "a.ts")
    tree(tmp_path, "file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(SpecError, match=match):
        find(f"{tmp_path}/{source}", f"{tmp_path}/{output}")


def test_an_output_may_never_be_another_source(tmp_path: Path) -> None:
    source = tree(tmp_path / "a", "a/film.mp4", "film.mp4")
    with pytest.raises(SpecError, match="would replace a source"):
        find(source, tmp_path)


def test_a_container_that_contradicts_the_name_is_refused(tmp_path: Path) -> None:
    source = tree(tmp_path, "a.mp4") / "a.mp4"
    with pytest.raises(SpecError, match="disagree"):
        find(source, tmp_path / "b.mkv", VideoSettings(container="mp4"))


def test_names_that_cannot_be_written_down_fail_alone(tmp_path: Path) -> None:
    source = tree(tmp_path / "in", "a.mp4", "x" * 252 + ".ts")
    Path(os.fsdecode(os.fsencode(source) + b"/latin\xe9.mp4")).write_bytes(b"film")
    found = find(source, tmp_path / "out")
    assert [input_.source.key for input_ in found.inputs] == ["a.mp4"]
    reasons = dict(found.refused)
    assert set(reasons) == {"latin\\xe9.mp4", "x" * 252 + ".ts"}
    assert "UTF-8" in reasons["latin\\xe9.mp4"]
    assert "256 bytes" in reasons["x" * 252 + ".ts"]


def test_every_pair_of_inputs_for_one_output_is_named(tmp_path: Path) -> None:
    source = tree(tmp_path / "in", "a.mp4", "a.ts", "b.avi", "b.mkv")
    with pytest.raises(SpecError, match=r"a\.mp4 from a\.mp4 and a\.ts; b\.mkv from b\.avi and b\.mkv"):
        find(source, tmp_path / "out")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a bucket with films, notes and names that other tools would take for patterns."""
    with credentials(), s3_server() as endpoint_url:
        name, server = new_bucket(endpoint_url), client(endpoint_url)
        keys = ("in/a.mp4", "in/sub/b.ts", "in/notes.txt", "in/.hidden.mp4", "in2/c.mp4", "odd/[*] %41+?.mp4")
        for key in (*keys, "odd/x//d.mp4", "twins/a.mp4", "twins/a.ts", "text/a.txt", "file"):
            server.put_object(Bucket=name, Key=key, Body=b"film")
        server.put_object(Bucket=name, Key="in/sub/", Body=b"")
        yield f"s3://{name}/?endpoint_url={endpoint_url}"


def at(bucket: str, key: str) -> str:
    return bucket.replace("/?", f"/{key}?")


def test_a_prefix_is_mirrored_into_a_folder_and_back(bucket: str, tmp_path: Path) -> None:
    found = find(at(bucket, "in"), tmp_path / "out")
    assert {i.source.key: i.output_name for i in found.inputs} == {"a.mp4": "a.mp4", "sub/b.ts": "sub/b.mp4"}
    assert (found.output_url, found.ignored) == (str(tmp_path / "out"), ("notes.txt",))
    for input_ in found.inputs:
        with open_storage(input_.source.store_url).open(input_.source.key, input_.source.version) as file:
            assert file.read() == b"film"
    source = tree(tmp_path / "in", "a.mp4")
    assert find(source, at(bucket, "out")).output_url == at(bucket, "out")


def test_an_object_goes_under_the_name_that_is_given(bucket: str, tmp_path: Path) -> None:
    source = at(bucket, "in/a.mp4")
    found = find(source, at(bucket, "x/b.mkv"))
    assert (found.output_url, found.inputs[0].output_name) == (at(bucket, "x"), "b.mkv")
    assert found.inputs[0].source.key == "a.mp4"
    assert find(source, at(bucket, "x")).inputs[0].output_name == "a.mp4"
    assert find(source, tmp_path / "b.mkv").output_url == str(tmp_path)


def test_names_in_buckets_are_literal_text(bucket: str, tmp_path: Path) -> None:
    found = find(at(bucket, "odd"), tmp_path / "out")
    assert [input_.source.key for input_ in found.inputs] == ["[*] %41+?.mp4"]
    assert [name for name, why in found.refused if "between two slashes" in why] == ["x//d.mp4"]


@pytest.mark.parametrize(
    ("source", "output", "match"),
    [
        ("missing", "out", "no such object, nor any below such a prefix"),
        ("i", "out", "no such object"),
        ("in", "in", "inside the input"),
        ("in", "in/out", "inside the input"),
        ("", "out", "inside the input"),
        ("in", "file", "must be a folder"),
        ("in", "out.mp4", "must be a folder"),
        ("text", "out", "neither a video nor an image"),
        ("in/a.mp4", "in/a.mp4", "would replace a source"),
        ("in/a.mp4", "in", "would replace a source"),
        ("in/a.mp4", "out.avi", "no output name"),
        ("twins", "out", "more than one input"),
    ],
)
def test_what_cannot_be_done_in_a_bucket_is_refused_too(
    bucket: str, source: str, output: str, match: str
) -> None:
    target = f"{at(bucket, output)}&timeout_seconds=7"  # which makes no other place of it
    with pytest.raises(SpecError, match=match):
        find(at(bucket, source) if source else bucket, target)


def test_a_prefix_beside_the_input_is_not_inside_it(bucket: str) -> None:
    assert len(find(at(bucket, "in"), at(bucket, "in2")).inputs) == 2


def test_keys_that_become_too_long_fail_alone(bucket: str, tmp_path: Path) -> None:
    source = tree(tmp_path / "in", "a.mp4", f"{'f' * 200}/{'x' * 200}.mp4")
    found = find(source, at(bucket, "p" * 650))
    assert [input_.source.key for input_ in found.inputs] == ["a.mp4"]
    assert "key would have 1056 bytes, of which 1024 can be" in found.refused[0][1]


def test_a_long_prefix_is_read_from_listings_alone() -> None:
    with credentials(), s3_server() as endpoint_url, fault_proxy(endpoint_url) as proxy:
        name, server = new_bucket(endpoint_url), client(endpoint_url)
        for number in range(1500):
            server.put_object(Bucket=name, Key=f"in/{number:04}.png", Body=b"image")
        settings = f"?endpoint_url={proxy.url}"
        assert len(find(f"s3://{name}/in{settings}", f"s3://{name}/out{settings}").inputs) == 1500
        assert len(proxy.traffic.requests) <= 8


@pytest.mark.parametrize(
    ("output", "folder"), [("x", "x"), ("x/new.mkv", "x"), ("file", ""), ("folder.mp4", "folder.mp4")]
)
def test_the_state_of_a_job_lies_in_the_folder_of_its_output(
    bucket: str, tmp_path: Path, output: str, folder: str
) -> None:
    tree(tmp_path, "file", "folder.mp4/a.txt")
    assert state_folder(place_of(str(tmp_path / output))).url == str(tmp_path / folder)
    open_storage(bucket).put("folder.mp4/a.txt", b"")
    assert place_of(at(bucket, folder)) == state_folder(place_of(at(bucket, output)))
