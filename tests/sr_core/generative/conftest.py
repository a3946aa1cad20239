from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

SIDE_PX = 32


@pytest.fixture
def folder_of_images(tmp_path: Path) -> Path:
    """Thirty-two small pictures: a square of one colour on another."""
    random = np.random.default_rng(0)
    for index in range(32):
        pixels = np.empty((SIDE_PX, SIDE_PX, 3), np.uint8)
        pixels[:] = random.integers(0, 128, 3)
        top, left = random.integers(4, 16, 2)
        pixels[top : top + 12, left : left + 12] = random.integers(128, 256, 3)
        Image.fromarray(pixels).save(tmp_path / f"{index:02}.png")
    return tmp_path


@pytest.fixture
def flat_images(folder_of_images: Path) -> Tensor:
    """The folder's pictures, (32, 3, 32, 32), 0..1."""
    pixels = [np.asarray(Image.open(path)) for path in sorted(folder_of_images.iterdir())]
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1) / 255
