"""The supported architectures, one file each. A new one is a new file and a new entry here."""

from sr_core.archs.arch import Arch
from sr_core.archs.compact import COMPACT

# Tried from left to right: stricter recognisers first.
ARCHS: tuple[Arch, ...] = (COMPACT,)
