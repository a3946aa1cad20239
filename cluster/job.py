"""What is asked of every input, with nothing left open but what only a worker can know.

A `Job` is what decides an output's pixels and bytes, less the machine. Where inputs lie, how many workers run
and how often they try again is not part of it: none of that may change a byte.
"""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from sr_core.blend import Blend, blend_sha256

SETTINGS = ConfigDict(extra="forbid", allow_inf_nan=False)

_NTSC_TOLERANCE = Fraction(1, 4000)

Codec = Literal["auto", "h264", "hevc", "av1", "vp9", "ffv1", "prores"]
Container = Literal["auto", "mp4", "mov", "mkv", "webm"]
ImageFormat = Literal["auto", "png", "jpeg", "webp", "avif", "tiff", "bmp", "gif"]
Deinterlace = Literal["auto", "frame", "field", "off"]


@dataclass(frozen=True, config=SETTINGS)
class VideoSettings:
    """How outputs are encoded.

    Attributes:
        codec: `auto` takes the container's usual one: hevc above 8 bit, else h264; av1 in WebM.
        preset: `ultrafast` to `placebo` for every codec, or the encoder's own number; None takes the default.
        quality: Constant quality in the encoder's own unit (CRF: lower is better), or `lossless`.
        container: `auto` keeps the source's family, unless that cannot hold the codec.
    """

    codec: Codec = "auto"
    preset: str | None = None
    quality: float | Literal["auto", "lossless"] = "auto"
    container: Container = "auto"


@dataclass(frozen=True, config=SETTINGS)
class ImageSettings:
    """How still images are written.

    Attributes:
        format: `auto` keeps the source's.
        quality: 1 to 100 for jpeg, webp and avif, or `lossless` for webp and avif; `auto` is high, and
            lossless where the source is.
    """

    format: ImageFormat = "auto"
    quality: int | Literal["auto", "lossless"] = "auto"


@dataclass(frozen=True, config=SETTINGS)
class EngineSettings:
    """How networks run.

    Attributes:
        precision: `auto` is fp32 on CPUs and fp16 on GPUs. Models that do not run in it run in fp32.
        tile_px: Edge of a tile's core in LR pixels; None chooses by device.
        batch_size: Tiles in one forward pass; None chooses by device.
    """

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tile_px: int | None = Field(default=None, ge=16, le=8192)
    batch_size: int | None = Field(default=None, ge=1, le=1024)


@dataclass(frozen=True, config=SETTINGS)
class SegmentSettings:
    """How videos are cut: `seconds` is the length that segments come close to."""

    seconds: float = Field(default=10.0, ge=0.5, le=3600.0)


@dataclass(frozen=True, config=SETTINGS)
class SequenceSettings:
    """Numbered images as videos.

    Attributes:
        frame_rate: Images a second: `24`, `23.976` or `24000/1001`. None leaves images images.
    """

    frame_rate: str | None = Field(default=None, pattern=r"^[1-9]\d{0,5}(\.\d{1,3}|/[1-9]\d{0,5})?$")

    @property
    def exact_rate(self) -> Fraction | None:
        """The rate as a fraction: what is written as 23.976, 29.97 or 59.94 is meant as so many 1001ths."""
        if self.frame_rate is None:
            return None
        rate = Fraction(self.frame_rate)
        ntsc = Fraction(round(rate) * 1000, 1001)
        is_ntsc = "." in self.frame_rate and abs(rate / ntsc - 1) < _NTSC_TOLERANCE
        return ntsc if is_ntsc else rate


@dataclass(frozen=True, config=SETTINGS)
class Policies:
    """What to do with what is not plain.

    Attributes:
        strict: A source with damage fails; otherwise what decodes is kept and the rest is told.
        deinterlace: What becomes of interlaced video: `frame` makes one frame of each, `field` two, `off`
            upscales the woven fields as they are; `auto` is `frame` for those frames that say that they are
            interlaced.
    """

    strict: bool = False
    deinterlace: Deinterlace = "auto"


@dataclass(frozen=True, config=SETTINGS)
class BlendRef:
    """Weights that a model's own are blended with.

    Attributes:
        path: Where they lie.
        sha256: Hash of their bytes.
        strength: Their part, 0..1.
    """

    path: str
    sha256: str
    strength: float = Field(ge=0, le=1)


@dataclass(frozen=True, config=SETTINGS)
class ModelRef:
    """A model by name, or by the file of its weights.

    Attributes:
        name: What the user wrote.
        path: Where the weights lie; None for models without weights.
        sha256: Hash of the weights' bytes; None for models without weights.
        blended_with: Other weights of the same network, if any.
    """

    name: str
    path: str | None = None
    sha256: str | None = None
    blended_with: BlendRef | None = None

    @property
    def weights_sha256(self) -> str | None:
        """Names all that the weights are made of, as a loaded model does; None for models without weights."""
        other = self.blended_with
        if self.sha256 is None or other is None:
            return self.sha256
        return blend_sha256(self.sha256, other.sha256, other.strength)

    @property
    def blend(self) -> Blend | None:
        """What the weights are to be blended with."""
        other = self.blended_with
        return Blend(other.path, other.strength) if other else None


@dataclass(frozen=True, config=SETTINGS)
class Job:
    """What is asked of every input.

    Attributes:
        scale: HR size / LR size; None takes the model's own.
        height: Height of the output in pixels, in place of a scale.
    """

    model: ModelRef
    scale: int | None = None
    height: int | None = None
    video: VideoSettings = VideoSettings()
    image: ImageSettings = ImageSettings()
    sequences: SequenceSettings = SequenceSettings()
    engine: EngineSettings = EngineSettings()
    segments: SegmentSettings = SegmentSettings()
    policies: Policies = Policies()

    @cached_property
    def id(self) -> str:
        """Names this job: equal for equal jobs wherever their files lie."""
        asked = _JOB.dump_python(self, mode="json")
        del asked["model"]
        return hash_of({**asked, "model": self.model.weights_sha256 or self.model.name})


_JOB = TypeAdapter(Job)


def hash_of(value: Any) -> str:
    """The first 20 hexadecimal digits of the SHA-256 of `value`, which JSON can hold."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:20]
