"""Losses that compare what a network sees in frames, rather than their pixels.

Networks are frozen and stay in evaluation mode; only `sr_frames` take gradients. Frames are (B, 3, H, W)
R'G'B' of nominally 0..1; what else a network wants of values, it makes itself. Under autocast, convolutions
run in the lower precision, and what they make is compared in float32; only LPIPS leaves autocast altogether,
as it takes squares of small differences of normalised features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.classifier import Classifier
from sr_core.errors import SpecError
from sr_core.metrics.lpips import Lpips
from sr_core.train.losses.feature_networks import (
    FEATURE_NETWORKS,
    VGG19,
    FeatureLayers,
    FeatureNetwork,
    load_layers,
    torchvision_vgg19,
)
from sr_core.train.losses.named import named
from sr_core.train.losses.precision import full_precision, widened
from sr_core.train.losses.weighted import check_weight
from sr_core.weights import read_weights


class Distance(StrEnum):
    """How maps of features are compared."""

    L1 = "l1"
    MSE = "mse"

    def between(self, maps: Tensor, others: Tensor) -> Tensor:
        """A scalar: the mean over all their values, in float32."""
        compare = F.l1_loss if self is Distance.L1 else F.mse_loss
        return compare(widened(maps), widened(others))


@dataclass(frozen=True)
class FeatureLossConfig:
    """A perceptual loss on a published network.

    Papers: Johnson et al. 2016 (arXiv:1603.08155), SRGAN (arXiv:1609.04802), and ESRGAN (arXiv:1809.00219),
    which takes features before the activation, and L1.

    Attributes:
        network: One of `FEATURE_NETWORKS` by name.
        layers: Weights by layer; none for the network's own choice.
        distance: Between features.

    Raises:
        SpecError: The network or a layer is unknown, or a weight not finite and above 0.
    """

    network: str
    layers: Mapping[str, float] = field(default_factory=dict)
    distance: Distance = Distance.L1

    def __post_init__(self) -> None:
        names = {name: name for name in self.published.names}
        for name, weight in self.layers.items():
            check_weight(weight, named(name, names, f"layer of {self.network}"))

    @property
    def published(self) -> FeatureNetwork:
        """The network itself."""
        return named(self.network, {network.name: network for network in FEATURE_NETWORKS}, "feature network")

    @property
    def weights(self) -> Mapping[str, float]:
        """By layer, the user's or the network's own."""
        return self.layers or self.published.weights


class FeatureLoss(nn.Module):
    """The weighted sum of distances between a network's maps of features."""

    def __init__(
        self, network: FeatureLayers | Classifier, weights: Sequence[float], distance: Distance
    ) -> None:
        """Freezes `network` itself, no copy of it.

        Args:
            network: What sees.
            weights: One for each of its maps.
            distance: Between maps.
        """
        super().__init__()
        self.network = network.requires_grad_(False)
        self.weights = tuple(weights)
        self.distance = distance
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever is asked for: batch norm must not learn from frames."""
        return super().train(False)

    def forward(self, sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
        """The loss, a scalar, 0 for equal frames.

        Raises:
            SpecError: The frames are too small for a published network.
        """
        with torch.no_grad():
            truth = self.network.features(hr_frames)
        pairs = zip(self.weights, self.network.features(sr_frames), truth, strict=True)
        return torch.stack([weight * self.distance.between(*maps) for weight, *maps in pairs]).sum()


class LpipsLoss(nn.Module):
    """The mean of LPIPS over frames, always in float32."""

    def __init__(self, lpips: Lpips) -> None:
        """Freezes `lpips` itself, no copy of it."""
        super().__init__()
        self.lpips = lpips.requires_grad_(False)

    def forward(self, sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
        """The loss, a scalar, 0 for equal frames.

        Raises:
            SpecError: The frames are too small for LPIPS's network.
        """
        with full_precision(sr_frames):
            distances: Tensor = self.lpips(widened(sr_frames), widened(hr_frames))
        return distances.mean()


def load_feature_loss(config: FeatureLossConfig, weights: Path | None = None) -> FeatureLoss:
    """A perceptual loss on the CPU.

    Args:
        config: What to compare.
        weights: File with the network's weights under torchvision's keys, at least up to the last layer that
            is compared; None for VGG19 as torchvision has it.

    Raises:
        SpecError: No file for another network than VGG19, or torchvision cannot be imported.
        ModelError: The weights cannot be read or downloaded, or are others.
    """
    if weights is None and config.network != VGG19.name:
        raise SpecError(
            "A perceptual loss has no weights",
            got=config.network,
            expected=f"a weights file, or {VGG19.name}, which torchvision can download",
        )
    layers = FeatureLayers(config.published, tuple(config.weights))
    state_dict = torchvision_vgg19() if weights is None else read_weights(weights)[0]
    load_layers(layers, state_dict, where=str(weights or "torchvision"))
    return FeatureLoss(layers, tuple(config.weights.values()), config.distance)


def classifier_loss(classifier: Classifier) -> FeatureLoss:
    """The mean L1 distance over all stages of the project's own classifier, which is frozen by this."""
    num_stages = len(classifier.stages)
    return FeatureLoss(classifier, (1 / num_stages,) * num_stages, Distance.L1)


def feature_matching(made_features: Sequence[Tensor], true_features: Sequence[Tensor]) -> Tensor:
    """The mean L1 distance over all maps of a discriminator but the logits; true ones take no gradient.

    The discriminator's own weights are in the graph: take gradients by the generator's alone.

    Paper: pix2pixHD, Wang et al. 2017 (arXiv:1711.11585); the idea is of Salimans et al. 2016
    (arXiv:1606.03498).

    Args:
        made_features: As `Discriminator.features` gives them, of the generator's images.
        true_features: Of the true ones.
    """
    pairs = zip(made_features[:-1], true_features[:-1], strict=True)
    return torch.stack([Distance.L1.between(made, true.detach()) for made, true in pairs]).mean()
