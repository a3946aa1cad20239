"""An exponential moving average of weights, which is what is validated and used."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sr_core.archs.arch import StateDict


class Ema:
    """Follows a network: average = decay * average + (1 - decay) * weights, from its own start on.

    At first the average would be mostly the start, which knows nothing; so the decay begins low and comes to
    its value as (1 + n) / (10 + n) lets it, n being the updates, as TensorFlow's ExponentialMovingAverage has
    it. Buffers, as those of batch norm, are copied.

    Attributes:
        network: The average, in evaluation mode.
        num_updates: How often it was updated.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.num_updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes a step towards `network`."""
        self.num_updates += 1
        decay = min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages, weights = _floats(self.network), _floats(network)
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, object]:
        """What `load_state_dict` takes."""
        return {"network": self.network.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, network: StateDict, num_updates: int) -> None:
        """Goes on from where another average was."""
        self.network.load_state_dict(network)
        self.num_updates = num_updates


def _floats(network: nn.Module) -> list[Tensor]:
    return [parameter.data for parameter in network.parameters()]
