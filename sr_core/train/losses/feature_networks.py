"""Published classifiers whose features tell pictures apart, and the weights file that they come from.

Papers: VGG (arXiv:1409.1556), SqueezeNet (arXiv:1602.07360; version 1.1 of its authors), and AlexNet as in
One weird trick for parallelizing convolutional neural networks (arXiv:1404.5997). Weights come under
torchvision's keys (`features.0.weight`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_core.archs.arch import StateDict
from sr_core.errors import ModelError, SpecError
from sr_core.metrics.lpips import ALEXNET, SQUEEZENET, VGG16
from sr_core.train.losses.named import named

# Of ImageNet's pictures, values 0..1.
_MEAN = (0.485, 0.456, 0.406)
_SPREAD = (0.229, 0.224, 0.225)

_PREFIX = "features."


@dataclass(frozen=True)
class FeatureNetwork:
    """One classifier, up to its last convolution.

    Attributes:
        name: As users write it.
        layers: The layers, untrained, in torchvision's order.
        names: Of these layers.
        weights: Of layers, where the user gives none.
        smallest_px: Side of the smallest picture that it takes.
    """

    name: str
    layers: Callable[[], list[nn.Module]]
    names: tuple[str, ...]
    weights: Mapping[str, float]
    smallest_px: int


def _vgg_names(convs_per_stage: tuple[int, ...]) -> tuple[str, ...]:
    """As papers name them: conv3_4 is the fourth convolution of the third stage, relu3_4 follows it."""
    names = list[str]()
    for stage, num_convs in enumerate(convs_per_stage, start=1):
        for conv in range(1, num_convs + 1):
            names += [f"conv{stage}_{conv}", f"relu{stage}_{conv}"]
        names.append(f"pool{stage}")
    return tuple(names[:-1])


def _vgg19() -> list[nn.Module]:
    layers, num_in = list[nn.Module](), 3
    for num_out, num_convs in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(num_convs):
            layers += [nn.Conv2d(num_in, num_out, 3, padding=1), nn.ReLU()]
            num_in = num_out
        layers.append(nn.MaxPool2d(2, 2))
    return layers[:-1]


# VGG's weights are Real-ESRGAN's (arXiv:2107.10833). The others' are chosen so that each layer adds about 0.2
# between photographs and their bicubic enlargements from half the size, whose pixels differ by 0.017 (L1).
_SQUEEZENET = FeatureNetwork(
    name="squeezenet1_1",
    layers=SQUEEZENET.layers,
    names=(
        "conv1",
        "relu1",
        "pool1",
        "fire2",
        "fire3",
        "pool3",
        "fire4",
        "fire5",
        "pool5",
        "fire6",
        "fire7",
        "fire8",
        "fire9",
    ),
    weights={"conv1": 1.5, "fire3": 0.4, "fire5": 0.1, "fire7": 0.05, "fire9": 0.4},
    smallest_px=SQUEEZENET.smallest_px,
)

_ALEXNET = FeatureNetwork(
    name="alexnet",
    layers=ALEXNET.layers,
    names=(
        "conv1",
        "relu1",
        "pool1",
        "conv2",
        "relu2",
        "pool2",
        "conv3",
        "relu3",
        "conv4",
        "relu4",
        "conv5",
        "relu5",
    ),
    weights={"conv1": 1.0, "conv2": 0.15, "conv3": 0.15, "conv4": 0.15, "conv5": 0.2},
    smallest_px=ALEXNET.smallest_px,
)

_VGG16 = FeatureNetwork(
    name="vgg16",
    layers=VGG16.layers,
    names=_vgg_names((2, 2, 3, 3, 3)),
    weights={"conv1_2": 0.1, "conv2_2": 0.1, "conv3_3": 1.0, "conv4_3": 1.0, "conv5_3": 1.0},
    smallest_px=VGG16.smallest_px,
)

VGG19 = FeatureNetwork(
    name="vgg19",
    layers=_vgg19,
    names=_vgg_names((2, 2, 4, 4, 4)),
    weights={"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0},
    smallest_px=16,
)

FEATURE_NETWORKS = (_SQUEEZENET, _ALEXNET, _VGG16, VGG19)
"""Those that there are; a `conv` is taken before its ReLU. SqueezeNet's `fire` modules end in one."""


class FeatureLayers(nn.Module):
    """The layers of a published classifier, up to the last that is asked for.

    Images are R'G'B' of nominally 0..1; the mean of ImageNet's is taken off them, and its spread made 1.

    Attributes:
        network: Whose layers.
        taps: The places of the layers that are asked for, in their order.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, network: FeatureNetwork, names: tuple[str, ...]) -> None:
        """Makes the layers up to the last of `names`, without training.

        Raises:
            SpecError: A name is none of the network's layers.
        """
        super().__init__()
        self.network = network
        places = {name: place for place, name in enumerate(network.names)}
        self.taps = tuple(named(name, places, f"layer of {network.name}") for name in names)
        self.layers = nn.ModuleList(network.layers()[: max(self.taps) + 1])
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).view(3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """What the layers asked for make of (B, 3, h, w) images, in the order they were asked for.

        Raises:
            SpecError: The images are too small for the whole classifier.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.network.smallest_px:
            raise SpecError(
                f"The frames are too small for a perceptual loss with {self.network.name}",
                got=f"{width}x{height}",
                expected=f"at least {self.network.smallest_px}x{self.network.smallest_px}",
                next_step="train on larger crops, or with another network",
            )
        maps, current = dict[int, Tensor](), (images - self.mean) / self.spread
        for place, layer in enumerate(self.layers):
            current = layer(current)
            if place in self.taps:
                maps[place] = current
        return [maps[place] for place in self.taps]


def load_layers(layers: FeatureLayers, state_dict: StateDict, where: str) -> None:
    """Fills the layers; what else is in `state_dict`, later layers among it, is left out.

    Raises:
        ModelError: A tensor is missing or of another shape.
    """
    own = {key.replace("layers.", _PREFIX, 1): value for key, value in layers.state_dict().items()}
    for key, expected in own.items():
        shape = tuple(state_dict[key].shape) if key in state_dict else None
        if shape != tuple(expected.shape):
            given = sorted({int(k.split(".")[1]) for k in state_dict if k.startswith(_PREFIX)})
            raise ModelError(
                "The weights are not those of this feature network, or end before the layers asked for",
                where=f"{where}, {key}",
                got=f"shape {shape}" if shape else f"no such tensor; features {given or 'none'}",
                expected=f"shape {tuple(expected.shape)}",
                next_step="name the network that the weights are of, or earlier layers",
            )
    layers.load_state_dict({key.replace(_PREFIX, "layers.", 1): state_dict[key] for key in own})


def torchvision_vgg19() -> dict[str, Tensor]:
    """The weights of VGG19 that torchvision downloads once, and keeps where torch keeps such things.

    Raises:
        SpecError: torchvision cannot be imported.
        ModelError: The weights could not be downloaded.
    """
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError, AttributeError) as error:
        # Built for another torch, it raises RuntimeError, and where it is tried again, AttributeError.
        raise SpecError(
            "torchvision, which has the weights of VGG19, cannot be imported",
            got=str(error),
            next_step="install the torchvision of this torch, or give a weights file",
        ) from error
    try:
        weights: dict[str, Tensor] = models.VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
    except OSError as error:
        raise ModelError(
            "The weights of VGG19 could not be downloaded",
            got=str(error),
            next_step="give a weights file, or put it where torchvision looks",
        ) from error
    return weights
