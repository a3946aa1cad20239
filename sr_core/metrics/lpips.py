"""LPIPS: the distance of two pictures in the features of a classifier.

Paper: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, Zhang et al. 2018
(arXiv:1801.03924), version 0.1 of the weights. Features come under torchvision's keys (`features.0.weight`),
the weights of their channels under the authors' (`lin0.model.1.weight`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.errors import ModelError, SpecError
from sr_core.weights import read_weights

# The mean and spread of ImageNet for values -1..1, rounded as LPIPS was trained with them.
_MEAN = (-0.030, -0.088, -0.188)
_SPREAD = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class _Fire(nn.Module):
    """SqueezeNet's block: 1x1 convolutions to few channels, then 1x1 and 3x3 ones side by side."""

    def __init__(self, num_in: int, num_squeezed: int, num_each: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(num_in, num_squeezed, 1)
        self.expand1x1 = nn.Conv2d(num_squeezed, num_each, 1)
        self.expand3x3 = nn.Conv2d(num_squeezed, num_each, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = F.relu(self.squeeze(features))
        return torch.cat([F.relu(self.expand1x1(squeezed)), F.relu(self.expand3x3(squeezed))], 1)


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def _squeezenet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(64, 16, 64),
        _Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(128, 32, 128),
        _Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(256, 48, 192),
        _Fire(384, 48, 192),
        _Fire(384, 64, 256),
        _Fire(512, 64, 256),
    ]


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    num_in = 3
    for num_out, num_convs in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(num_convs):
            layers += [nn.Conv2d(num_in, num_out, 3, padding=1), nn.ReLU()]
            num_in = num_out
        layers.append(nn.MaxPool2d(2, 2))
    return layers[:-1]


@dataclass(frozen=True)
class Backbone:
    """A classifier that LPIPS was trained for.

    Attributes:
        own: A key that none of the others has with this shape.
        layers: Its layers up to the last tap, untrained, in torchvision's order.
        taps: Layers after which features are compared.
        num_channels: Of the features there.
        smallest_px: Side of the smallest picture that it takes.
    """

    name: str
    own: tuple[str, tuple[int, ...]]
    layers: Callable[[], list[nn.Module]]
    taps: tuple[int, ...]
    num_channels: tuple[int, ...]
    smallest_px: int


ALEXNET = Backbone(
    name="alexnet",
    own=("features.0.weight", (64, 3, 11, 11)),
    layers=_alexnet,
    taps=(1, 4, 7, 9, 11),
    num_channels=(64, 192, 384, 256, 256),
    smallest_px=31,
)
SQUEEZENET = Backbone(
    name="squeezenet1_1",
    own=("features.3.squeeze.weight", (16, 64, 1, 1)),
    layers=_squeezenet,
    taps=(1, 4, 7, 9, 10, 11, 12),
    num_channels=(64, 128, 256, 384, 384, 512, 512),
    smallest_px=17,
)
VGG16 = Backbone(
    name="vgg16",
    own=("features.2.weight", (64, 64, 3, 3)),
    layers=_vgg16,
    taps=(3, 8, 15, 22, 29),
    num_channels=(64, 128, 256, 512, 512),
    smallest_px=16,
)
BACKBONES = (ALEXNET, SQUEEZENET, VGG16)


class Lpips(nn.Module):
    """The distance; its weights take no gradient, its pictures do.

    Attributes:
        backbone: The classifier.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = nn.ModuleList(backbone.layers())
        self.heads = nn.ModuleList(nn.Conv2d(count, 1, 1, bias=False) for count in backbone.num_channels)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).view(3, 1, 1), persistent=False)

    def forward(self, sr_frames: Tensor, hr_frames: Tensor) -> Tensor:
        """(B,) distances, 0 for equal pictures, between (B, 3, H, W) float32 R'G'B' 0..1.

        Raises:
            SpecError: The pictures are too small for the classifier.
        """
        height, width = sr_frames.shape[-2:]
        if min(height, width) < self.backbone.smallest_px:
            raise SpecError(
                f"a picture is too small for LPIPS with {self.backbone.name}",
                got=f"{width}x{height}",
                expected=f"{self.backbone.smallest_px} pixels at least on each side",
            )
        num_pictures = sr_frames.shape[0]
        both = self._features(torch.cat([sr_frames, hr_frames]))
        distances = sr_frames.new_zeros(num_pictures)
        for head, features in zip(self.heads, both, strict=True):
            # A norm's own gradient is defined where all features are 0; that of a root of squares is not.
            norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
            unit = features / (norm + _EPSILON)
            difference = unit[:num_pictures] - unit[num_pictures:]
            distances = distances + head(difference.square()).flatten(1).mean(1)
        return distances

    def _features(self, pictures: Tensor) -> list[Tensor]:
        features = (2 * pictures - 1 - self.mean) / self.spread
        tapped = []
        for number, layer in enumerate(self.features):
            features = layer(features)
            if number in self.backbone.taps:
                tapped.append(features)
        return tapped


def load_lpips(features: Path, heads: Path) -> Lpips:
    """LPIPS with the weights in two files; their shapes tell which classifier they are of.

    Args:
        features: The classifier's convolutions; what else is in the file is left out.
        heads: The weights of the features' channels.

    Raises:
        ModelError: A file cannot be read, is of no known classifier, lacks tensors, or they do not fit.
    """
    layers = {key: value for key, value in read_weights(features)[0].items() if key.startswith("features.")}
    network = Lpips(_recognise(layers, features)).requires_grad_(False)
    _load(network, "features.", layers, features)
    counts = read_weights(heads)[0]
    own = {key.replace("lin", "heads.").replace(".model.1.", "."): value for key, value in counts.items()}
    _load(network, "heads.", own, heads)
    return network.eval()


def _recognise(layers: Mapping[str, Tensor], path: Path) -> Backbone:
    for backbone in BACKBONES:
        key, shape = backbone.own
        if key in layers and layers[key].shape == shape:
            return backbone
    raise ModelError(
        "these are no features that LPIPS knows",
        where=str(path),
        got=", ".join(f"{key} {tuple(value.shape)}" for key, value in list(layers.items())[:2]) or "none",
        expected=", or ".join(f"{b.name} with {b.own[0]} {b.own[1]}" for b in BACKBONES),
    )


def _load(network: Lpips, prefix: str, own: dict[str, Tensor], path: Path) -> None:
    """Fills the part under `prefix`, if the tensors are all that it has, and of the right shapes."""
    expected = {key: value for key, value in network.state_dict().items() if key.startswith(prefix)}
    for key in sorted({*expected, *own}):
        got, right = (tuple(side[key].shape) if key in side else () for side in (own, expected))
        if got != right:
            raise ModelError(
                "the weights do not fit LPIPS",
                where=f"{path}, {key}",
                got=f"shape {got}" if got else "no such tensor",
                expected=f"shape {right}" if right else "no such tensor",
                next_step="features and heads must be those of one classifier",
            )
    network.load_state_dict(own, strict=False)
