"""The discriminators that generators are trained against, one file each."""

from sr_core.discriminators.discriminator import Discriminator
from sr_core.discriminators.patch import PATCH
from sr_core.discriminators.strided import STRIDED
from sr_core.discriminators.unet import UNET
from sr_core.discriminators.vgg import VGG
from sr_core.family import Family

DISCRIMINATORS: tuple[Family[Discriminator], ...] = (VGG, PATCH, UNET, STRIDED)
