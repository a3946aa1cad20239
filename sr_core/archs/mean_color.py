"""The mean colour that networks take off the picture at their beginning, and add to it at their end."""

from __future__ import annotations

import torch
from torch import Tensor

from sr_core.archs.arch import RGB_CHANNELS, StateDict

# Of DIV2K's training pictures.
_MEAN_RGB = (0.4488, 0.4371, 0.4040)


def without_mean_color(frames: Tensor) -> Tensor:
    """(B, 3, h, w) frames of R'G'B' 0..1, less the mean colour."""
    return _shifted(frames, -1.0)


def with_mean_color(frames: Tensor) -> Tensor:
    """The inverse of `without_mean_color`."""
    return _shifted(frames, 1.0)


def _shifted(frames: Tensor, share: float) -> Tensor:
    channels = zip(frames.unbind(1), _MEAN_RGB, strict=True)
    return torch.stack([channel + share * mean for channel, mean in channels], 1)


def without_mean_layers(
    state_dict: StateDict, subtract: str, add: str, value_range: float = 1.0
) -> dict[str, Tensor]:
    """The tensors without the authors' 1x1 convolutions for the mean colour, which is a constant here.

    Those of another value stay, so that the weights are not recognised.

    Args:
        state_dict: Tensors by key.
        subtract: Name of the convolution at the beginning.
        add: Name of the one at the end.
        value_range: What the network takes for white.
    """
    shift = torch.tensor(_MEAN_RGB) * value_range
    identity = torch.eye(RGB_CHANNELS)[..., None, None]
    known = {
        f"{subtract}.weight": identity,
        f"{subtract}.bias": -shift,
        f"{add}.weight": identity,
        f"{add}.bias": shift,
    }
    return {key: value for key, value in state_dict.items() if not _is(value, known.get(key))}


def _is(value: Tensor, known: Tensor | None) -> bool:
    if known is None or value.shape != known.shape:
        return False
    return torch.allclose(value, known, rtol=1e-2, atol=1e-3)  # also where it was kept in half precision
