import importlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from jobs.evaluation.data import read_image
from sr_core.classifier import Classifier, ClassifierConfig
from sr_core.discriminators.patch import PATCH, PatchConfig
from sr_core.errors import ModelError, SpecError
from sr_core.metrics.lpips import SQUEEZENET, Lpips, load_lpips
from sr_core.train.losses.feature_networks import (
    FEATURE_NETWORKS,
    VGG19,
    FeatureLayers,
    FeatureNetwork,
    load_layers,
)
from sr_core.train.losses.perceptual import (
    Distance,
    FeatureLoss,
    FeatureLossConfig,
    LpipsLoss,
    classifier_loss,
    feature_matching,
    load_feature_loss,
)
from sr_core.train.losses.pixel import L1
from sr_core.train.losses.weighted import Term, WeightedLoss
from tests.sr_core.train.losses.descent import lowered

SQUEEZENET1_1 = FEATURE_NETWORKS[0]
EVERY_NETWORK = pytest.mark.parametrize("network", FEATURE_NETWORKS, ids=lambda network: network.name)

# Layers of each network whose weights are published beside the checkout.
PUBLISHED = [
    ("squeezenet1_1", "squeezenet1_1_features.safetensors", {}),
    ("alexnet", "alexnet_features.safetensors", {}),
    ("vgg16", "vgg16_features_0_7.safetensors", {"conv1_2": 0.1, "relu2_2": 1.0}),
]


def frames(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def untrained(network: FeatureNetwork = SQUEEZENET1_1) -> FeatureLoss:
    torch.manual_seed(0)
    layers = FeatureLayers(network, tuple(network.weights))
    return FeatureLoss(layers, tuple(network.weights.values()), Distance.L1)


def own_classifier() -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(4, (6, 8)))
    for _ in range(3):  # moves the means of batch norm
        classifier.train()(torch.rand(8, 3, 32, 32))
    return classifier


def lpips_loss() -> LpipsLoss:
    torch.manual_seed(0)
    lpips = Lpips(SQUEEZENET)
    with torch.no_grad():
        for head in lpips.heads.parameters():
            head.abs_()
    return LpipsLoss(lpips)


LOSSES: dict[str, Callable[[], nn.Module]] = {
    "features": untrained,
    "classifier": lambda: classifier_loss(own_classifier()),
    "lpips": lpips_loss,
}
EVERY_LOSS = pytest.mark.parametrize("made", LOSSES.values(), ids=LOSSES)


@EVERY_LOSS
def test_equal_frames_cost_nothing_and_have_a_finite_gradient(made: Callable[[], nn.Module]) -> None:
    hr_frames = frames(0, 2, 3, 40, 36)
    sr_frames = hr_frames.clone().requires_grad_()

    value = made()(sr_frames, hr_frames)
    value.backward()

    assert value.item() == 0
    assert sr_frames.grad is not None
    assert bool(sr_frames.grad.isfinite().all())


@EVERY_LOSS
def test_frames_take_gradients_and_networks_none_nor_learn_in_training_mode(
    made: Callable[[], nn.Module],
) -> None:
    loss = made()
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    sr_frames, hr_frames = (frames(seed, 2, 3, 40, 36).requires_grad_() for seed in (0, 1))

    value = loss.train()(sr_frames, hr_frames.detach())
    value.backward()

    assert sr_frames.grad is not None
    assert float(sr_frames.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in loss.parameters())
    torch.testing.assert_close(dict(loss.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(loss.eval()(sr_frames, hr_frames), value, rtol=0, atol=0)


@EVERY_LOSS
def test_its_own_gradient_leads_a_picture_nearer_the_truth(made: Callable[[], nn.Module]) -> None:
    loss, hr_frames = made(), frames(0, 1, 3, 40, 40)
    start = (hr_frames + 0.4 * frames(1, 1, 3, 40, 40) - 0.2).clamp(0, 1)

    values = lowered(lambda picture: loss(picture, hr_frames), start, num_steps=5, step=0.005)

    assert all(after < before for before, after in itertools.pairwise(values))
    assert values[-1] < 0.95 * values[0]


@EVERY_LOSS
def test_bfloat16_autocast_and_channels_last_stay_near_and_give_float32(
    made: Callable[[], nn.Module],
) -> None:
    loss = made()
    sr_frames, hr_frames = frames(0, 2, 2, 3, 48, 48)
    expected = loss(sr_frames, hr_frames)
    sr_frames = sr_frames.to(memory_format=torch.channels_last).requires_grad_()

    with torch.autocast("cpu", torch.bfloat16):
        value = loss.to(memory_format=torch.channels_last)(sr_frames, hr_frames)
    value.backward()

    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=0.02 if made is not lpips_loss else 1e-4)
    assert sr_frames.grad is not None
    assert bool(sr_frames.grad.isfinite().all())


@EVERY_LOSS
def test_a_perceptual_loss_is_a_term_like_any_other(made: Callable[[], nn.Module]) -> None:
    loss = made()
    sr_frames, hr_frames = frames(0, 2, 2, 3, 40, 40)

    total, parts = WeightedLoss((Term("l1", 1.0, L1), Term("seen", 0.1, loss)))(sr_frames, hr_frames)

    assert total.item() == pytest.approx(float(parts["l1"] + 0.1 * parts["seen"]))


@EVERY_NETWORK
def test_names_fit_the_layers_one_by_one(network: FeatureNetwork) -> None:
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}

    for name, layer in zip(network.names, network.layers(), strict=True):
        kind = kinds.get(name[:4])
        assert isinstance(layer, kind) if kind else name.startswith("fire"), name


@EVERY_NETWORK
def test_features_before_the_activation_are_not_cut_by_it(network: FeatureNetwork) -> None:
    torch.manual_seed(0)
    last = next(name for name in reversed(network.names) if name.startswith("conv"))
    after = network.names[network.names.index(last) + 1]
    layers = FeatureLayers(network, (after, last)).eval()

    activated, raw = layers.features(frames(0, 1, 3, 64, 64))

    assert float(raw.detach().min()) < 0
    torch.testing.assert_close(activated, raw.relu())


@EVERY_NETWORK
def test_the_smallest_frames_are_taken_and_smaller_ones_refused(network: FeatureNetwork) -> None:
    loss, side = untrained(network), network.smallest_px
    picture = frames(0, 1, 3, side, side + 2)

    assert loss(picture, picture).item() == 0
    with pytest.raises(SpecError, match=rf"too small.*{network.name}; got {side + 2}x{side - 1}"):
        loss(picture[:, :, 1:], picture[:, :, 1:])


@EVERY_NETWORK
def test_weights_are_loaded_as_far_as_layers_need_them(network: FeatureNetwork, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = FeatureLayers(network, network.names[-1:])
    published = {key.replace("layers.", "features."): value for key, value in whole.state_dict().items()}
    save_file({**published, "classifier.6.weight": torch.zeros(2, 2)}, tmp_path / "whole.safetensors")
    first = {key: value for key, value in published.items() if key.startswith("features.0.")}
    save_file(first, tmp_path / "first.safetensors")
    picture = frames(0, 1, 3, 48, 48)
    early = FeatureLossConfig(network.name, {network.names[0]: 1.0}, Distance.MSE)

    loss = load_feature_loss(early, tmp_path / "first.safetensors")
    expected = FeatureLoss(FeatureLayers(network, network.names[:1]), (1.0,), Distance.MSE)
    load_layers(expected.network, published, where="")

    torch.testing.assert_close(loss(picture, 1 - picture), expected(picture, 1 - picture))
    load_feature_loss(FeatureLossConfig(network.name), tmp_path / "whole.safetensors")
    with pytest.raises(ModelError, match=r"first\.safetensors, features.*features \[0\].*earlier layers"):
        load_feature_loss(FeatureLossConfig(network.name), tmp_path / "first.safetensors")


def test_the_loss_is_the_weighted_sum_of_mean_distances_of_normalised_pictures() -> None:
    torch.manual_seed(0)
    layers = FeatureLayers(VGG19, ("conv1_1", "relu1_1"))
    conv = layers.layers[0]
    sr_frames, hr_frames = frames(0, 2, 1, 3, 16, 16)
    mean, spread = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, y = (conv((picture - mean) / spread).detach() for picture in (sr_frames, hr_frames))

    value = FeatureLoss(layers, (2.0, 0.5), Distance.MSE)(sr_frames, hr_frames)

    expected = 2 * (x - y).square().mean() + 0.5 * (x.relu() - y.relu()).square().mean()
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(("name", "file", "layers"), PUBLISHED)
def test_published_weights_see_that_blur_is_farther_off_than_faint_noise(
    name: str, file: str, layers: dict[str, float], perceptual: Callable[[str], Path]
) -> None:
    loss = load_feature_loss(FeatureLossConfig(name, layers), perceptual(file))
    hr_frame = read_image(perceptual("lpips_example/ex_ref.png"))
    noise = torch.randn(hr_frame.shape, generator=torch.Generator().manual_seed(0))
    blurred = nn.functional.avg_pool2d(hr_frame, 5, 1, 2, count_include_pad=False)
    noisy = hr_frame + 0.5 * (blurred - hr_frame).square().mean().sqrt() * noise.sign()

    assert loss(noisy, hr_frame).item() < loss(blurred, hr_frame).item()


@pytest.mark.parametrize(("name", "file", "layers"), PUBLISHED)
def test_published_weights_pull_a_picture_to_its_truth(
    name: str, file: str, layers: dict[str, float], perceptual: Callable[[str], Path]
) -> None:
    loss = load_feature_loss(FeatureLossConfig(name, layers), perceptual(file))
    hr_frame = read_image(perceptual("lpips_example/ex_ref.png"))
    start = nn.functional.avg_pool2d(hr_frame, 3, 1, 1, count_include_pad=False)

    values = lowered(lambda picture: loss(picture, hr_frame), start, num_steps=10, step=0.003)

    assert values[-1] < 0.9 * values[0]


def test_lpips_as_a_loss_is_the_mean_of_the_measure(perceptual: Callable[[str], Path]) -> None:
    lpips = load_lpips(
        perceptual("squeezenet1_1_features.safetensors"), perceptual("lpips_v0.1_squeeze_lin.safetensors")
    )
    reference, first, second = (
        read_image(perceptual(f"lpips_example/{name}.png")) for name in ("ex_ref", "ex_p0", "ex_p1")
    )

    value = LpipsLoss(lpips)(torch.cat([first, second]), reference.expand(2, -1, -1, -1))

    assert value.item() == pytest.approx((0.711 + 0.148) / 2, abs=0.002)


@pytest.mark.parametrize("distance", Distance)
def test_maps_of_half_precision_are_compared_in_float32(distance: Distance) -> None:
    maps, others = frames(0, 2, 1, 8, 16, 16).bfloat16()

    value = distance.between(maps, others)

    torch.testing.assert_close(value, distance.between(maps.float(), others.float()), rtol=0, atol=0)


def test_features_match_by_all_maps_of_a_discriminator_but_its_logits() -> None:
    made = [torch.zeros(2, 4, 8, 8), torch.zeros(2, 6), torch.zeros(2, 1)]
    true = [torch.full((2, 4, 8, 8), 0.5), torch.full((2, 6), 3.0), torch.full((2, 1), 100.0)]

    assert feature_matching(made, true).item() == pytest.approx((0.5 + 3.0) / 2)


def test_matching_features_pulls_made_images_and_not_true_ones() -> None:
    torch.manual_seed(0)
    discriminator = PATCH.build(PatchConfig(num_feat=4)).eval()
    made, true = (frames(seed, 2, 3, 32, 32).requires_grad_() for seed in (0, 1))

    loss = feature_matching(discriminator.features(made), discriminator.features(true))
    of_made, of_true = torch.autograd.grad(loss, [made, true], materialize_grads=True)

    assert float(of_made.abs().sum()) > 0
    assert float(of_true.abs().sum()) == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: FeatureLossConfig("vgg_19"), r"no such feature network; got vgg_19.*mean 'vgg19'"),
        (lambda: FeatureLossConfig("vgg19", {"conv5-4": 1.0}), r"layer of vgg19; got conv5-4.*'conv5_4'"),
        (lambda: FeatureLossConfig("alexnet", {"conv3": -1.0}), r"conv3: The weight.*got -1\.0"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told(
    config: Callable[[], FeatureLossConfig], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        config()


def test_only_vgg19_goes_without_a_file() -> None:
    with pytest.raises(SpecError, match=r"no weights; got alexnet; expected a weights file, or vgg19"):
        load_feature_loss(FeatureLossConfig("alexnet"))


def test_a_torchvision_that_does_not_import_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)

    with pytest.raises(SpecError, match=r"torchvision.*cannot be imported.*or give a weights file"):
        load_feature_loss(FeatureLossConfig("vgg19"))


def test_vgg19_has_torchvisions_keys_and_shapes() -> None:
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError, AttributeError) as error:
        pytest.skip(f"needs a torchvision of this torch: {error}")
    theirs = models.vgg19(weights=None).state_dict()

    load_layers(FeatureLayers(VGG19, VGG19.names[-1:]), theirs, where="torchvision")
