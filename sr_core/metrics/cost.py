"""What a network costs: its weights and its multiplications."""

from __future__ import annotations

import copy
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sr_core.model import Model

# What papers count multiply-adds for, whatever the scale: an output of 1280x720.
OUTPUT_PX = 1280 * 720


@runtime_checkable
class FillsUp(Protocol):
    """A layer that computes more than its weights ask for, because that is faster or more exact."""

    def num_filling_macs(self, made: Tensor) -> int:
        """Multiply-adds that no paper counts, of those that made the layer's result."""


def num_parameters(network: nn.Module) -> int:
    """How many weights a network learns; constants that it carries do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def num_macs(model: Model) -> int:
    """Multiply-adds for an output of 1280x720, as papers count them.

    Counted are convolutions, transposed ones and products of matrices; neither sums, activations nor
    resampling, so that interpolation costs nothing, nor what layers only fill up (`FillsUp`). For scales that
    do not divide the size, the frame is as large as need be and its cost is put in proportion.
    """
    facts = model.facts
    multiple = facts.scale * facts.size_multiple
    height, width = (-(-side // multiple) * facts.size_multiple for side in (720, 1280))
    windows = (facts.num_frames,) if facts.num_frames > 1 else ()
    network = copy.deepcopy(model.network).to("meta")
    lr_frame = torch.empty(1, *windows, facts.color_mode.num_channels, height, width, device="meta")
    filling = _Filling(network)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(lr_frame)
    num_all = int(counter.get_total_flops()) // 2 - filling.num_macs
    return num_all * OUTPUT_PX // (height * width * facts.scale**2)


class _Filling:
    """Adds up what layers multiply with numbers that they only fill their operands up with."""

    def __init__(self, network: nn.Module) -> None:
        self.num_macs = 0
        for module in network.modules():
            if isinstance(module, FillsUp):
                module.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, _: object, made: Tensor) -> None:
        assert isinstance(layer, FillsUp)
        self.num_macs += layer.num_filling_macs(made)
