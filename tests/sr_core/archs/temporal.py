"""Small networks that see several frames at once."""

from typing import Any

from sr_core.archs.arch import Arch, ColorMode
from sr_core.archs.early_fusion import EARLY_FUSION, EarlyFusionConfig

TEMPORAL: list[tuple[Arch, Any]] = [
    (EARLY_FUSION, EarlyFusionConfig(num_feat=8, num_conv=2, scale=2)),
    (EARLY_FUSION, EarlyFusionConfig(5, ColorMode.LUMA, num_feat=16, num_conv=1, scale=3)),
    (EARLY_FUSION, EarlyFusionConfig(3, ColorMode.YUV420, num_feat=8, num_conv=0, scale=4)),
]
