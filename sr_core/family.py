"""Networks that are no upscalers, by their weights: which of a family they are, built and loaded.

The same idea as `sr_core.recognition.recognise`: hyper-parameters are read from shapes, and then all keys and
shapes must be the network's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from sr_core.archs.arch import StateDict
from sr_core.errors import ModelError
from sr_core.memory import is_out_of_memory
from sr_core.recognition import NO_SUCH_NETWORK
from sr_core.weights import read_weights

N_co = TypeVar("N_co", bound=nn.Module, covariant=True)


@dataclass(frozen=True)
class Family(Generic[N_co]):
    """One family of networks.

    Attributes:
        name: Short and lower-case.
        paper: Where it was published.
        first_key: A key that all its weights have and those of no other family in the same list.
        config_of: The hyper-parameters, read from shapes. It may raise KeyError, IndexError or ValueError
            where they are not of this family.
        build: An untrained network from hyper-parameters.
    """

    name: str
    paper: str
    first_key: str
    config_of: Callable[[StateDict], Any]
    build: Callable[[Any], N_co]


def load_network(path: Path, families: Sequence[Family[N_co]]) -> N_co:
    """The network of a weights file: on the CPU, in float32, in evaluation mode.

    Raises:
        ModelError: The file cannot be read, or holds none of `families`.
    """
    tensors, _ = read_weights(path)
    return build_network(tensors, families, where=str(path))


def build_network(state_dict: StateDict, families: Sequence[Family[N_co]], where: str = "") -> N_co:
    """The network of one of `families` that has just these keys and shapes, with copies of the tensors.

    Args:
        state_dict: Tensors by key, as from `read_weights`.
        families: What it may be.
        where: Names the weights in errors.

    Raises:
        ModelError: It is none of them.
    """
    misfit = f"{len(state_dict)} tensors, first {next(iter(state_dict), 'none')}"
    for family in families:
        if family.first_key not in state_dict:
            continue
        try:
            config = family.config_of(state_dict)
            with torch.device("meta"):
                # Assigning compares keys and shapes, and costs nothing, however large shapes claim to be.
                family.build(config).load_state_dict(state_dict, assign=True)
        except NO_SUCH_NETWORK as error:
            if is_out_of_memory(error):
                raise
            misfit = f"as {family.name}: {' '.join(str(error).split())[:300]}"
            continue
        network = family.build(config)
        network.load_state_dict(state_dict)
        return network.eval()
    raise ModelError(
        "The weights belong to none of the networks that are asked for",
        where=where,
        got=misfit,
        expected=", ".join(family.name for family in families),
    )
