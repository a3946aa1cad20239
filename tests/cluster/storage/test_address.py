from __future__ import annotations

import pytest

from cluster.storage.address import S3Address, S3Settings, is_s3, join_url, split_url, with_settings
from sr_core.errors import SpecError

MINIO = "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/a/b c",
        f"s3://bucket/a?endpoint_url={MINIO}&region=eu-west-1&addressing=path&checksums=when_required",
        "s3://bucket/a?timeout_seconds=1.5",
    ],
)
def test_an_address_is_what_its_url_says(url: str) -> None:
    assert S3Address.parse(url).url == url


def test_slashes_at_the_ends_of_a_prefix_mean_nothing() -> None:
    assert S3Address.parse("s3://bucket/a/b/") == S3Address("bucket", "a/b")


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///key",
        "s3://key:secret@bucket/a",
        "s3://bucket/a?secret_key=hush",
        "s3://bucket/a?endpoint_url=http://user:secret@host",
        "s3://bucket/a?addressing=sideways",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_a_secret(url: str) -> None:
    with pytest.raises(SpecError) as caught:
        S3Address.parse(url)
    assert "secret@" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_settings_of_a_job_hold_where_the_url_says_nothing_itself() -> None:
    common = S3Settings(endpoint_url=MINIO, region="eu-west-1")
    assert with_settings("s3://bucket/a?region=us-east-2", common) == (
        f"s3://bucket/a?endpoint_url={MINIO}&region=us-east-2"
    )
    assert with_settings("/films", common) == "/films"


@pytest.mark.parametrize(
    "url", ["s3://bucket/a/b.mp4", f"s3://bucket/b.mp4?endpoint_url={MINIO}", "/a/b.mp4"]
)
def test_an_object_is_a_key_in_its_store(url: str) -> None:
    store_url, key = split_url(url)
    assert key == "b.mp4"
    assert is_s3(store_url) == is_s3(url)
    assert join_url(store_url, key) == url
