"""A model: a loaded network together with what the engine must know about it."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from sr_core.archs.arch import ColorMode, ModelFacts, Network
from sr_core.archs.interpolation import Interpolation, interpolation_facts
from sr_core.errors import ModelError
from sr_core.kernels import Kernel
from sr_core.weights import read_weights, recognise

__all__ = ["ColorMode", "Model", "ModelFacts", "Network", "list_models", "load_model"]


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode on the CPU, in float32.

    Attributes:
        network: Takes and gives (B, C, h, w) float32 frames, the channels being those of `facts.color_mode`.
        facts: What the engine must know.
        weights_sha256: Hash of the weights file; for interpolation, of the kernel's name and the scale.
    """

    network: Network
    facts: ModelFacts
    weights_sha256: str


def list_models() -> tuple[str, ...]:
    """Names that `load_model` knows, beside paths of weights files."""
    return tuple(kernel.value for kernel in Kernel)


def load_model(name_or_path: str, scale: int | None = None) -> Model:
    """The model of a name or of a weights file, ready to run.

    Args:
        name_or_path: One of `list_models()`, or the path of a weights file, which has a suffix or a slash.
        scale: Upscaling factor. Interpolation needs it; weights bring their own, and it must be the same.

    Raises:
        ModelError: The name is unknown, the file cannot be used, or the scale is not the model's.
    """
    if name_or_path in list_models():
        return _load_interpolation(Kernel(name_or_path), scale)
    if not Path(name_or_path).suffix and "/" not in name_or_path and not Path(name_or_path).exists():
        raise _unknown_name(name_or_path)
    return _load_weights(Path(name_or_path), scale)


def _load_interpolation(kernel: Kernel, scale: int | None) -> Model:
    if scale is None or scale < 1:
        raise ModelError(
            "Interpolation needs a scale",
            where=kernel.value,
            got=str(scale),
            expected="an integer from 1 upwards",
        )
    identity = hashlib.sha256(f"{kernel.value} x{scale}".encode()).hexdigest()
    return Model(Interpolation(kernel, scale).eval(), interpolation_facts(kernel, scale), identity)


def _load_weights(path: Path, scale: int | None) -> Model:
    tensors, sha256 = read_weights(path)
    found = recognise(tensors, scale, where=str(path))
    facts = found.arch.facts(found.config)
    if scale is not None and scale != facts.scale:
        raise ModelError(
            "The model has another scale",
            where=str(path),
            got=f"scale {scale}",
            expected=f"scale {facts.scale}",
            next_step="leave the scale out, and give a target size for any other",
        )
    network = found.arch.build(found.config)
    network.load_state_dict(found.state_dict)
    return Model(network.eval(), facts, sha256)


def _unknown_name(name: str) -> ModelError:
    near = difflib.get_close_matches(name, list_models(), n=1)
    return ModelError(
        "There is no model of this name",
        got=repr(name),
        expected=f"{', '.join(list_models())}, or the path of a weights file",
        next_step=f"did you mean {near[0]!r}?" if near else "'framelift models' lists all",
    )
