from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sr_core.archs.arch import Arch, Network
from sr_core.archs.compact import COMPACT, Compact, CompactConfig
from sr_core.blend import Blend, blend_sha256, blended
from sr_core.errors import ModelError, SpecError
from sr_core.model import Model, load_model
from sr_core.recognition import Recognised

CONFIG = CompactConfig(num_feat=4, num_conv=1, scale=2)


def saved(folder: Path, name: str, seed: int, config: CompactConfig = CONFIG) -> str:
    torch.manual_seed(seed)
    torch.save(Compact(config).state_dict(), folder / name)
    return str(folder / name)


def mixed(folder: Path, strength: float) -> tuple[Model, Model, Model]:
    ends = saved(folder, "fidelity.pth", 1), saved(folder, "gan.pth", 2)
    return (
        load_model(ends[0]),
        load_model(ends[1]),
        load_model(ends[0], blend=Blend(ends[1], strength)),
    )


def recognised(state_dict: dict[str, torch.Tensor], arch: Arch = COMPACT) -> Recognised:
    return Recognised(arch, arch.forms[0], CONFIG, state_dict)


def test_every_tensor_is_the_weighted_mean_of_the_two(tmp_path: Path) -> None:
    fidelity, gan, mean = mixed(tmp_path, 0.6)

    for key, value in mean.network.state_dict().items():
        own, other = fidelity.network.state_dict()[key], gan.network.state_dict()[key]
        assert torch.equal(value, (1 - 0.6) * own + 0.6 * other)
        assert value.dtype == torch.float32
    assert mean.facts == fidelity.facts


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_ends_are_the_two_bit_for_bit(tmp_path: Path, strength: float) -> None:
    *ends, mean = mixed(tmp_path, strength)

    expected = ends[round(strength)].network.state_dict()
    assert all(
        value.view(torch.int32).equal(expected[key].view(torch.int32))
        for key, value in mean.network.state_dict().items()
    )


def test_a_blend_is_named_by_both_files_and_the_strength(tmp_path: Path) -> None:
    fidelity, gan, mean = mixed(tmp_path, 0.6)

    assert mean.weights_sha256 == blend_sha256(fidelity.weights_sha256, gan.weights_sha256, 0.6)
    assert mean.files_sha256 == (fidelity.weights_sha256, gan.weights_sha256)
    names = {blend_sha256(*files, strength) for files in ("ab", "ba") for strength in (0, 0.5, 1)}
    assert len(names) == 6
    assert blend_sha256("a", "b", 1) == blend_sha256("a", "b", 1.0)


@pytest.mark.parametrize(
    ("config", "got", "expected"),
    [
        (CompactConfig(num_feat=4, num_conv=2, scale=2), "num_conv 2", "num_conv 1"),
        (CompactConfig(num_feat=6, num_conv=1, scale=2), "num_feat 6", "num_feat 4"),
    ],
)
def test_two_networks_are_not_blended_and_the_difference_is_told(
    tmp_path: Path, config: CompactConfig, got: str, expected: str
) -> None:
    path, other = saved(tmp_path, "a.pth", 1), saved(tmp_path, "b.pth", 2, config)

    with pytest.raises(ModelError, match="one network can be blended") as caught:
        load_model(path, blend=Blend(other, 0.5))
    assert (caught.value.where, caught.value.got) == (other, got)
    assert caught.value.expected == f"{expected}, as in {path}"


def test_two_architectures_are_not_blended(tmp_path: Path) -> None:
    weights = recognised(dict(Compact(CONFIG).state_dict()))
    renamed = replace(COMPACT, name="another")
    other = recognised(dict(weights.state_dict), renamed)

    with pytest.raises(ModelError, match="got architecture another; expected architecture compact"):
        blended(weights, other, Blend("b.pth", 0.5), "a.pth")


def test_integers_must_be_equal_but_for_counters_of_training() -> None:
    def weights(index: int, counter: int) -> Recognised:
        state_dict = {"index": torch.tensor([index]), "norm.num_batches_tracked": torch.tensor(counter)}
        return recognised(state_dict)

    mean = blended(weights(3, 10), weights(3, 20), Blend("b.pth", 0.5), "a.pth")
    assert mean["index"].tolist() == [3]
    with pytest.raises(ModelError, match=r"b\.pth, index: Integers"):
        blended(weights(3, 10), weights(4, 10), Blend("b.pth", 0.5), "a.pth")


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_of_0_to_1_is_refused(strength: float) -> None:
    with pytest.raises(SpecError, match="from 0 to 1"):
        Blend("b.pth", strength)


def test_interpolation_has_nothing_to_blend(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Only weights"):
        load_model("bicubic", 2, Blend(saved(tmp_path, "b.pth", 1), 0.5))


def test_differently_named_weights_of_one_network_are_blended(tmp_path: Path) -> None:
    path, other = saved(tmp_path, "a.pth", 1), saved(tmp_path, "b.pth", 2)
    wrapped = {"params": {f"module.{key}": value for key, value in torch.load(other).items()}}
    torch.save(wrapped, other)

    network: Network = load_model(path, blend=Blend(other, 0.25)).network
    key = "body.0.weight"
    own, its = torch.load(path)[key], wrapped["params"][f"module.{key}"]
    assert torch.equal(network.state_dict()[key], 0.75 * own + 0.25 * its)
