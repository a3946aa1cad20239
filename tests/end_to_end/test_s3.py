"""A job whose films, weights and outputs lie in buckets, through the command line on a real S3 server."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.sample import SAMPLE
from tests.end_to_end.conftest import Framelift, sha256s
from tests.stores.fault_proxy import FaultProxy, fault_proxy
from tests.stores.s3_server import client, credentials, new_bucket, s3_server

_FAST = ("--model", "lanczos", "--preset", "ultrafast", "--segment-seconds", "0.5")


@pytest.fixture(scope="module")
def store() -> Iterator[FaultProxy]:
    with credentials(), s3_server() as url, fault_proxy(url) as proxy:
        yield proxy


@pytest.fixture
def bucket(store: FaultProxy) -> str:
    """A bucket with two films and an image in `films/`."""
    name = new_bucket(store.url)
    s3 = client(store.url)
    for key in ("films/a.mp4", "films/below/b c.mp4"):
        s3.upload_file(str(SAMPLE), name, key)
    return name


def objects(store: FaultProxy, bucket: str, prefix: str) -> dict[str, Any]:
    """Every object below a prefix as a listing shows it, by its key."""
    pages = client(store.url).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"]: entry for page in pages for entry in page.get("Contents", ())}


def sha256s_in(store: FaultProxy, bucket: str, prefix: str) -> dict[str, str]:
    """Of every output below a prefix, by its key relative to that."""
    s3 = client(store.url)
    return {
        key.removeprefix(prefix): hashlib.sha256(
            s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        ).hexdigest()
        for key in objects(store, bucket, prefix)
        if ".framelift" not in key and not key.endswith("report.json")
    }


@pytest.mark.slow
def test_a_job_between_buckets_gives_the_bytes_of_one_between_folders(
    framelift: Framelift, store: FaultProxy, bucket: str
) -> None:
    films = framelift.folder / "films"
    (films / "below").mkdir(parents=True)
    for name in ("a.mp4", "below/b c.mp4"):
        shutil.copy(SAMPLE, films / name)
    framelift("upscale", films, framelift.folder / "out", *_FAST)
    expected = sha256s(framelift.folder / "out")

    place = ("--endpoint-url", store.url)
    said = framelift("upscale", f"s3://{bucket}/films", f"s3://{bucket}/out/x2", *_FAST, *place)
    assert sha256s_in(store, bucket, "out/x2/") == expected
    assert "testing" not in said, "credentials are never told"
    left = {key.split("/")[3] for key in objects(store, bucket, "out/x2/.framelift/")}
    assert "segments" not in left
    status = json.loads(framelift("status", f"s3://{bucket}/out/x2", *place, "--json"))
    assert [file["state"] for file in status["files"]] == ["done", "done"]
    again = framelift("upscale", f"s3://{bucket}/films", f"s3://{bucket}/out/x2", *_FAST, *place)
    assert "2 done before" in again


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_was_in_a_bucket(
    framelift: Framelift, store: FaultProxy, bucket: str
) -> None:
    arguments = ("upscale", f"s3://{bucket}/films", f"s3://{bucket}/out", *_FAST, "--endpoint-url", store.url)

    def receipts() -> dict[str, Any]:
        return objects(store, bucket, "out/.framelift/receipts/")

    framelift.kill_when(lambda: len(receipts()) >= 2, *arguments)
    before = receipts()
    framelift(*arguments)
    after = receipts()
    assert {key: after[key]["LastModified"] for key in before} == {
        key: before[key]["LastModified"] for key in before
    }, "a segment that was committed was computed again"
    assert len(sha256s_in(store, bucket, "out/")) == 2


@pytest.mark.slow
def test_one_film_from_a_bucket_to_a_local_file(framelift: Framelift, store: FaultProxy, bucket: str) -> None:
    target = Path(framelift.folder) / "one.mp4"
    framelift("upscale", f"s3://{bucket}/films/a.mp4", target, *_FAST, "--endpoint-url", store.url)
    assert target.stat().st_size > 0


def test_a_bucket_that_is_not_there_is_told(framelift: Framelift, store: FaultProxy) -> None:
    there = ("s3://no-such-bucket/in", "s3://no-such-bucket/out", "--endpoint-url", store.url)
    said = framelift("upscale", *there, exit_code=4)
    assert "NoSuchBucket" in said
