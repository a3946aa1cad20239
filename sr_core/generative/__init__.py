"""Models that make images of noise, one file each, and what samples from them."""

from sr_core.family import Family
from sr_core.generative.gan import GAN
from sr_core.generative.generator import Generator, sample
from sr_core.generative.vae import VAE

__all__ = ["GENERATORS", "Generator", "sample"]

GENERATORS: tuple[Family[Generator], ...] = (GAN, VAE)
