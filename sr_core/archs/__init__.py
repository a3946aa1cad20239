"""The supported architectures, one file each. A new one is a new file and a new entry here."""

from sr_core.archs.arch import Arch
from sr_core.archs.bsrn import BSRN
from sr_core.archs.carn import CARN
from sr_core.archs.compact import COMPACT
from sr_core.archs.deconvolution import DECONVOLUTION
from sr_core.archs.early_fusion import EARLY_FUSION
from sr_core.archs.edsr import EDSR
from sr_core.archs.efdn import EFDN
from sr_core.archs.espcn import ESPCN
from sr_core.archs.fsrcnn import FSRCNN
from sr_core.archs.imdn import IMDN
from sr_core.archs.msrresnet import MSRRESNET
from sr_core.archs.plksr import PLKSR
from sr_core.archs.rfdn import RFDN
from sr_core.archs.rlfn import RLFN
from sr_core.archs.rrdb import RRDB
from sr_core.archs.safmn import SAFMN
from sr_core.archs.span import SPAN
from sr_core.archs.srcnn import SRCNN
from sr_core.archs.srresnet import SRRESNET
from sr_core.archs.transposed import TRANSPOSED
from sr_core.archs.vdsr import VDSR

# Tried from left to right: stricter recognisers first.
ARCHS: tuple[Arch, ...] = (
    COMPACT,
    RRDB,
    EDSR,
    MSRRESNET,
    SRRESNET,
    IMDN,
    RFDN,
    RLFN,
    SPAN,
    PLKSR,
    CARN,
    BSRN,
    SAFMN,
    EFDN,
    EARLY_FUSION,
    TRANSPOSED,
    DECONVOLUTION,
    ESPCN,
    FSRCNN,
    SRCNN,
    VDSR,
)
