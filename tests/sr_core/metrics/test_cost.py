import pytest
import torch

from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.archs.fsrcnn import FSRCNN, FsrcnnConfig
from sr_core.archs.signals import Signal
from sr_core.metrics.cost import num_macs, num_parameters
from sr_core.model import Model, load_model


def compact(**config: int) -> Model:
    chosen = CompactConfig(**config)
    return Model(COMPACT.build(chosen).eval(), COMPACT.facts(chosen), "")


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_multiplications_are_those_of_the_convolutions(num_channels: int, scale: int) -> None:
    model = compact(num_channels=num_channels, num_feat=16, num_conv=2, scale=scale)
    weights = 9 * (num_channels * 16 + 2 * 16 * 16 + 16 * num_channels * scale**2)

    assert num_macs(model) == weights * 1280 * 720 // scale**2


@pytest.mark.parametrize("signal", [Signal.STUDIO_LUMA, Signal.YCBCR])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fsrcnn_costs_what_its_paper_says(scale: int, signal: Signal) -> None:
    config = FsrcnnConfig(num_feat=56, num_shrunk=12, num_mapping=4, scale=scale, signal=signal)
    model = Model(FSRCNN.build(config).eval(), FSRCNN.facts(config), "")
    ends = (25 + 81) * 56 * signal.num_channels

    assert num_macs(model) == (ends + 2 * 56 * 12 + 4 * 9 * 12**2) * 1280 * 720 // scale**2


@pytest.mark.parametrize(
    "model",
    [
        Model(
            COMPACT.build(CompactConfig(num_feat=16, num_conv=2)).eval(), COMPACT.facts(CompactConfig()), ""
        ),
        Model(FSRCNN.build(FsrcnnConfig(scale=3)).eval(), FSRCNN.facts(FsrcnnConfig(scale=3)), ""),
    ],
    ids=["compact", "fsrcnn"],
)
def test_half_precision_counts_the_same(model: Model) -> None:
    expected = num_macs(model)

    model.network.set_body_dtype(torch.float16)

    assert num_macs(model) == expected


def test_parameters_are_weights_and_biases_and_slopes() -> None:
    model = compact(num_feat=16, num_conv=2)

    expected = 9 * (3 * 16 + 2 * 16 * 16 + 16 * 48) + 3 * 16 + 48 + 3 * 16
    assert num_parameters(model.network) == expected


def test_interpolation_costs_nothing_of_the_kind() -> None:
    model = load_model("bicubic", 3)

    assert (num_parameters(model.network), num_macs(model)) == (0, 0)
