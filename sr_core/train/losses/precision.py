"""Where losses leave mixed precision: squares, logarithms and small differences need float32."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """The values in float32, or as they are where they are wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def full_precision(values: Tensor) -> torch.autocast:
    """A context without autocast on the device of `values`."""
    return torch.autocast(values.device.type, enabled=False)
