"""Small configurations of the classic networks."""

from typing import Any

from sr_core.archs.arch import Arch
from sr_core.archs.edsr import EDSR, EdsrConfig
from sr_core.archs.espcn import ESPCN, EspcnConfig
from sr_core.archs.fsrcnn import FSRCNN, FsrcnnConfig
from sr_core.archs.msrresnet import MSRRESNET, MsrResNetConfig
from sr_core.archs.rrdb import RRDB, RrdbConfig
from sr_core.archs.signals import Signal
from sr_core.archs.srcnn import SRCNN, SrcnnConfig
from sr_core.archs.srresnet import SRRESNET, SrResNetConfig
from sr_core.archs.vdsr import VDSR, VdsrConfig

CLASSICS: list[tuple[Arch, Any]] = [
    (SRCNN, SrcnnConfig((8, 4), (9, 1, 5), scale=2)),
    (SRCNN, SrcnnConfig((8, 4), (9, 5, 5), scale=3, signal=Signal.RGB)),
    (SRCNN, SrcnnConfig((8, 4), (9, 5, 5), scale=4)),
    (FSRCNN, FsrcnnConfig(8, 4, 2, scale=2)),
    (FSRCNN, FsrcnnConfig(8, 4, 1, scale=3, signal=Signal.RGB)),
    (FSRCNN, FsrcnnConfig(8, 4, 0, scale=4)),
    (ESPCN, EspcnConfig((8, 4), scale=2)),
    (ESPCN, EspcnConfig((8, 4), scale=3, signal=Signal.RGB)),
    (ESPCN, EspcnConfig((8, 8, 4), scale=4)),
    (VDSR, VdsrConfig(8, 4, scale=2)),
    (VDSR, VdsrConfig(8, 3, scale=3)),
    (VDSR, VdsrConfig(8, 5, scale=4, signal=Signal.RGB)),
    (SRRESNET, SrResNetConfig(8, 2, scale=2)),
    (SRRESNET, SrResNetConfig(8, 1, scale=3, num_slopes=8)),
    (SRRESNET, SrResNetConfig(8, 1, scale=4, has_last_norm=False)),
    (SRRESNET, SrResNetConfig(8, 1, scale=8)),
    (MSRRESNET, MsrResNetConfig(8, 2, scale=2)),
    (MSRRESNET, MsrResNetConfig(8, 1, scale=3)),
    (MSRRESNET, MsrResNetConfig(8, 1, scale=4)),
    (EDSR, EdsrConfig(8, 2, scale=2)),
    (EDSR, EdsrConfig(8, 1, scale=3)),
    (EDSR, EdsrConfig(8, 1, scale=4)),
    (EDSR, EdsrConfig(256, 1, scale=2, block_strength=0.1)),
    (RRDB, RrdbConfig(8, 1, 4, num_doublings=2)),
    (RRDB, RrdbConfig(8, 2, 4, num_doublings=1)),
    (RRDB, RrdbConfig(8, 1, 4, num_doublings=0)),
    (RRDB, RrdbConfig(8, 1, 4, num_doublings=2, unshuffle=2)),
    (RRDB, RrdbConfig(8, 1, 4, num_doublings=2, unshuffle=4)),
]
