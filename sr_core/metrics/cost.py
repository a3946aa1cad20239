"""What a network costs: its weights and its multiplications."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sr_core.archs.ends import InputConv
from sr_core.model import Model

# What papers count multiply-adds for, whatever the scale: an output of 1280x720.
OUTPUT_PX = 1280 * 720


def num_parameters(network: nn.Module) -> int:
    """How many weights a network learns; constants that it carries do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def num_macs(model: Model) -> int:
    """Multiply-adds for an output of 1280x720, as papers count them.

    Counted are convolutions, transposed ones and products of matrices; neither sums, activations nor
    resampling, so that interpolation costs nothing. For scales that do not divide the size, the frame is as
    large as need be and its cost is put in proportion.
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
    """Counts what `InputConv` multiplies with the zeros and remainders that it fills its channels up with."""

    def __init__(self, network: nn.Module) -> None:
        self.num_macs = 0
        for module in network.modules():
            if isinstance(module, InputConv):
                module.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, _: object, features: torch.Tensor) -> None:
        assert isinstance(layer, InputConv)
        num_parts = 2 if layer.weight.dtype.itemsize < 4 else 1
        num_filled = -(-num_parts * layer.in_channels // 8) * 8
        taps = layer.kernel_size[0] * layer.kernel_size[1]
        self.num_macs += features.numel() * taps * (num_filled - layer.in_channels)
