"""Networks of spandrel, a library of other architectures, behind the same model: an optional extra.

It is asked for weights that none of our architectures matches, and given tensors that were read without
running code; it never sees the file.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from sr_core.archs.arch import ColorMode, ModelFacts, Network, StateDict
from sr_core.errors import ModelError

_EXTRA = "framelift[spandrel]"
_NEEDED = ("torchvision", "einops", "spandrel")

# What an import raises where a library is missing, was built for another torch, or failed before.
_BROKEN = (ImportError, RuntimeError, OSError, AttributeError)

# What spandrel's networks raise on tensors that are not quite theirs.
_UNLOADABLE = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
)

_COLOR_MODES = {(3, 3): ColorMode.RGB, (1, 1): ColorMode.LUMA}


class Foreign(Network):
    """A network of spandrel, run as spandrel runs it: it pads for the network, and limits values to 0..1."""

    def __init__(self, descriptor: Any) -> None:
        """Takes over the network of a `spandrel.ImageModelDescriptor`."""
        super().__init__()
        self.network = descriptor.model
        self._descriptor = descriptor

    def set_body_dtype(self, dtype: torch.dtype) -> None:
        """Run the whole network in `dtype`: what its ends are, spandrel does not tell."""
        self.network.to(dtype)

    def forward(self, lr_frames: Tensor) -> Tensor:
        """Upscale (B, C, h, w) float32 frames, without gradients; each by itself, as spandrel does."""
        dtype = next(self.network.parameters()).dtype
        sr_frames = [self._descriptor(lr_frame.to(dtype)) for lr_frame in torch.split(lr_frames, 1)]
        return torch.cat(sr_frames).float()


@dataclass(frozen=True)
class ForeignModel:
    """A network that spandrel has loaded.

    Attributes:
        arch: Spandrel's name of the architecture.
        tags: What spandrel says of this network, as its size.
        notes: Whose code it is and under which licence, a sentence each.
    """

    network: Foreign
    facts: ModelFacts
    arch: str
    tags: tuple[str, ...]
    notes: tuple[str, ...]


def load_foreign(state_dict: StateDict, unknown: ModelError, where: str) -> ForeignModel:
    """The model that spandrel makes of weights that are of none of our architectures.

    Args:
        state_dict: Tensors by key, as from `read_weights`.
        unknown: Says that they are of none of ours.
        where: Names the weights in errors.

    Raises:
        ModelError: `unknown`, with what to do next, where spandrel is not installed or does not know them
            either; or spandrel does not work, cannot load them, or they are no plain image upscaler.
    """
    if importlib.util.find_spec("spandrel") is None:
        unknown.next_step = f"'pip install {_EXTRA}' adds some 40 more; 'framelift models' lists all"
        raise unknown
    spandrel = _imported(where)
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(dict(state_dict))
    except spandrel.UnsupportedModelError:
        unknown.expected += f", or one that spandrel {spandrel.__version__} knows"
        raise unknown from None
    except _UNLOADABLE as error:
        raise ModelError(
            "The weights look like an architecture of spandrel's, which cannot load them",
            where=where,
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            next_step="check that the file is complete, and that its network is one that spandrel supports",
        ) from error
    return _checked(descriptor, where)


def foreign_archs() -> tuple[str, ...]:
    """Names of the architectures that spandrel knows; none where it is not installed.

    Raises:
        ModelError: It is installed and does not work.
    """
    if importlib.util.find_spec("spandrel") is None:
        return ()
    registry = _imported(where="").MAIN_REGISTRY
    return tuple(sorted(str(each.architecture.name) for each in registry.architectures("detection")))


def _imported(where: str) -> Any:
    for name in _NEEDED:
        try:
            module = importlib.import_module(name)
        except _BROKEN as error:
            raise _broken(name, error, where) from error
    return module


def _broken(name: str, error: Exception, where: str) -> ModelError:
    """What to install where a library that spandrel needs does not load."""
    torch_version = metadata.version("torch")
    fitting = _torchvision_of(torch_version)
    if name == "torchvision":
        return ModelError(
            "No architecture here matches, and spandrel, which may know more, lacks a torchvision that works",
            where=where,
            got=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            expected=f"torchvision {fitting}, built as torch {torch_version} is",
            next_step=f"pip install --force-reinstall --no-deps 'torchvision=={fitting}', from the package "
            "index that torch came from: beside torch's CPU build only a CPU build works",
        )
    return ModelError(
        f"No architecture here matches, and spandrel, which may know more, fails on {name}",
        where=where,
        got=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
        next_step=f"pip install --upgrade '{_EXTRA}'",
    )


def _torchvision_of(torch_version: str) -> str:
    """The versions of torchvision for a version of torch 2: they have counted together since 2.0 and 0.15."""
    minor = int(torch_version.split(".")[1])
    return f"0.{minor + 15}.*"


def _checked(descriptor: Any, where: str) -> ForeignModel:
    name = str(descriptor.architecture.name)
    channels = (descriptor.input_channels, descriptor.output_channels)
    if descriptor.purpose != "SR" or channels not in _COLOR_MODES:
        raise ModelError(
            "The weights are of no network that upscales plain images",
            where=where,
            got=f"spandrel's {name}, for {descriptor.purpose}, {channels[0]} channels to {channels[1]}",
            expected="super-resolution of 3 channels (RGB) or of 1 (luma)",
        )
    dtypes = [torch.float32]
    # Not bf16, whose 8 bits would cut the picture itself: which layers carry it, spandrel does not tell.
    dtypes += [torch.float16] if descriptor.supports_half else []
    facts = ModelFacts(
        name=name,
        scale=descriptor.scale,
        halo_px=None,  # spandrel says whether tiles look good, and not how much context makes them equal
        size_multiple=descriptor.size_requirements.multiple_of,
        dtypes=tuple(dtypes),
        color_mode=_COLOR_MODES[channels],
    )
    network = Foreign(descriptor)
    return ForeignModel(network, facts, name, tuple(map(str, descriptor.tags)), _notes(name))


def _notes(name: str) -> tuple[str, ...]:
    info = metadata.metadata("spandrel").json
    return (
        f"its network, {name}, is that of spandrel {info['version']}: the library's licence is "
        f"{info.get('license', 'not stated')}, and the network's code has that of its authors, which lies "
        "beside it in spandrel's sources",
        "weights have a licence of their own, that of whoever published them",
    )
