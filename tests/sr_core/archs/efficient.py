"""Small configurations of the efficient networks."""

from typing import Any

from sr_core.archs.arch import Arch
from sr_core.archs.bsrn import BSRN, BsrnConfig
from sr_core.archs.carn import CARN, CarnConfig
from sr_core.archs.efdn import EFDN, EfdnConfig
from sr_core.archs.imdn import IMDN, ImdnConfig
from sr_core.archs.plksr import PLKSR, PlksrConfig
from sr_core.archs.rfdn import RFDN, RfdnConfig
from sr_core.archs.rlfn import RLFN, RlfnConfig
from sr_core.archs.safmn import SAFMN, SafmnConfig
from sr_core.archs.span import SPAN, SpanConfig

EFFICIENT: list[tuple[Arch, Any]] = [
    (IMDN, ImdnConfig(num_feat=16, num_blocks=2, num_reduced=2, scale=3)),
    (RFDN, RfdnConfig(num_feat=12, num_kept=6, num_reduced=4, num_blocks=2, scale=2)),
    (RLFN, RlfnConfig(num_feat=12, num_mid=16, num_reduced=4, num_blocks=2, scale=4)),
    (SPAN, SpanConfig(num_feat=16, num_blocks=2, scale=2)),
    (SPAN, SpanConfig(num_feat=8, num_blocks=1, scale=1, is_normed=False)),
    (SAFMN, SafmnConfig(num_feat=16, num_mixed=24, num_blocks=2, scale=3)),
    (BSRN, BsrnConfig(num_feat=12, num_kept=6, num_reduced=3, num_blocks=2, scale=2)),
    (CARN, CarnConfig(num_feat=16, num_groups=4, scale=4, scales=(4,))),
    (CARN, CarnConfig(num_feat=8, num_groups=1, scale=3, scales=(3,))),
    (EFDN, EfdnConfig(num_feat=12, num_kept=4, num_reduced=3, scale=2)),
    (PLKSR, PlksrConfig(num_feat=16, num_large=8, kernel_size=7, num_blocks=2, scale=2)),
    (PLKSR, PlksrConfig(16, 4, 5, (3, 1), num_blocks=1, scale=3, has_attention=False)),
]
