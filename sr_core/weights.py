"""Reading weights of any origin without running code from them, and finding their architecture."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch, Form, ScaleUntold, StateDict
from sr_core.errors import ModelError
from sr_core.memory import is_out_of_memory

# Where training frameworks put the weights of a checkpoint, best first.
_WRAPPERS = (
    "params_ema",
    "params",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "net_g",
    "netG",
    "generator",
    "model",
    "weights",
)
_MOST_WRAPPERS = 4

# What torch's AveragedModel counts beside the weights.
_NUM_AVERAGED = "n_averaged"

# What compiling, distributing and training frameworks put before the keys of a network.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net_g.", "netG.", "generator.")
_MOST_PREFIXES = 3

# What torch.load raises on files that are damaged or something else altogether.
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ImportError,
    AssertionError,
)

_GLOBAL = re.compile(r"GLOBAL (\S+)")

# What comes of reading hyper-parameters from shapes that are not of that network, and of building it.
NO_SUCH_NETWORK = (
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)

# Of keys and shapes in an error.
_MOST_TOLD = 4

_CONVERT = "export the weights as safetensors where they were made"


def read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a weights file and the file's hash.

    Checkpoints are unwrapped (`params_ema`, `params`, `state_dict` and others, averages first) and a
    `module.` before every key is dropped; floating-point tensors come as float32 on the CPU.

    Args:
        path: A safetensors file or anything that `torch.load(weights_only=True)` opens.

    Returns:
        Tensors by key, and the SHA-256 of the file's bytes in hex.

    Raises:
        ModelError: The file is missing, unreadable, holds code or no tensors, or a value is not finite.
    """
    data = _read_bytes(path)
    content = _decode(data, path)
    tensors = _unwrap(content)
    if not tensors:
        raise ModelError(
            "No tensors in the weights file",
            where=str(path),
            got=_contents(content),
            expected=f"a state_dict, bare or under one of {', '.join(_WRAPPERS)}",
        )
    for key, tensor in tensors.items():
        _refuse_odd(key, tensor, path)
    state_dict = {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}
    for key, tensor in state_dict.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                "The weights hold values that are not finite",
                where=f"{path}, {key}",
                next_step="get the file again",
            )
    return state_dict, hashlib.sha256(data).hexdigest()


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


def recognise(state_dict: StateDict, scale: int | None = None, where: str = "") -> Recognised:
    """The first of `ARCHS` whose network has just these keys and shapes.

    Args:
        state_dict: Tensors by key, as from `read_weights`.
        scale: HR size / LR size where weights do not tell theirs.
        where: Names the weights in errors.

    Raises:
        ModelError: None matches, or the one that does needs a scale.
    """
    found = recognise_or_why(state_dict, scale, where)
    if isinstance(found, ModelError):
        raise found
    return found


def recognise_or_why(state_dict: StateDict, scale: int | None, where: str) -> Recognised | ModelError:
    """As `recognise`, but where none matches, what says so comes back.

    Raises:
        ModelError: The one that matches needs a scale.
    """
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


def _without_prefixes(state_dict: StateDict, most: int) -> Iterator[StateDict]:
    """The tensors as they are, then those below each prefix that frameworks use, and below two of them."""
    yield state_dict
    for prefix in _PREFIXES if most else ():
        inner = _below(prefix, state_dict)
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
        with torch.device("meta"):
            expected = arch.build(config).state_dict()
    except ScaleUntold:
        raise
    except NO_SUCH_NETWORK as error:
        if is_out_of_memory(error):
            raise
        return Misfit(arch, 0, f"no {arch.name}: {type(error).__name__} {error}")
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


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError("There is no such weights file", where=str(path)) from error
    except IsADirectoryError as error:
        raise ModelError("The weights are a directory", where=str(path), expected="a file") from error
    except OSError as error:
        raise ModelError("The weights file cannot be read", where=str(path), got=str(error)) from error


def _decode(data: bytes, path: Path) -> Any:
    # A safetensors file begins with the length of its header, 8 bytes, and the header's brace.
    if data[8:9] == b"{":
        try:
            return safetensors.torch.load(data)
        except SafetensorError as error:
            raise ModelError("Damaged safetensors file", where=str(path), got=str(error)) from error
    if data.startswith(b"PK"):
        _refuse_compressed(data, path)
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except _UNREADABLE as error:
        raise _load_error(error, path, data) from error


def _load_error(error: Exception, path: Path, data: bytes) -> ModelError:
    """Torch's own text is not repeated: it says how to run the code."""
    found = _GLOBAL.search(str(error)) if data.startswith((b"PK", b"\x80")) else None
    if found:
        return ModelError(
            "The weights file holds pickled objects, which may run code, and is not opened",
            where=str(path),
            got=found[1],
            expected="tensors only",
            next_step=_CONVERT,
        )
    return ModelError(
        "Not a weights file, or a damaged one",
        where=str(path),
        got=f"{len(data)} bytes that begin with {data[:8]!r}" if data else "an empty file",
        expected="safetensors or a torch checkpoint",
        next_step="get the file again, or check that it is what was meant",
    )


def _unwrap(content: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint: those below the first of the usual names that has any, or its own."""
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(content, Mapping):
            return {}
        inside = (content.get(wrapper) for wrapper in _WRAPPERS)
        content = next((each for each in inside if isinstance(each, Mapping) and each), content)
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    tensors.pop(_NUM_AVERAGED, None)
    return _below("module.", tensors) if all(key.startswith("module.") for key in tensors) else tensors


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose keys begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _refuse_odd(key: str, tensor: Tensor, path: Path) -> None:
    """Lets plain tensors pass, of no more values than the file holds: others cost what they claim to be."""
    is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if is_plain and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes():
        return
    raise ModelError(
        "The weights file holds a tensor that is no plain one",
        where=f"{path}, {key}",
        got=f"{tuple(tensor.shape)} {tensor.dtype}, {tensor.layout} on {tensor.device}",
        expected="dense values on the CPU, all of them in the file",
        next_step=_CONVERT,
    )


def _refuse_compressed(data: bytes, path: Path) -> None:
    """Lets archives pass as torch writes them; others may hold a thousand times their size."""
    try:
        entries = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return  # which torch tells
    size = sum(entry.file_size for entry in entries)
    if size > len(data) or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ModelError(
            "The weights file is a compressed archive, which torch never writes",
            where=str(path),
            got=f"{size} bytes in {len(data)}",
            expected="a torch checkpoint or safetensors",
            next_step=_CONVERT,
        )


def _contents(content: Any) -> str:
    """What a file without tensors holds, in words."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    listed = [f"{key} ({type(value).__name__})" for key, value in content.items()]
    return ", ".join([*listed[:_MOST_TOLD], "…"][: len(listed)]) or "an empty dictionary"
