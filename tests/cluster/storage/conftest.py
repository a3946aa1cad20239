"""Stores for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores import radosgw
from tests.stores.s3_server import credentials, s3_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The endpoint of an S3 server that runs as long as the tests."""
    with credentials(), s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def radosgw_endpoint() -> Iterator[str]:
    """The endpoint of Ceph's S3 server."""
    if not radosgw.is_installed():
        pytest.skip("radosgw is not installed")
    with credentials(), radosgw.radosgw_server() as url:
        yield url
