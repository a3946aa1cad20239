"""Networks as ONNX files, which other runtimes take: an optional extra.

A file is given out only after ONNX Runtime has computed what torch computes, on frames of other sizes and
other batches than those that it was traced with: a size that was traced in would be wrong without an error.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sr_core.archs.arch import ModelFacts, Network
from sr_core.card import Card, card_json
from sr_core.errors import ModelError

OPSET = 18
"""The oldest that torch's exporter writes without converting: runtimes of several years take it."""

_EXTRA = "framelift[onnx]"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_CARD_UNDER = "framelift"
_INPUT, _OUTPUT = "lr_frames", "sr_frames"

# (images, height, width), in multiples of what a network asks of sizes.
_TRACED = (2, 24, 32)
_CHECKED = ((1, 33, 47), (3, 40, 28))

# Of values between 0 and 1; in half precision each layer rounds to 11 bits, and sums have other orders.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2}


def onnx_bytes(network: Network, facts: ModelFacts, card: Card, where: str) -> bytes:
    """The network as an ONNX file with its weights in it.

    Its input `lr_frames` is (B, C, h, w) float32, or (B, T, C, h, w) of a network that sees several frames,
    as `Network` takes it; its output is `sr_frames`. B, h and w may be any; networks that weigh the frame as
    a whole (IMDN's followers) take no side below 15 pixels.

    Args:
        network: In evaluation mode, on the CPU; its body is in the dtype that the file shall compute in.
        facts: Of the network.
        card: Goes into the file's metadata, as JSON under `framelift`.
        where: Names the weights in errors.

    Raises:
        ModelError: A library is missing, the network cannot be written as ONNX, or what was written computes
            something else.
    """
    runtime = _imported(where)
    with _without_its_own_talk():
        model = _traced(network, facts, where)
    model.metadata_props.add(key=_CARD_UNDER, value=card_json(card).decode())
    content: bytes = model.SerializeToString()
    _check(content, network, facts, runtime, where)
    return content


def _imported(where: str) -> Any:
    """ONNX Runtime, when all is there."""
    for name in _NEEDED:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ModelError(
                "ONNX files need libraries that are not installed",
                where=where,
                got=f"no {name}",
                expected=", ".join(_NEEDED),
                next_step=f"pip install '{_EXTRA}'",
            ) from error
    return module


@contextlib.contextmanager
def _without_its_own_talk() -> Iterator[None]:
    """The exporter warns of deprecations inside of torch, and logs that torchvision is missing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def _traced(network: Network, facts: ModelFacts, where: str) -> Any:
    frames = _frames(facts, *_TRACED)
    names = {0: "images", frames.ndim - 2: "height", frames.ndim - 1: "width"}
    try:
        program = torch.onnx.export(
            network,
            (frames,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            dynamic_shapes=(names,),
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise _refused("torch cannot write it", " ".join(str(error).split())[:300], facts, where) from error
    if program is None:
        raise _refused("torch cannot write it", "no program", facts, where)
    return program.model_proto


def _check(content: bytes, network: Network, facts: ModelFacts, runtime: Any, where: str) -> None:
    dtype = _body_dtype(network)
    errors = runtime.capi.onnxruntime_pybind11_state
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for shape in _CHECKED:
            difference = _difference(session, network, _frames(facts, *shape))
            if not difference <= _TOLERANCE[dtype]:
                size = "x".join(map(str, shape[:0:-1]))
                got = f"differences of {difference:.2g} on {shape[0]} frames of {size}"
                raise _refused("it would not compute the same", got, facts, where)
    except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.RuntimeException) as error:
        raise _refused(
            "ONNX Runtime cannot run it", " ".join(str(error).split())[:300], facts, where
        ) from error


@torch.inference_mode()
def _difference(session: Any, network: Network, frames: Tensor) -> float:
    expected = network(frames)
    (got,) = session.run([_OUTPUT], {_INPUT: frames.numpy()})
    if got.shape != tuple(expected.shape):
        return float("inf")
    return float((torch.from_numpy(got) - expected).abs().max())


def _body_dtype(network: Network) -> torch.dtype:
    is_half = any(weight.dtype == torch.float16 for weight in network.parameters())
    return torch.float16 if is_half else torch.float32


def _frames(facts: ModelFacts, num_images: int, height: int, width: int) -> Tensor:
    """Noise, the same every time."""
    several = (facts.num_frames,) if facts.num_frames > 1 else ()
    sides = (height * facts.size_multiple, width * facts.size_multiple)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_images, *several, facts.color_mode.num_channels, *sides, generator=generator)


def _refused(why: str, got: str, facts: ModelFacts, where: str) -> ModelError:
    return ModelError(
        f"The network cannot become an ONNX file for frames of any size: {why}",
        where=where,
        got=f"{facts.name}: {got}",
        next_step="export it as .safetensors, or train another architecture",
    )
