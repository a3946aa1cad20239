"""Hyper-parameters that leave no trace in weights, and that no form of them is known for."""

from __future__ import annotations

from sr_core.archs.arch import ScaleUntold


def scale_asked_for(scale: int | None) -> int:
    """The scale, which only the user can tell.

    Raises:
        ScaleUntold: It was not told, or is not positive.
    """
    if scale is None or scale < 1:
        raise ScaleUntold
    return scale
