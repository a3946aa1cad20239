from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sr_core.threads import one_thread

PERCEPTUAL = Path(__file__).parents[4].parent / "shared" / "data" / "perceptual"


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Every test on one thread."""
    with one_thread():
        yield


@pytest.fixture
def perceptual() -> Callable[[str], Path]:
    """Paths of published weights and pictures; skips the test where they are not."""

    def find(name: str) -> Path:
        if not (PERCEPTUAL / name).exists():
            pytest.skip(f"needs {name}")
        return PERCEPTUAL / name

    return find
