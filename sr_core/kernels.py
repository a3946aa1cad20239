"""The interpolation kernels by name, apart from the tensors, so that naming one loads no torch."""

from __future__ import annotations

from enum import StrEnum


class Kernel(StrEnum):
    """Interpolation kernels; `BICUBIC` has a = -0.5 (Catmull-Rom, Keys 1981), `LANCZOS` has three lobes."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"

    @property
    def radius(self) -> int:
        """Half the kernel's support, in input samples, when it is not widened."""
        return _RADIUS[self]


_RADIUS = {Kernel.NEAREST: 1, Kernel.BILINEAR: 1, Kernel.BICUBIC: 2, Kernel.LANCZOS: 3}
