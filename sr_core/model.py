"""A model: a loaded network together with what the engine must know about it."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sr_core.archs.arch import ColorMode, ModelFacts, Network
from sr_core.archs.interpolation import Interpolation, interpolation_facts
from sr_core.blend import Blend, blend_sha256, blended
from sr_core.errors import ModelError
from sr_core.foreign import load_foreign
from sr_core.kernels import Kernel
from sr_core.pretrained import BUNDLED
from sr_core.recognition import Recognised, recognise, recognise_or_why
from sr_core.weights import read_weights, told_network

__all__ = ["Blend", "ColorMode", "Model", "ModelFacts", "Network", "Origin", "list_models", "load_model"]


@dataclass(frozen=True)
class Origin:
    """What weights were recognised as.

    Attributes:
        arch: Name of the architecture.
        form: Whose way of naming tensors they follow.
        paper: Where the architecture was published; empty where that is not known.
        config: The network's hyper-parameters, or the little that another library tells of them.
        notes: What must be known before the model is used, as licences; a sentence each.
    """

    arch: str
    form: str
    paper: str
    config: Any
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode on the CPU, in float32.

    Attributes:
        network: Takes and gives (B, C, h, w) float32 frames, the channels being those of `facts.color_mode`.
        facts: What the engine must know.
        weights_sha256: Hash of the weights file; of a blend, its `blend_sha256`; for interpolation, of the
            kernel's name and the scale.
        origin: What its weights were recognised as; None for models without weights.
        files_sha256: Hash of each weights file: of a blend two, else one; none for models without weights.
    """

    network: Network
    facts: ModelFacts
    weights_sha256: str
    origin: Origin | None = None
    files_sha256: tuple[str, ...] = ()


def list_models() -> tuple[str, ...]:
    """Names that `load_model` knows beside paths: of interpolation, and of bundled models."""
    return (*(kernel.value for kernel in Kernel), *BUNDLED)


def load_model(name_or_path: str, scale: int | None = None, blend: Blend | None = None) -> Model:
    """The model of a name or of a weights file, ready to run.

    Args:
        name_or_path: One of `list_models()`, or the path of a weights file, which has a suffix or a slash.
        scale: HR size / LR size. Interpolation needs it; weights bring their own, and it must be the same.
        blend: Other weights of the same network, which are blended with these.

    Raises:
        ModelError: The name is unknown, a file cannot be used, the scale is not the model's, or the blend is
            of two networks.
    """
    if name_or_path in set(Kernel):
        if blend is not None:
            raise ModelError("Only weights can be blended", where=blend.path, got=name_or_path)
        return _load_interpolation(Kernel(name_or_path), scale)
    name_or_path = str(BUNDLED.get(name_or_path, name_or_path))
    if not Path(name_or_path).suffix and "/" not in name_or_path and not Path(name_or_path).exists():
        raise _unknown_name(name_or_path)
    if blend is not None:
        return _load_blend(Path(name_or_path), scale, blend)
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
    found = recognise_or_why(tensors, scale, str(path), told_network(path))
    if isinstance(found, Recognised):
        return Model(*_built(found, scale, path), sha256, _origin(found), (sha256,))
    foreign = load_foreign(tensors, found, where=str(path))
    _refuse_other_scale(foreign.facts, scale, path)
    origin = Origin(foreign.arch, "spandrel", "", " ".join(foreign.tags), foreign.notes)
    return Model(foreign.network.eval(), foreign.facts, sha256, origin, (sha256,))


def _load_blend(path: Path, scale: int | None, blend: Blend) -> Model:
    tensors, sha256 = read_weights(path)
    others, other_sha256 = read_weights(Path(blend.path))
    found = recognise(tensors, scale, str(path), told_network(path))
    same_scale = found.arch.facts(found.config).scale
    other = recognise(others, same_scale, blend.path, told_network(Path(blend.path)))
    mean = replace(found, state_dict=blended(found, other, blend, where=str(path)))
    identity = blend_sha256(sha256, other_sha256, blend.strength)
    return Model(*_built(mean, scale, path), identity, _origin(found), (sha256, other_sha256))


def _built(found: Recognised, scale: int | None, path: Path) -> tuple[Network, ModelFacts]:
    facts = found.arch.facts(found.config)
    _refuse_other_scale(facts, scale, path)
    network = found.arch.build(found.config)
    network.load_state_dict(found.state_dict)
    return network.eval(), facts


def _origin(found: Recognised) -> Origin:
    return Origin(found.arch.name, found.form.name, found.arch.paper, found.config)


def _refuse_other_scale(facts: ModelFacts, scale: int | None, path: Path) -> None:
    if scale is not None and scale != facts.scale:
        raise ModelError(
            "The model has another scale",
            where=str(path),
            got=f"scale {scale}",
            expected=f"scale {facts.scale}",
            next_step="leave the scale out, and give a target size for any other",
        )


def _unknown_name(name: str) -> ModelError:
    near = difflib.get_close_matches(name, list_models(), n=1)
    return ModelError(
        "There is no model of this name",
        got=repr(name),
        expected=f"{', '.join(list_models())}, or the path of a weights file",
        next_step=f"did you mean {near[0]!r}?" if near else "'framelift models' lists all",
    )
