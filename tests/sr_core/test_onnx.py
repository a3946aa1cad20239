"""ONNX files of the zoo, which ONNX Runtime computes."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from sr_core.archs.arch import Arch, ModelFacts, Network
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.card import new_card, read_card
from sr_core.errors import ModelError
from sr_core.onnx import OPSET, onnx_bytes
from tests.sr_core.archs.zoo import ZOO
from tests.sr_core.threads import one_thread

# Of each kind of layer that the zoo has one at least; SAFMN is the one that cannot.
NAMES = ("compact", "espcn", "fsrcnn", "srresnet", "imdn", "rrdb", "span", "plksr", "early_fusion")
SMALL = CompactConfig(num_feat=8, num_conv=1, scale=2)


def first_of(name: str) -> tuple[Arch, Any]:
    return next((arch, config) for arch, config in ZOO if arch.name == name)


def built(arch: Arch, config: Any) -> tuple[Network, ModelFacts]:
    torch.manual_seed(0)
    return arch.build(config).eval(), arch.facts(config)


def exported(name: str) -> bytes:
    arch, config = first_of(name)
    network, facts = built(arch, config)
    return onnx_bytes(network, facts, new_card(network, arch, config), where=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@one_thread()
def test_a_network_becomes_a_file_that_computes_the_same_on_any_size_and_batch(name: str) -> None:
    session = onnxruntime.InferenceSession(exported(name), providers=["CPUExecutionProvider"])

    network, facts = built(*first_of(name))
    several = (facts.num_frames,) if facts.num_frames > 1 else ()
    frames = torch.rand(4, *several, facts.color_mode.num_channels, 56, 72)
    (got,) = session.run(["sr_frames"], {"lr_frames": frames.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(got, network(frames).numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
@one_thread()
def test_the_file_tells_its_card_and_takes_what_runtimes_take() -> None:
    session = onnxruntime.InferenceSession(exported("espcn"), providers=["CPUExecutionProvider"])

    told = read_card(session.get_modelmeta().custom_metadata_map["framelift"].encode(), "espcn")
    assert (told.arch, told.scale) == ("espcn", 2)
    assert [axis if isinstance(axis, int) else "any" for axis in session.get_inputs()[0].shape] == [
        "any",
        1,
        "any",
        "any",
    ]
    assert OPSET == 18
    assert json.loads(session.get_modelmeta().custom_metadata_map["framelift"])["color_mode"] == "luma"


@pytest.mark.slow
@one_thread()
def test_in_half_precision_the_ends_stay_single_and_the_file_is_smaller() -> None:
    config = CompactConfig(num_feat=32, num_conv=3, scale=2)
    network, facts = built(COMPACT, config)
    card = new_card(network, COMPACT, config)
    whole = onnx_bytes(network, facts, card, where="test")
    network.set_body_dtype(torch.float16)

    half = onnx_bytes(network, facts, card, where="test")

    session = onnxruntime.InferenceSession(half, providers=["CPUExecutionProvider"])
    assert {value.type for value in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}
    assert len(half) < 0.8 * len(whole)


@pytest.mark.slow
@one_thread()
def test_what_would_compute_something_else_on_other_sizes_is_refused() -> None:
    with pytest.raises(ModelError, match="not compute the same") as caught:
        exported("safmn")  # whose pooling grids the exporter fixes to the size that it saw

    assert "safmn" in caught.value.where


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_the_error_says_what_to_install(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    network, facts = built(COMPACT, SMALL)

    with pytest.raises(ModelError) as caught:
        onnx_bytes(network, facts, new_card(network, COMPACT, SMALL), where="x.pth")

    assert caught.value.got == f"no {library}"
    assert caught.value.next_step == "pip install 'framelift[onnx]'"
