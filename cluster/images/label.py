"""A line of text as the pixels that it covers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_TEXT_PART = 0.6  # of the line's height
_MARGIN_PART = 0.3


def label(text: str, width: int, height: int) -> npt.NDArray[np.uint8]:
    """(height, width): 255 where `text` covers a pixel wholly, 0 where not at all; cut off at the right."""
    line = Image.new("L", (width, height))
    font = ImageFont.load_default(max(8, round(height * _TEXT_PART)))
    ImageDraw.Draw(line).text((height * _MARGIN_PART, height / 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(line)
