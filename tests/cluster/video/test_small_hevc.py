"""Small HEVC: x265 itself writes behind its memory where frames are narrow, which only an allocator sees."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECKER = "libc_malloc_debug.so.0"  # of glibc: it looks behind each piece of memory that is given back
NUM_FRAMES = 12

UPSCALED = """
from pathlib import Path
import numpy as np
from tests.cluster.video.joining import write_part
from tests.cluster.video.test_codecs import choose
noise = np.random.default_rng(0)
for width, height in ((48, 48), (32, 96), (50, 34)):
    settings = choose(width=width, height=height, codec="hevc", preset="medium")
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    frames = [
        (256 * number, tuple(noise.integers(0, 256, size, dtype=np.uint8) for size in sizes))
        for number in range(%d)
    ]
    write_part(Path(f"{width}x{height}.{settings.part_container}"), settings, frames)
"""
RECODED = """
import torch
from cluster.video.recode import LossyCodec, Recoding, recoded
for width, height in ((48, 48), (32, 96), (50, 34)):
    for quality in range(20, 26):
        clip = torch.randint(0, 256, (%d, 3, height, width), dtype=torch.uint8)
        recoded(clip, Recoding(LossyCodec.HEVC, quality))
"""


def has_checker() -> bool:
    try:
        ctypes.CDLL(CHECKER)
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_checker(), reason=f"needs glibc's {CHECKER}")
@pytest.mark.parametrize("script", [UPSCALED, RECODED], ids=["upscaled", "recoded"])
def test_narrow_hevc_leaves_the_memory_of_others_alone(script: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": CHECKER, "MALLOC_CHECK_": "3"}

    done = subprocess.run(
        [sys.executable, "-c", script % NUM_FRAMES],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
