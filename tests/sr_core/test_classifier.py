import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sr_core.classifier import CLASSIFIER, Classifier, ClassifierConfig
from sr_core.errors import ModelError
from sr_core.family import build_network
from tests.sr_core.threads import one_thread

CONFIGS = [
    ClassifierConfig(num_classes=3, widths=(8, 12, 16)),
    ClassifierConfig(num_classes=2, widths=(4,), num_channels=1),
]


def built(config: ClassifierConfig) -> Classifier:
    torch.manual_seed(0)
    return CLASSIFIER.build(config)


def stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (count, 3, 24, 24) of horizontal, vertical or diagonal stripes in noise, and which they are."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=random)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])[labels]
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    place = directions[:, 0, None, None] * rows + directions[:, 1, None, None] * columns
    phase = torch.rand(count, 1, 1, generator=random) * 6
    images = 0.5 + 0.3 * (place + phase).sin()[:, None] * torch.rand(count, 3, 1, 1, generator=random)
    return images + 0.1 * torch.randn(images.shape, generator=random), labels


@one_thread()
def test_it_learns_to_tell_three_kinds_of_stripes() -> None:
    classifier = built(CONFIGS[0])
    optimiser = torch.optim.Adam(classifier.parameters(), 5e-3)
    images, labels = stripes(192, seed=1)
    for step in range(40):
        batch = slice(step % 6 * 32, step % 6 * 32 + 32)
        loss = F.cross_entropy(classifier(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    images, labels = stripes(120, seed=2)
    with torch.no_grad():
        judged = classifier.eval()(images).argmax(1)
    assert float((judged == labels).float().mean()) > 0.8


@pytest.mark.parametrize("config", CONFIGS)
def test_the_configuration_is_read_back_and_the_weights_with_it(config: ClassifierConfig) -> None:
    classifier = built(config)
    images = torch.rand(2, config.num_channels, 16, 16)

    found = build_network(dict(classifier.state_dict()), (CLASSIFIER,))

    assert CLASSIFIER.config_of(classifier.state_dict()) == config
    torch.testing.assert_close(found(images), classifier.eval()(images))


def test_features_are_the_maps_of_the_stages_at_halved_sizes() -> None:
    maps = built(CONFIGS[0]).features(torch.rand(2, 3, 30, 21))

    assert [tuple(each.shape) for each in maps] == [(2, 8, 30, 21), (2, 12, 15, 10), (2, 16, 7, 5)]


@pytest.mark.parametrize("config", CONFIGS)
def test_features_reach_the_pixels_with_gradients(config: ClassifierConfig) -> None:
    images = torch.rand(1, config.num_channels, 16, 16, requires_grad=True)

    built(config).eval().features(images)[-1].square().sum().backward()

    assert images.grad is not None
    assert bool((images.grad != 0).any((0, 1)).float().mean() > 0.9)


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(ModelError, match="expected classifier"):
        build_network({"head.weight": torch.zeros(3, 8)}, (CLASSIFIER,))
