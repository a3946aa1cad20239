"""Blending the weights of two models of one network, as between a faithful one and one with more detail.

Paper: ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks, Wang et al. 2018 (arXiv:1809.00219),
"network interpolation".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sr_core.errors import ModelError, SpecError

if TYPE_CHECKING:  # specs and plans import this too, which torch would make slow
    from torch import Tensor

    from sr_core.archs.arch import StateDict
    from sr_core.recognition import Recognised

# How many batches batch normalisation has seen in training, which no result depends on.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Blend:
    """What a model's weights are blended with.

    Attributes:
        path: Where the other weights lie.
        strength: Their part, 0..1.

    Raises:
        SpecError: The strength is outside 0..1.
    """

    path: str
    strength: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise SpecError(
                "A blend's strength is the part of the other weights",
                where=self.path,
                got=f"{self.strength:g}",
                expected="a number from 0 to 1",
            )


def blend_sha256(sha256: str, other_sha256: str, strength: float) -> str:
    """Names a blend: equal where both files and the strength are, in this order."""
    return hashlib.sha256(f"{sha256} {other_sha256} {float(strength)!r}".encode()).hexdigest()


def blended(weights: Recognised, other: Recognised, blend: Blend, where: str) -> StateDict:
    """(1 - strength) * weights + strength * other, tensor by tensor in float32.

    Strengths of 0 and 1 give the one or the other as they are.

    Args:
        where: Names the first weights in errors.

    Raises:
        ModelError: The two are not of the same network, or hold integers that differ.
    """
    difference = _difference(weights, other)
    if difference is not None:
        raise ModelError(
            "Only weights of one network can be blended",
            where=blend.path,
            got=difference[1],
            expected=f"{difference[0]}, as in {where}",
        )
    if blend.strength in (0.0, 1.0):
        return other.state_dict if blend.strength else weights.state_dict
    return {
        key: _mean(key, tensor, other.state_dict[key], blend) for key, tensor in weights.state_dict.items()
    }


def _mean(key: str, tensor: Tensor, other: Tensor, blend: Blend) -> Tensor:
    if tensor.is_floating_point():
        return (1 - blend.strength) * tensor + blend.strength * other
    if not tensor.equal(other) and not key.endswith(_COUNTER):
        raise ModelError(
            "Integers of the two weights differ, and have no mean",
            where=f"{blend.path}, {key}",
            next_step="blend weights that were trained from the same start",
        )
    return tensor


def _difference(weights: Recognised, other: Recognised) -> tuple[str, str] | None:
    """What tells the two networks apart, of the one and of the other; None where they are the same."""
    if weights.arch.name != other.arch.name:
        return f"architecture {weights.arch.name}", f"architecture {other.arch.name}"
    for field in fields(weights.config):
        own: Any = getattr(weights.config, field.name)
        its: Any = getattr(other.config, field.name)
        if own != its:
            return f"{field.name} {own}", f"{field.name} {its}"
    return None
