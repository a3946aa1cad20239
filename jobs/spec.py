"""The job spec: what a person asks for. It composes the settings of the parts, and checks that they fit.

Paths in a spec are relative to the current directory, as everywhere on a command line, and not to the spec's
own folder: a spec that `ray job submit` unpacks elsewhere, or that is shared between folders, means the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from cluster.images.plan import image_quality_misfit
from cluster.job import (
    SETTINGS,
    EngineSettings,
    ImageSettings,
    Job,
    ModelRef,
    Policies,
    SegmentSettings,
    SequenceSettings,
    VideoSettings,
)
from cluster.machines import WorkerRequest
from cluster.retry import RetryPolicy
from cluster.storage.address import S3Settings, with_settings
from cluster.video.encoders import CODECS
from sr_core.blend import Blend
from sr_core.errors import SpecError
from sr_core.kernels import Kernel

AUTO_MODEL = "auto"
"""What stands for the model where none is named."""

_EVEN_BLEND = 0.5


@dataclass(frozen=True, config=SETTINGS)
class BlendSpec:
    """Other weights of the model's network, which are blended with the model's own.

    Attributes:
        model: The other weights, by their path or as a bundled model.
        strength: Its part: 0 is the model as it is, 1 the other; by default 0.5.
    """

    model: str | None = Field(default=None, min_length=1)
    strength: float | None = Field(default=None, ge=0, le=1)


@dataclass(frozen=True, config=SETTINGS)
class RetriesSpec(RetryPolicy):
    """What happens after a failure.

    Attributes:
        max_attempts: Tries of one task after which it is set aside.
        again: Try again what earlier runs have set aside.
    """

    again: bool = False


class UpscaleSpec(BaseModel):
    """A job of `framelift upscale`: a folder or file of videos and images, and how to upscale them.

    Every path may also be `s3://bucket/key`.

    Attributes:
        input: A video or image file, or a folder of them, relative to the current directory.
        output: The file or folder to write; folders mirror the tree of the input.
        model: A name that `framelift models` lists, or the path of a weights file; `auto` is the bundled
            model that makes the scale, or lanczos where there is none.
        blend: What the model's weights are blended with.
        scale: Output size / input size; by default that of the model's weights, or 2. Weights that do not
            tell theirs need it.
        height: Height of the outputs in pixels, in place of a scale; beside one, that is the weights'.
        video: How videos are encoded.
        image: How still images and animations are written.
        sequences: Whether numbered images are videos.
        engine: How networks run.
        segments: How videos are cut for the workers.
        workers: Who does the work.
        retries: What happens after a failure.
        policies: What to do with what is not plain.
        storage: How the S3 stores of this spec are spoken to, unless an address has settings of its own.
        overwrite: Replace outputs that were made with another spec.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input: str = Field(min_length=1)
    output: str = Field(min_length=1)
    model: str = Field(default=AUTO_MODEL, min_length=1)
    blend: BlendSpec = BlendSpec()
    scale: int | None = Field(default=None, ge=1, le=16)
    height: int | None = Field(default=None, ge=16, le=32768)
    video: VideoSettings = VideoSettings()
    image: ImageSettings = ImageSettings()
    sequences: SequenceSettings = SequenceSettings()
    engine: EngineSettings = EngineSettings()
    segments: SegmentSettings = SegmentSettings()
    workers: WorkerRequest = WorkerRequest()
    retries: RetriesSpec = RetriesSpec()
    policies: Policies = Policies()
    storage: S3Settings = S3Settings()
    overwrite: bool = False

    # Field validators rather than one for the whole: those run beside wrong fields too, so that a person
    # gets all mistakes at once.
    @field_validator("input", "output", "model")
    @classmethod
    def _is_address(cls, place: str, info: ValidationInfo) -> str:
        try:
            with_settings(place, S3Settings())
        except SpecError as error:
            raise _misfit((str(info.field_name), str(error))) from error
        return place

    @field_validator("blend")
    @classmethod
    def _blend_fits(cls, blend: BlendSpec, info: ValidationInfo) -> BlendSpec:
        misfits = tuple(_blend_misfits(blend, str(info.data.get("model"))))
        if misfits:
            raise _misfit(*misfits)
        return blend

    @field_validator("height")
    @classmethod
    def _instead_of_scale(cls, height: int | None, info: ValidationInfo) -> int | None:
        brings_no_scale = info.data.get("model") in {AUTO_MODEL, *Kernel}
        if height is not None and info.data.get("scale") is not None and brings_no_scale:
            raise _misfit(("height", "given beside a scale; give one of the two"))
        return height

    @field_validator("video")
    @classmethod
    def _codec_fits(cls, video: VideoSettings) -> VideoSettings:
        misfits = tuple(_video_misfits(video))
        if misfits:
            raise _misfit(*misfits)
        return video

    @field_validator("image")
    @classmethod
    def _quality_fits(cls, image: ImageSettings) -> ImageSettings:
        misfit = image_quality_misfit(image)
        if misfit:
            raise _misfit(("image.quality", misfit))
        return image

    @field_validator("workers")
    @classmethod
    def _device_fits(cls, workers: WorkerRequest) -> WorkerRequest:
        if workers.device == "cpu" and workers.gpus:
            raise _misfit(
                ("workers.gpus", f"{workers.gpus:g} GPUs for each worker, but workers.device is cpu")
            )
        if workers.gpus and workers.gpus > 1 and workers.gpus != int(workers.gpus):
            raise _misfit(
                ("workers.gpus", f"got {workers.gpus:g}, expected a part of one GPU, or whole ones")
            )
        if workers.device == "cuda" and workers.gpus == 0:
            raise _misfit(("workers.gpus", "no GPU for a worker, but workers.device is cuda"))
        return workers

    @property
    def input_url(self) -> str:
        """Where the input lies, with how its store is spoken to."""
        return with_settings(self.input, self.storage)

    @property
    def output_url(self) -> str:
        """Where the output lies, with how its store is spoken to."""
        return with_settings(self.output, self.storage)

    @property
    def model_url(self) -> str:
        """The model's name, or where its weights lie, with how their store is spoken to."""
        return with_settings(self.model, self.storage)

    @property
    def blend_with(self) -> Blend | None:
        """What the model's weights are blended with, with how its store is spoken to."""
        if self.blend.model is None:
            return None
        strength = _EVEN_BLEND if self.blend.strength is None else self.blend.strength
        return Blend(with_settings(self.blend.model, self.storage), strength)

    def job(self, model: ModelRef) -> Job:
        """What is asked of every input, with the model that was found for `self.model`."""
        return Job(
            model=model,
            scale=self.scale,
            height=self.height,
            video=self.video,
            image=self.image,
            sequences=self.sequences,
            engine=self.engine,
            segments=self.segments,
            policies=self.policies,
        )


def _blend_misfits(blend: BlendSpec, model: str) -> Iterator[tuple[str, str]]:
    """What cannot be blended, as (key, problem)."""
    if blend.model is None:
        if blend.strength is not None:
            yield "blend.strength", "given without blend.model, the weights whose part it is"
        return
    for name, key in ((model, "model"), (blend.model, "blend.model")):
        if name in set(Kernel):
            yield key, f"got {name!r}, which has no weights; expected a weights file, as two are blended"
    if model == AUTO_MODEL:
        yield "blend.model", "given without a model; name the one that it is blended with"
    try:
        with_settings(blend.model, S3Settings())
    except SpecError as error:
        yield "blend.model", str(error)


def _video_misfits(video: VideoSettings) -> Iterator[tuple[str, str]]:
    """What cannot be encoded whatever the source is, as (key, problem)."""
    codec = next((codec for codec in CODECS if codec.name == video.codec), None)
    if codec is None:
        return
    if video.container != "auto" and video.container not in codec.containers:
        fitting = ", ".join(codec.containers)
        yield "video.container", f"got {video.container!r}, expected one of {fitting} for {codec.name}"
    if codec.own_preset(video.preset) is None:
        presets = ", ".join(dict.fromkeys([*codec.presets, *codec.efforts]))
        yield "video.preset", f"got {video.preset!r}, expected one of {presets} for {codec.name}"
    expected = codec.expected_quality(video.quality)
    if expected is not None:
        got = video.quality if isinstance(video.quality, str) else f"{video.quality:g}"
        yield "video.quality", f"got {got}, expected {expected} for {codec.name}"


def _misfit(*misfits: tuple[str, str]) -> PydanticCustomError:
    """An error of several keys together: (key, problem) of each."""
    return PydanticCustomError(
        "misfit", "{text}", {"misfits": misfits, "text": "; ".join(m[1] for m in misfits)}
    )
