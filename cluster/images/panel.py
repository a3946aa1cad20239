"""Small pictures in rows and columns, each with a title above and a caption below, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_CELL_PX = 288
_GAP_PX = 8
_LINE_PX = 20
_TEXT_PX = 14


@dataclass(frozen=True)
class Cell:
    """One small picture.

    Attributes:
        rgb: (height, width, 3).
    """

    title: str
    caption: str
    rgb: npt.NDArray[np.uint8]


def write_panel(rows: Sequence[Sequence[Cell]], path: Path) -> None:
    """Writes rows of pictures, enlarged by whole numbers without smoothing.

    Raises:
        OSError: The file cannot be written.
    """
    width = max(len(row) for row in rows) * (_CELL_PX + _GAP_PX) + _GAP_PX
    row_px = _CELL_PX + 2 * _LINE_PX + _GAP_PX
    panel = Image.new("RGB", (width, len(rows) * row_px + _GAP_PX), "white")
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(_TEXT_PX)
    for down, row in enumerate(rows):
        for across, cell in enumerate(row):
            left, top = across * (_CELL_PX + _GAP_PX) + _GAP_PX, down * row_px + _GAP_PX
            draw.text((left, top), _fitting(cell.title, font), "black", font)
            panel.paste(_enlarged(cell.rgb), (left, top + _LINE_PX))
            draw.text((left, top + _LINE_PX + _CELL_PX), _fitting(cell.caption, font), "black", font)
    panel.save(path, format="PNG")


def _enlarged(rgb: npt.NDArray[np.uint8]) -> Image.Image:
    height, width = rgb.shape[:2]
    times = max(1, _CELL_PX // max(height, width))
    return Image.fromarray(rgb).resize((times * width, times * height), Image.Resampling.NEAREST)


def _fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, or as much of it as fits into a cell."""
    if font.getlength(text) <= _CELL_PX:
        return text
    while text and font.getlength(text + "…") > _CELL_PX:
        text = text[:-1]
    return text + "…"
