"""Telling that memory ran out from whatever else goes wrong."""

from __future__ import annotations

import torch

# Neither torch's CPU allocator nor a thread without room for its stack has a type of its own for it.
_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "can't start new thread",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an operation failed because its device, GPU or CPU, had no memory left for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _WORDS)
