"""What holds of every architecture."""

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch, ModelFacts, Network
from sr_core.errors import ModelError
from sr_core.model import Model
from sr_core.recognition import recognise
from sr_core.upscale import Upscaler
from tests.sr_core.archs.zoo import ZOO

CASES = [pytest.param(arch, config, id=f"{arch.name}-{config}") for arch, config in ZOO]
LEAST_HALF_DB = 40.0


def built(arch: Arch, config: Any) -> tuple[Network, ModelFacts]:
    torch.manual_seed(0)
    return arch.build(config).eval(), arch.facts(config)


def frames(facts: ModelFacts, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Smooth noise of a size that the network takes."""
    torch.manual_seed(1)
    height, width = (-(-side // facts.size_multiple) * facts.size_multiple for side in (height, width))
    windows = (facts.num_frames,) if facts.num_frames > 1 else ()
    return torch.rand(1, *windows, facts.color_mode.num_channels, height, width).to(dtype)


def test_every_architecture_is_in_the_tests() -> None:
    assert {arch.name for arch in ARCHS} == {arch.name for arch, _ in ZOO}


@pytest.mark.parametrize(("arch", "config"), CASES)
def test_the_configuration_is_read_back_from_the_weights(arch: Arch, config: Any) -> None:
    network, facts = built(arch, config)

    found = recognise(network.state_dict(), facts.scale)

    assert (found.arch.name, found.config) == (arch.name, config)


@pytest.mark.parametrize(("arch", "config"), CASES)
def test_a_tensor_less_or_of_another_shape_is_not_recognised(arch: Arch, config: Any) -> None:
    network, facts = built(arch, config)
    key = list(network.state_dict())[-1]
    cut = {name: value for name, value in network.state_dict().items() if name != key}
    wrong = {**network.state_dict(), key: torch.zeros(3, 3, 3, 3, 3)}

    for state_dict in (cut, wrong):
        with contextlib.suppress(ModelError):
            found = recognise(state_dict, facts.scale)
            assert (found.arch.name, found.config) != (arch.name, config)


@pytest.mark.parametrize(("height", "width"), [(13, 17), (24, 8)])
@pytest.mark.parametrize(("arch", "config"), CASES)
def test_the_output_is_scale_times_the_input(arch: Arch, config: Any, height: int, width: int) -> None:
    network, facts = built(arch, config)
    lr_frames = frames(facts, height, width)

    sr_frames = network(lr_frames)

    rows, columns = lr_frames.shape[-2:]
    assert sr_frames.shape == (
        1,
        facts.color_mode.num_channels,
        facts.scale * rows,
        facts.scale * columns,
    )
    assert sr_frames.dtype == torch.float32


@pytest.mark.parametrize(("arch", "config"), CASES)
def test_every_weight_gets_a_gradient(arch: Arch, config: Any) -> None:
    network, facts = built(arch, config)

    network.train()(frames(facts, 16, 16)).square().sum().backward()

    assert [name for name, value in network.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("arch", "config"), CASES)
def test_half_precision_comes_near_single(arch: Arch, config: Any, dtype: torch.dtype) -> None:
    network, facts = built(arch, config)
    if dtype not in facts.dtypes:
        pytest.skip("the facts do not promise it")
    lr_frames = frames(facts, 24, 24)
    with torch.no_grad():
        single = network(lr_frames)
        network.set_body_dtype(dtype)
        half = network(lr_frames)

    assert half.dtype == torch.float32
    error = float((half - single).square().mean() / single.square().mean().clamp_min(1e-12))
    assert -10 * torch.tensor(error).log10() > LEAST_HALF_DB


@pytest.mark.parametrize(("arch", "config"), CASES)
def test_torch_exports_it(arch: Arch, config: Any) -> None:
    network, facts = built(arch, config)
    lr_frames = frames(facts, 16, 16)

    program = torch.export.export(network, (lr_frames,))

    torch.testing.assert_close(program.module()(lr_frames), network(lr_frames))


@pytest.mark.parametrize(("arch", "config"), CASES)
def test_the_halo_is_what_matters_and_not_a_pixel_more(arch: Arch, config: Any) -> None:
    network, facts = built(arch, config)
    if facts.halo_px is None:
        pytest.skip("the whole frame matters")
    multiple = facts.size_multiple
    side = -(-(2 * facts.halo_px + 3 * multiple) // multiple) * multiple
    start = side // 2 // multiple * multiple

    reach = max(
        _reach(network.double(), facts, side, start + place, start + place) for place in range(multiple)
    )

    assert reach == facts.halo_px


def _reach(network: Network, facts: ModelFacts, side: int, row: int, column: int) -> int:
    """How far from an input pixel another one lies that changes what is made of the first."""
    lr_frames = frames(facts, side, side, torch.float64).requires_grad_()
    rows, columns = (slice(facts.scale * at, facts.scale * (at + 1)) for at in (row, column))
    weights = torch.rand(facts.scale, facts.scale, dtype=torch.float64)
    (network(lr_frames)[0, :, rows, columns] * weights).sum().backward()
    assert lr_frames.grad is not None
    touched = lr_frames.grad.abs().flatten(0, -3).amax(0).nonzero()
    return int((touched - torch.tensor([row, column])).abs().max())


@pytest.mark.parametrize(("arch", "config"), CASES)
def test_tiles_make_the_whole(arch: Arch, config: Any) -> None:
    network, facts = built(arch, config)
    if facts.halo_px is None:
        pytest.skip("it is never tiled")
    side = 2 * facts.halo_px + 40
    lr_frame = frames(facts, side, side + 3)[..., : side - 1, : side + 1]

    whole = Upscaler(Model(network, facts, ""), "cpu", "fp32", 4096, 1).run(lr_frame)
    tiled = Upscaler(Model(network, facts, ""), "cpu", "fp32", 16, 3).run(lr_frame)

    torch.testing.assert_close(tiled, whole, rtol=0, atol=2e-6)
