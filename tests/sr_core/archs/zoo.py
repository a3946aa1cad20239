"""Every architecture with small configurations of it: what the tests of the whole zoo go through."""

from typing import Any

from sr_core.archs.arch import Arch
from sr_core.archs.compact import COMPACT, Activation, CompactConfig
from tests.sr_core.archs.classics import CLASSICS
from tests.sr_core.archs.efficient import EFFICIENT
from tests.sr_core.archs.founding import FOUNDING
from tests.sr_core.archs.temporal import TEMPORAL

COMPACTS: list[tuple[Arch, Any]] = [
    (COMPACT, CompactConfig(num_feat=16, num_conv=3, scale=4)),
    (COMPACT, CompactConfig(num_channels=1, num_feat=8, num_conv=0, scale=1)),
    (COMPACT, CompactConfig(num_channels=6, num_feat=8, num_conv=2, scale=3, activation=Activation.RELU)),
    (COMPACT, CompactConfig(num_channels=1, num_feat=8, num_conv=2, scale=2, unshuffle=2)),
    (COMPACT, CompactConfig(num_channels=3, num_feat=8, num_conv=1, scale=3, unshuffle=2)),
]

ZOO = [*COMPACTS, *CLASSICS, *EFFICIENT, *TEMPORAL, *FOUNDING]
