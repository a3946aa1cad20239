"""Which network weights are of: the one that their shapes tell, if it has just these keys and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import TypeAdapter

from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch, Form, ScaleUntold, StateDict
from sr_core.errors import ModelError
from sr_core.memory import is_out_of_memory
from sr_core.weights import Told, below

# What compiling, distributing and training frameworks put before the keys of a network.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net_g.", "netG.", "generator.")
_MOST_PREFIXES = 3

# What comes of reading hyper-parameters from shapes that are not of that network, and of building it.
NO_SUCH_NETWORK = (
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)

# No network has more blocks or channels; what is told is built before it is believed.
_LARGEST_TOLD = 4096

# Of keys and shapes in an error.
_MOST_TOLD = 4


@dataclass(frozen=True)
class Recognised:
    """What weights turned out to be.

    Attributes:
        arch: Their architecture.
        form: In which they were published.
        config: The network's hyper-parameters.
        state_dict: The tensors under the network's own keys.
    """

    arch: Arch
    form: Form
    config: Any
    state_dict: StateDict


def recognise(
    state_dict: StateDict, scale: int | None = None, where: str = "", told: Told | None = None
) -> Recognised:
    """The first of `ARCHS` whose network has just these keys and shapes.

    Args:
        state_dict: Tensors by key, as from `read_weights`.
        scale: HR size / LR size where weights do not tell theirs.
        where: Names the weights in errors.
        told: What their file says of the network, as from `told_network`; it must be true.

    Raises:
        ModelError: None matches, or the one that does needs a scale.
    """
    found = recognise_or_why(state_dict, scale, where, told)
    if isinstance(found, ModelError):
        raise found
    return found


def recognise_or_why(
    state_dict: StateDict, scale: int | None, where: str, told: Told | None = None
) -> Recognised | ModelError:
    """As `recognise`, but where none matches, what says so comes back.

    Raises:
        ModelError: The one that matches needs a scale, or what the file tells is not true.
    """
    if told is not None:
        return _as_told(state_dict, told, where)
    misfits = list[Misfit]()
    is_whole = all(value.numel() for value in state_dict.values())
    for inner in _without_prefixes(state_dict, _MOST_PREFIXES) if is_whole else ():
        for arch in ARCHS:
            for form in arch.forms:
                found = _try_or_ask(arch, form, inner, scale, where)
                if isinstance(found, Recognised):
                    return found
                misfits += [found] if found else []
    return _unknown(state_dict, misfits, where)


def _as_told(state_dict: StateDict, told: Told, where: str) -> Recognised:
    arch = next((arch for arch in ARCHS if arch.name == told.arch), None)
    if arch is None:
        raise ModelError(
            "The weights are of an architecture that is not known here",
            where=where,
            got=told.arch,
            expected=f"one of {', '.join(arch.name for arch in ARCHS)}",
            next_step="use the version of Framelift that made them",
        )
    try:
        config: Any = TypeAdapter(arch.config).validate_python(told.config)
        if any(isinstance(value, int) and value > _LARGEST_TOLD for value in told.config.values()):
            raise ValueError(f"a number above {_LARGEST_TOLD}")
        found = _compared(arch, arch.forms[0], config, state_dict)
    except NO_SUCH_NETWORK as error:
        found = Misfit(arch, 0, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if isinstance(found, Misfit):
        raise ModelError(
            "The weights are not what their file tells",
            where=where,
            got=found.reason,
            next_step="get the file again",
        )
    return found


def _without_prefixes(state_dict: StateDict, most: int) -> Iterator[StateDict]:
    """The tensors as they are, then those below each prefix that frameworks use, and below two of them."""
    yield state_dict
    for prefix in _PREFIXES if most else ():
        inner = below(prefix, state_dict)
        if inner:
            yield from _without_prefixes(inner, most - 1)


def _try_or_ask(
    arch: Arch, form: Form, state_dict: StateDict, scale: int | None, where: str
) -> Recognised | Misfit | None:
    try:
        return _try(arch, form, state_dict, scale)
    except ScaleUntold as untold:
        # Whether they are of this architecture at all shows with any scale that it may have.
        found = _try(arch, form, state_dict, (*untold.scales, 2)[0])
        if isinstance(found, Recognised):
            raise _scale_needed(arch, scale, untold.scales, where) from untold
        return found


def _scale_needed(arch: Arch, scale: int | None, scales: tuple[int, ...], where: str) -> ModelError:
    return ModelError(
        "The weights do not tell their scale",
        where=f"{where}, {arch.name}" if where else arch.name,
        got=f"scale {scale}",
        expected=f"one of {', '.join(map(str, scales))}" if scales else "the one that they were trained for",
        next_step="give it: --scale 2, for example",
    )


@dataclass(frozen=True)
class Misfit:
    """Why weights that have an architecture's first key are not of it."""

    arch: Arch
    num_fitting: int
    reason: str


def _try(arch: Arch, form: Form, state_dict: StateDict, scale: int | None) -> Recognised | Misfit | None:
    try:
        own = form.own(state_dict)
        if arch.first_key not in own:
            return None
        config = replace(arch.config_of(own, scale), **dict(form.config))
        return _compared(arch, form, config, own)
    except ScaleUntold:
        raise
    except NO_SUCH_NETWORK as error:
        if is_out_of_memory(error):
            raise
        return Misfit(arch, 0, f"no {arch.name}: {type(error).__name__} {error}")


def _compared(arch: Arch, form: Form, config: Any, own: StateDict) -> Recognised | Misfit:
    """Whether the network of these hyper-parameters has just these keys and shapes."""
    with torch.device("meta"):
        expected = arch.build(config).state_dict()
    wrong = [
        *(f"no {key}" for key in expected if key not in own),
        *(f"{key} besides" for key in own if key not in expected),
        *(
            f"{key} {tuple(own[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in own and own[key].shape != value.shape
        ),
        *(
            f"{key} of {own[key].dtype}"
            for key, value in expected.items()
            if key in own and own[key].is_floating_point() != value.is_floating_point()
        ),
    ]
    if not wrong:
        return Recognised(arch, form, config, own)
    more = f" and {len(wrong) - _MOST_TOLD} more" if len(wrong) > _MOST_TOLD else ""
    return Misfit(arch, len(expected) - len(wrong), f"as {arch.name}, {', '.join(wrong[:_MOST_TOLD])}{more}")


def _unknown(state_dict: StateDict, misfits: list[Misfit], where: str) -> ModelError:
    nearest = max(misfits, key=lambda misfit: misfit.num_fitting, default=None)
    if nearest is not None:
        got = nearest.reason
    else:
        listed = [f"{key} {tuple(value.shape)}" for key, value in state_dict.items()]
        got = ", ".join([*listed[:_MOST_TOLD], "…"][: len(listed)])
    return ModelError(
        "The weights belong to no known architecture",
        where=where,
        got=got,
        expected=f"one of {', '.join(arch.name for arch in ARCHS)}",
        next_step="'framelift models' lists what is supported",
    )
