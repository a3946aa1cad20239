"""Stores for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.storage import Storage, open_storage, patience
from tests.stores import radosgw
from tests.stores.fault_proxy import FaultProxy, Traffic, fault_proxy
from tests.stores.s3_server import credentials, new_bucket, s3_server
from tests.stores.stub import Stub, stub_server


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


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries, of ours and of boto3's."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


@pytest.fixture(scope="session")
def endpoint_proxy(s3_endpoint: str) -> Iterator[FaultProxy]:
    """Before the S3 server, as long as the tests run."""
    with fault_proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(endpoint_proxy: FaultProxy) -> FaultProxy:
    """Before the S3 server, without faults and traffic so far."""
    endpoint_proxy.choose = lambda request: None
    endpoint_proxy.traffic = Traffic()
    return endpoint_proxy


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    """The name of a new bucket."""
    return new_bucket(s3_endpoint)


@pytest.fixture
def storage(proxy: FaultProxy, bucket: str) -> Storage:
    """`some/prefix` of the bucket, through the proxy."""
    return open_storage(f"s3://{bucket}/some/prefix?endpoint_url={proxy.url}")


@pytest.fixture
def impatient(storage: Storage) -> Storage:
    """The same, which does not bear silence for long."""
    return open_storage(f"{storage.url}&timeout_seconds=0.5")


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    """A server that answers what a test says."""
    with stub_server() as stub:
        yield stub
