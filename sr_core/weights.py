"""Weights files: reading those of any origin without running code from them, and writing our own."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sr_core.errors import ModelError

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

# What torch.load raises on files that are damaged or something else altogether.
UNREADABLE = (
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

# Under which a safetensors file tells its network, and what such a header may take.
_TOLD_UNDER = "framelift"
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 64 << 20
_HEADER_LENGTH_BYTES = 8

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
class Told:
    """What a file says of its own network, which tensors alone do not tell in full.

    Attributes:
        arch: Name of the architecture.
        config: Its hyper-parameters, as JSON has them.
    """

    arch: str
    config: Mapping[str, object]


class Named(Protocol):
    """An architecture or family of networks."""

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class


def pack_weights(network: nn.Module, arch: Named, config: Any) -> bytes:
    """A safetensors file with the weights of `network`, which tells its architecture and hyper-parameters."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    told = json.dumps({"arch": arch.name, "config": asdict(config)})
    return _in_order(safetensors.torch.save(tensors, {"format": "pt", _TOLD_UNDER: told}))


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its metadata sorted, which come in any order: a hash names weights."""
    start = _HEADER_LENGTH_BYTES + int.from_bytes(content[:_HEADER_LENGTH_BYTES], "little")
    header = json.loads(content[_HEADER_LENGTH_BYTES:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _HEADER_LENGTH_BYTES)
    return len(text).to_bytes(_HEADER_LENGTH_BYTES, "little") + text + content[start:]


def told_network(path: Path) -> Told | None:
    """What the file says of its network; None where it says nothing.

    Raises:
        ModelError: What it says cannot be understood.
    """
    content = _metadata(path).get(_TOLD_UNDER)
    if content is None:
        return None
    try:
        told = json.loads(content)
        return Told(str(told["arch"]), dict(told["config"]))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ModelError(
            "What the weights file tells of its network cannot be understood",
            where=str(path),
            got=str(content)[:200],
            next_step="get the file again",
        ) from error


def _metadata(path: Path) -> dict[str, Any]:
    """Of a safetensors file; empty for others, and for damaged ones."""
    with path.open("rb") as file:
        num_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = file.read(min(num_bytes, _MOST_HEADER_BYTES))
    if not header.startswith(b"{") or len(header) < num_bytes:
        return {}
    try:
        found = json.loads(header).get("__metadata__")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


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
    except UNREADABLE as error:
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
    return below("module.", tensors) if all(key.startswith("module.") for key in tensors) else tensors


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
