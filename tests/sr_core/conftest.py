from collections.abc import Callable
from pathlib import Path

import pytest

CHECKPOINTS = Path(__file__).parents[2].parent / "shared" / "data" / "checkpoints"


@pytest.fixture
def published() -> Callable[[str], Path]:
    """Paths of published checkpoints, which lie beside the checkout; skips the test where they do not."""

    def find(name: str) -> Path:
        if not (CHECKPOINTS / name).exists():
            pytest.skip(f"needs {name}")
        return CHECKPOINTS / name

    return find
