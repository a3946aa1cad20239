"""The first convolution of networks whose picture travels as features, past the body, to the last layer."""

from __future__ import annotations

from sr_core.archs.ends import InputConv, OutputConv


class SkipConv(InputConv, OutputConv):
    """A convolution over the picture, always in float32.

    Where no picture is added at the end, these features are the picture. In bf16 they would shift smooth
    colours by up to 3 codes of 10 bits, which no layer can mend.
    """
