"""Small convolutional classifier: also features for perceptual losses where no published network is at hand.

After VGG: Very Deep Convolutional Networks for Large-Scale Image Recognition, Simonyan and Zisserman 2014
(arXiv:1409.1556), with batch norm (arXiv:1502.03167) and global average pooling (arXiv:1312.4400).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sr_core.archs.arch import StateDict
from sr_core.family import Family


@dataclass(frozen=True)
class ClassifierConfig:
    """Hyper-parameters.

    Attributes:
        num_classes: Classes that it tells apart.
        widths: Channels of each stage; from stage to stage, height and width halve.
        num_channels: Channels of the images.
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (32, 64, 128)
    num_channels: int = 3


class Classifier(nn.Module):
    """Stages of two 3x3 convolutions with batch norm, pooling between, and a dense layer on the mean.

    Attributes:
        num_channels: Channels of the images.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.num_channels = config.num_channels
        self.stages = nn.ModuleList(
            nn.Sequential(*_normed(before, after), *_normed(after, after))
            for before, after in itertools.pairwise((config.num_channels, *config.widths))
        )
        self.head = nn.Linear(config.widths[-1], config.num_classes)

    def features(self, images: Tensor) -> list[Tensor]:
        """The map after each stage, (B, widths[i], h / 2**i, w / 2**i) rounded down, of images of 0..1."""
        maps = [self.stages[0](2 * images - 1)]
        for stage in self.stages[1:]:
            maps.append(stage(F.max_pool2d(maps[-1], 2)))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of (B, C, h, w) images of 0..1, of any size from 2 ** (stages - 1) on."""
        logits: Tensor = self.head(self.features(images)[-1].mean((2, 3)))
        return logits


def _normed(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


def _config_of(state_dict: StateDict) -> ClassifierConfig:
    num_stages = sum(value.dim() == 4 for value in state_dict.values()) // 2
    widths = tuple(int(state_dict[f"stages.{index}.0.weight"].shape[0]) for index in range(num_stages))
    num_channels = int(state_dict["stages.0.0.weight"].shape[1])
    return ClassifierConfig(int(state_dict["head.weight"].shape[0]), widths, num_channels)


CLASSIFIER = Family(
    name="classifier",
    paper="arXiv:1409.1556",
    first_key="head.weight",
    config_of=_config_of,
    build=Classifier,
)
