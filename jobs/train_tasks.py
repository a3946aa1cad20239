"""What each network of a training spec is trained as: which keys mean something for it, and which stages.

A further kind of networks is a further `TaskKind` in `TASK_KINDS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import nn

from cluster.training.job import PixelStage
from cluster.training.task import TaskSettings
from cluster.training.tasks.classes import ClassSettings, classes_of
from cluster.training.tasks.depth import DepthSettings
from cluster.training.tasks.families import FamilySettings
from cluster.training.tasks.images import GanSettings, VaeSettings
from cluster.training.tasks.super_resolution import SuperResolutionSettings
from cluster.training.tasks.video import VideoSettings
from cluster.weights import model_at, opened_weights
from jobs.train_stages import ElboStageSpec, GanStageSpec, LabelStageSpec, PixelStageSpec, StageSpec
from sr_core.archs import ARCHS
from sr_core.archs.arch import Arch, ColorMode
from sr_core.classifier import CLASSIFIER, ClassifierConfig
from sr_core.errors import SpecError
from sr_core.family import Family
from sr_core.generative.gan import GAN, GanConfig
from sr_core.generative.vae import VAE, VaeConfig
from sr_core.guided import GUIDED, GuidedConfig
from sr_core.recognition import NO_SUCH_NETWORK
from sr_core.train.adversarial_stage import AdversarialStage
from sr_core.train.elbo import ElboStage
from sr_core.train.gan_stage import GanStage
from sr_core.train.labels import LabelStage
from sr_core.train.measures import Measure
from sr_core.weights import read_weights, told_network

if TYPE_CHECKING:
    from jobs.train_spec import TrainSpec

_TRIED_PX = 16
_NUM_TRIED = 2

Trained = Arch | Family[nn.Module]
"""An architecture of upscalers, or a family of other networks."""


class TaskKind(ABC):
    """One kind of networks, as specs have them.

    Attributes:
        networks: What it trains, and the dataclass whose fields are the keys of the network's section. A name
            may stand in several kinds, of which the first that takes it has it.
        sections: Keys of the spec that mean something for these networks, and not for all.
        stages: That train them.
        default_stage: What is done where no stage is given.
        measures: By which their weights may be compared.
    """

    networks: tuple[tuple[Trained, type], ...]
    sections: tuple[str, ...]
    stages: tuple[type, ...]
    default_stage: StageSpec
    measures: tuple[Measure, ...]

    @abstractmethod
    def try_out(self, arch: Trained, config: Any) -> None:
        """Builds and runs a network without memory; whatever that raises shows that there is none.

        Raises:
            SpecError: It cannot be trained; names the key.
        """

    def takes(self, arch: Trained, config: Any) -> bool:
        """Whether it trains such a network, which there is."""
        return True

    def keys_of(self, arch: Trained, config: Any) -> Any:
        """What the section of a network with these hyper-parameters holds."""
        return config

    @abstractmethod
    def settings(self, network: Network, spec: TrainSpec) -> TaskSettings:
        """The task, of the network and the rest of the spec.

        Raises:
            SpecError: It is not clear what to learn.
            StorageError: It asks what pictures there are, and a store fails.
        """

    def scale(self, arch: Trained, config: Any) -> int | None:
        """HR size / LR size, of networks that learn from LR and HR crops."""
        return None

    @abstractmethod
    def least_side_px(self, network: Network, spec: TrainSpec) -> int:
        """Of pictures that can be trained on."""


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        arch: What it is one of.
        config: What its section holds: hyper-parameters.
        kind: How it is trained.
    """

    arch: Trained
    config: Any
    kind: TaskKind


def network_of(name: str, config: object) -> Network:
    """The network of these hyper-parameters, which was built and run without memory to see that there is one.

    Args:
        name: Of an architecture or a family.
        config: Of the type that `TaskKind.networks` has for it.

    Raises:
        SpecError: There is none, or it cannot be trained.
    """
    known = [(kind, arch) for kind in TASK_KINDS for arch, _ in kind.networks if arch.name == name]
    first, arch = known[0]
    try:
        first.try_out(arch, config)
    except NO_SUCH_NETWORK as error:
        reason = " ".join(str(error).split())[:300]
        raise SpecError("there is no such network", got=f"{type(error).__name__}: {reason}") from error
    kind = next((kind for kind, _ in known if kind.takes(arch, config)), None)
    if kind is None:
        raise SpecError("this network cannot be trained", where="arch", got=name)
    return Network(arch, config, kind)


def network_at(url: str) -> Network:
    """The network whose weights lie at a path or S3 URL.

    Raises:
        SpecError: It cannot be trained.
        ModelError: The weights cannot be used.
        StorageError: Their store refuses or fails.
    """
    trained = {arch.name: (arch, kind) for kind in reversed(TASK_KINDS) for arch, _ in kind.networks}
    with opened_weights(url) as path:
        told = told_network(Path(path)) if Path(path).is_file() else None
        if told is not None and told.arch in trained:
            arch, kind = trained[told.arch]
            if not isinstance(arch, Arch):
                config = arch.config_of(read_weights(Path(path))[0])
                return network_of(arch.name, kind.keys_of(arch, config))
    origin = model_at(url).origin
    if origin is None or origin.arch not in trained:
        raise SpecError(
            "weights of this network cannot be trained",
            where=url,
            got=origin.arch if origin else "none",
            expected=f"one of {', '.join(trained)}",
        )
    return network_of(origin.arch, origin.config)


class UpscalerKind(TaskKind):
    """Upscalers of single pictures."""

    networks = tuple((arch, arch.config) for arch in ARCHS)
    sections: tuple[str, ...] = ("crops", "degradation", "recoding")
    stages = (PixelStage, AdversarialStage)
    default_stage = PixelStageSpec()
    measures = (Measure.PSNR_Y, Measure.SSIM_Y, Measure.LPIPS)

    def try_out(self, arch: Trained, config: Any) -> None:
        """See `TaskKind`."""
        facts = _upscaler(arch).facts(config)
        with torch.device("meta"):
            built = _upscaler(arch).build(config)
        side_px = _TRIED_PX * facts.size_multiple
        shape = (facts.num_frames, facts.color_mode.num_channels, side_px, side_px)
        built.to("meta")(torch.empty(shape if facts.num_frames == 1 else (1, *shape), device="meta"))

    def takes(self, arch: Trained, config: Any) -> bool:
        """See `TaskKind`."""
        facts = _upscaler(arch).facts(config)
        return facts.num_frames == 1 and facts.color_mode is not ColorMode.YUV420

    def settings(self, network: Network, spec: TrainSpec) -> TaskSettings:
        """See `TaskKind`."""
        return SuperResolutionSettings(
            _upscaler(network.arch),
            network.config,
            lr_crop_px=spec.crops.lr_px,
            least_rescale=spec.crops.least_rescale,
            degradation=spec.degradation,
            recoding=spec.recoding,
            lpips=spec.validation.lpips,
        )

    def scale(self, arch: Trained, config: Any) -> int:
        """See `TaskKind`."""
        return _upscaler(arch).facts(config).scale

    def least_side_px(self, network: Network, spec: TrainSpec) -> int:
        """See `TaskKind`."""
        return spec.crops.lr_px * self.scale(network.arch, network.config)


class VideoKind(UpscalerKind):
    """Upscalers that see several frames at once."""

    sections = (*UpscalerKind.sections, "motion")

    def takes(self, arch: Trained, config: Any) -> bool:
        """See `TaskKind`."""
        facts = _upscaler(arch).facts(config)
        return facts.num_frames > 1 and facts.color_mode is not ColorMode.YUV420

    def settings(self, network: Network, spec: TrainSpec) -> TaskSettings:
        """See `TaskKind`."""
        of_stills = super().settings(network, spec)
        return VideoSettings(**vars(of_stills), motion=spec.motion)


def _upscaler(arch: Trained) -> Arch:
    if not isinstance(arch, Arch):
        raise TypeError(f"{arch.name} is no upscaler")
    return arch


class DepthKind(TaskKind):
    """Guided networks, which upscale depth maps."""

    networks = ((GUIDED, GuidedConfig),)
    sections = ("crops",)
    stages = (PixelStage,)
    default_stage = PixelStageSpec()
    measures = (Measure.PSNR, Measure.MAE)

    def try_out(self, arch: Trained, config: Any) -> None:
        """See `TaskKind`."""
        with torch.device("meta"):
            settings = DepthSettings(config, (), _TRIED_PX)
            settings.build()(*settings.example(_NUM_TRIED))

    def settings(self, network: Network, spec: TrainSpec) -> TaskSettings:
        """See `TaskKind`."""
        return DepthSettings(network.config, spec.depth_sources, spec.crops.lr_px)

    def scale(self, arch: Trained, config: Any) -> int:
        """See `TaskKind`."""
        return int(config.scale)

    def least_side_px(self, network: Network, spec: TrainSpec) -> int:
        """See `TaskKind`."""
        return spec.crops.lr_px * self.scale(network.arch, network.config)


class _SquareKind(TaskKind):
    """Networks that see a picture as a whole."""

    sections = ("squares",)

    @abstractmethod
    def untold(self, config: Any) -> FamilySettings:
        """The task of a network's section, with everything else by default."""

    def try_out(self, arch: Trained, config: Any) -> None:
        """See `TaskKind`."""
        settings = self.untold(config)
        settings.refuse_other_channels()
        with torch.device("meta"):
            settings.build()(*settings.example(_NUM_TRIED))

    def least_side_px(self, network: Network, spec: TrainSpec) -> int:
        """See `TaskKind`."""
        return self.untold(network.config).side_px


class VaeKind(_SquareKind):
    """Variational auto-encoders."""

    networks = ((VAE, VaeConfig),)
    stages = (ElboStage,)
    default_stage = ElboStageSpec()
    measures = (Measure.NEGATIVE_ELBO, Measure.PSNR)

    def untold(self, config: Any) -> FamilySettings:
        """See `_SquareKind`."""
        return VaeSettings(config)

    def settings(self, network: Network, spec: TrainSpec) -> TaskSettings:
        """See `TaskKind`."""
        return VaeSettings(network.config, spec.squares)


class GanKind(_SquareKind):
    """GANs, by their generators."""

    networks = ((GAN, GanConfig),)
    stages = (GanStage,)
    default_stage = GanStageSpec()
    measures = (Measure.SLICED_WASSERSTEIN,)

    def untold(self, config: Any) -> FamilySettings:
        """See `_SquareKind`."""
        return GanSettings(config)

    def settings(self, network: Network, spec: TrainSpec) -> TaskSettings:
        """See `TaskKind`."""
        return GanSettings(network.config, spec.squares)


@dataclass(frozen=True)
class ClassifierKeys:
    """A classifier; how many classes there are, folders say.

    Attributes:
        widths: Channels of each stage; from stage to stage, height and width halve.
        num_channels: Channels of the images.
        image_px: Side of the squares that it learns from; it takes pictures of any size afterwards.
    """

    widths: tuple[int, ...] = ClassifierConfig.widths
    num_channels: int = ClassifierConfig.num_channels
    image_px: Annotated[int, Field(ge=1, le=1024)] = ClassSettings.image_px


class ClassKind(_SquareKind):
    """Classifiers."""

    networks = ((CLASSIFIER, ClassifierKeys),)
    stages = (LabelStage,)
    default_stage = LabelStageSpec()
    measures = (Measure.CROSS_ENTROPY, Measure.ACCURACY)

    def untold(self, config: Any) -> FamilySettings:
        """See `_SquareKind`."""
        return ClassSettings(_classifier(config, 2), image_px=config.image_px)

    def keys_of(self, arch: Trained, config: Any) -> Any:
        """See `TaskKind`."""
        return ClassifierKeys(config.widths, config.num_channels)

    def settings(self, network: Network, spec: TrainSpec) -> TaskSettings:
        """See `TaskKind`: the classes are what folders there are."""
        classes, keys = classes_of(spec.sources), network.config
        return ClassSettings(_classifier(keys, len(classes)), spec.squares, classes, keys.image_px)


def _classifier(keys: ClassifierKeys, num_classes: int) -> ClassifierConfig:
    return ClassifierConfig(num_classes, keys.widths, keys.num_channels)


TASK_KINDS: tuple[TaskKind, ...] = (
    UpscalerKind(),
    VideoKind(),
    DepthKind(),
    VaeKind(),
    GanKind(),
    ClassKind(),
)
"""All that can be trained."""
