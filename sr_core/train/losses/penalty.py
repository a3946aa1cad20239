"""Zero-centred gradient penalties: without them, GANs need not converge even near their solution.

Paper: Which Training Methods for GANs do actually Converge?, Mescheder et al. 2018 (arXiv:1801.04406): R1 is
taken on true images, R2 on made ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sr_core.train.losses.precision import widened


def gradient_penalty(images: Tensor, logits: Tensor, gamma: float) -> Tensor:
    """gamma / 2 times the mean over images of the squared norm of a logit's gradient by the image.

    The norm is summed over the values of an image, not averaged, as in the paper: published gammas grow with
    images that have one logit (10 in the paper; R3GAN's from 0.05 at 32 pixels to 150 at 256). Of a map, the
    gradient is that of all its logits' sum, and its squared norm divided by their number: patches that are
    judged each by itself cost what they would as images of their own, so gamma holds for crops of any size.
    With batch norm, an image's gradient also holds what it does to the others.

    The gradient is taken in the precision of `logits`: bfloat16 autocast is fine, under float16 its small
    values can vanish, and logits are better made without.

    Args:
        images: (B, C, h, w) with `requires_grad`, true ones for R1, made ones (detached first) for R2.
        logits: (B, 1) or (B, 1, h', w') that the discriminator made of them, graph and all; they can serve
            the adversarial loss too.
        gamma: Strength; 0 or more.

    Returns:
        A scalar in float32, differentiable a second time by the discriminator's weights.
    """
    (gradients,) = torch.autograd.grad(widened(logits).sum(), images, create_graph=True)
    squared_norms = widened(gradients).square().flatten(1).sum(1)
    return gamma / 2 * squared_norms.mean() / logits[0].numel()
