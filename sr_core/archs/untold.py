"""Hyper-parameters that leave no trace in weights, and that no form of them is known for."""

from __future__ import annotations

from sr_core.errors import ModelError


def scale_asked_for(scale: int | None, name: str) -> int:
    """The scale, which only the user can tell.

    Raises:
        ModelError: It was not told, or is not positive.
    """
    if scale is None or scale < 1:
        raise ModelError(
            "These weights do not tell their scale",
            where=name,
            got=f"scale {scale}",
            expected="the one that they were trained for",
            next_step="give it: --scale 2, for example",
        )
    return scale
