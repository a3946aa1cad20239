"""Whether weights were trained on values up to 1 or up to 255, where neither keys nor shapes tell."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.archs.arch import Network, StateDict

VALUE_RANGES = (1.0, 255.0)

_SIDE_PX = 32

# A trained network keeps a smooth picture; below this it is another picture.
_LEAST_RESEMBLANCE_DB = 20.0


def probe_value_range(
    build: Callable[[float], Network], state_dict: StateDict, scale: int, undecided: float
) -> float:
    """The range of values in which a network with these weights keeps a smooth picture best.

    Args:
        build: A network that multiplies RGB by its argument and divides its result by it.
        state_dict: The weights.
        scale: HR size / LR size.
        undecided: What to answer if in neither range the result resembles the picture, as with untrained
            weights, or if the weights do not fit.
    """
    networks = {value_range: build(value_range) for value_range in VALUE_RANGES}
    if any(not _fits(network, state_dict) for network in networks.values()):
        return undecided
    for network in networks.values():
        network.load_state_dict(state_dict)
    likeness_db = {
        value_range: _likeness_db(network.eval(), scale) for value_range, network in networks.items()
    }
    best = max(VALUE_RANGES, key=likeness_db.__getitem__)
    return best if likeness_db[best] >= _LEAST_RESEMBLANCE_DB else undecided


def _fits(network: Network, state_dict: StateDict) -> bool:
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    return shapes == {key: value.shape for key, value in state_dict.items()}


@torch.inference_mode()
def _likeness_db(network: Network, scale: int) -> float:
    """PSNR between the picture and what the network made of it, shrunk to its size."""
    picture = _smooth_picture()
    error = (F.avg_pool2d(network(picture), scale) - picture).square().mean()
    return float(-10 * error.clamp_min(1e-12).log10())


def _smooth_picture() -> Tensor:
    """(1, 3, h, w), 0.1 to 0.9: a wave of another direction and phase in each channel."""
    row, column = torch.meshgrid(
        torch.linspace(0, 1, _SIDE_PX), torch.linspace(0, 1, _SIDE_PX), indexing="ij"
    )
    waves = [torch.sin(4 * row + column), torch.sin(5 * column + 1), torch.sin(3 * (row + column) + 2)]
    return 0.5 + 0.4 * torch.stack(waves).unsqueeze(0)
