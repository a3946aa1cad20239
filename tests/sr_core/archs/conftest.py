from collections.abc import Iterator

import pytest

from tests.sr_core.threads import one_thread


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Small networks are fastest on one thread."""
    with one_thread():
        yield
