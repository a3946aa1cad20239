"""Small configurations of the founding documents' networks."""

from typing import Any

from sr_core.archs.arch import Arch
from sr_core.archs.deconvolution import DECONVOLUTION, DeconvolutionConfig
from sr_core.archs.transposed import TRANSPOSED, TransposedConfig

FOUNDING: list[tuple[Arch, Any]] = [
    *((TRANSPOSED, TransposedConfig((8, 10, 12), scale)) for scale in (2, 3, 4, 8)),
    *((DECONVOLUTION, DeconvolutionConfig((8, 10, 12, 14), scale)) for scale in (2, 3, 4, 8)),
]
