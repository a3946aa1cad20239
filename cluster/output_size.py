"""How large an output is. Pure integers."""

from __future__ import annotations

from fractions import Fraction

from sr_core.errors import SpecError

_DEFAULT_SCALE = 2


def output_size(
    source: tuple[int, int],
    scale: int | None,
    height: int | None,
    model_scale: int | None,
    where: str,
    width_multiple_px: int = 1,
) -> tuple[int, int]:
    """(height, width) of the output. A height that is asked for keeps the aspect.

    Args:
        source: (height, width) of the source in px.
        scale: That is asked for.
        height: That is asked for in place of a scale.
        model_scale: Of the model's weights; None for models that take any scale.
        where: Names the source in errors.
        width_multiple_px: What the width that follows from a height is a multiple of.

    Raises:
        SpecError: The height is below the source's.
    """
    source_height, source_width = source
    if height is None:
        times = scale or model_scale or _DEFAULT_SCALE
        return source_height * times, source_width * times
    if height < source_height:
        raise SpecError(
            "the target height is below the source's",
            where=where,
            got=f"height {height}",
            expected=f"at least {source_height}",
            next_step="leave this source out, or scale it down with another tool",
        )
    width = Fraction(source_width * height, source_height)
    return height, width_multiple_px * max(1, round(width / width_multiple_px))
