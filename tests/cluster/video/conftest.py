from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.video.clips import Clip, write_clip


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Clip], Path]:
    """Gives the file of a clip, which is written once."""
    folder = tmp_path_factory.mktemp("clips")
    written: dict[str, Path] = {}

    def path_of(clip: Clip) -> Path:
        if clip.name not in written:
            written[clip.name] = write_clip(folder, clip)
        return written[clip.name]

    return path_of
