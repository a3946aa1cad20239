"""The workers that train together, each with its share of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """This worker's place among all.

    Attributes:
        rank: Its number, from 0.
        size: How many there are. Above 1, torch's default process group is ready.
        device: That this worker trains on.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Puts the mean over all workers into each tensor, which all have in the same order.

        They travel as one buffer. Sums are made in one order everywhere, so that all get the same bits.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def agree(self, is_so: bool) -> bool:
        """Whether it is so for any worker: all do the same next."""
        if self.size == 1:
            return is_so
        votes = torch.tensor(float(is_so), device=self.device)
        dist.all_reduce(votes)
        return bool(votes > 0)

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites tensors with those of the first worker."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)
