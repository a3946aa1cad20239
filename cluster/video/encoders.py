"""The encoders: what each can do, and how large and how small its frames may be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cluster.video import encoder_options
from cluster.video.containers import Container
from cluster.video.encoder_options import Asked, Options
from cluster.video.hdr import HdrForm
from cluster.video.pixels import PixelFormat, pixel_format

CodecName = Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores"]

PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# x264's names are understood for every codec, so that one preset serves a folder of many containers.
_SVT_AV1_EFFORTS = dict(zip(PRESETS, ["13", "12", "11", "10", "9", "8", "6", "4", "2", "0"], strict=True))
_VP9_EFFORTS = dict(zip(PRESETS, ["8", "8", "7", "6", "5", "4", "3", "2", "1", "0"], strict=True))
_NO_EFFORTS = dict.fromkeys(PRESETS, "")


@dataclass(frozen=True)
class FrameLimits:
    """How large and how small frames may be.

    Attributes:
        source: Where the largest size stands.
        min_px: Of either edge.
        max_samples: Of luma, counted in whole blocks of `block_px` on either edge.
        usual_samples: Beyond so many few decoders play the codec; None where that is not known.
        usual_level: The codec's level that ends there.
    """

    source: str
    min_px: int
    max_width: int
    max_height: int
    max_samples: int
    block_px: int = 1
    usual_samples: int | None = None
    usual_level: str = ""

    def fit(self, width: int, height: int) -> bool:
        """Whether frames of that size are within the limits."""
        if min(width, height) < self.min_px or width > self.max_width or height > self.max_height:
            return False
        is_openable = (width + 128) * (height + 128) < 1 << 28  # FFmpeg's own limit (av_image_check_size)
        return is_openable and self._samples(width, height) <= self.max_samples

    def are_usual(self, width: int, height: int) -> bool:
        """Whether most decoders play frames of that size."""
        return self.usual_samples is None or self._samples(width, height) <= self.usual_samples

    def __str__(self) -> str:
        largest = f"at most {self.max_width}x{self.max_height} and {self.max_samples:,} luma samples"
        return f"edges from {self.min_px} pixels, {largest} ({self.source})"

    def _samples(self, width: int, height: int) -> int:
        edge = self.block_px
        return -(-width // edge) * -(-height // edge) * edge**2


@dataclass(frozen=True)
class Codec:
    """One encoder and what it can do.

    Attributes:
        formats: Planar pixel formats.
        containers: That hold the codec with all that it says of colour.
        presets: The encoder's own names, of which `preset` is the default.
        efforts: What stands for x264's names of presets, where they are not the encoder's own.
        quality: The default of the constant quality, which has a range and may need to be an integer.
        lossless: Whether a decoder gives back the very samples.
        odd_sizes: Whether subsampled frames may have odd sizes.
        options: How the encoder is told what it is asked for.
        not_in: Formats that a container does not hold.
        rounded_depth: Sources up to this depth are taken, and rounded, where the encoder has fewer bits.
        full_range: Whether it can say that its codes are full range.
        captions: Whether it writes closed captions.
        hdr_form: In which form it writes HDR10 static metadata; None where the container alone does.
    """

    name: CodecName
    encoder: str
    formats: frozenset[str]
    containers: tuple[Container, ...]
    presets: tuple[str, ...]
    efforts: dict[str, str]
    preset: str
    quality: float
    quality_range: tuple[float, float]
    integer_quality: bool
    lossless: bool
    odd_sizes: bool
    limits: FrameLimits
    options: Callable[[Asked], Options]
    not_in: Mapping[Container, frozenset[str]] = field(default_factory=dict)
    rounded_depth: int = 8
    full_range: bool = True
    captions: bool = False
    hdr_form: HdrForm | None = None

    def own_preset(self, name: str | None) -> str | None:
        """The encoder's own name of a preset; None where it has none of that name."""
        if name is None:
            return self.preset
        return name if name in self.presets else self.efforts.get(name)

    def expected_quality(self, quality: float | str) -> str | None:
        """What is right in place of `quality`; None where it is right itself."""
        lowest, highest = self.quality_range
        numbers = f"{lowest:g} to {highest:g}" + " in whole numbers" * self.integer_quality
        if lowest == highest:
            numbers = "auto or lossless" if self.lossless else "auto"
        match quality:
            case "auto":
                return None
            case "lossless":
                return None if self.lossless else numbers
            case float() if lowest < highest and lowest <= quality <= highest:
                return numbers if self.integer_quality and not quality.is_integer() else None
        return numbers

    def formats_in(self, container: Container) -> list[PixelFormat]:
        """The pixel formats that it takes and `container` holds."""
        held = sorted(self.formats - self.not_in.get(container, frozenset()))
        return [found for name in held if (found := pixel_format(name)) is not None]

    def written_hdr_form(self, container: Container) -> HdrForm:
        """In which form HDR10 static metadata is written into `container`."""
        return self.hdr_form or ("mov" if container in ("mp4", "mov") else "matroska")

    def takes_size(self, pixels: PixelFormat, width: int, height: int) -> bool:
        """Whether it takes frames in `pixels` whose size does not divide into whole chroma samples."""
        is_even = not (width % (1 << pixels.chroma_w_shift) or height % (1 << pixels.chroma_h_shift))
        return is_even or self.odd_sizes


def _formats(depths: tuple[int, ...], *families: str) -> frozenset[str]:
    return frozenset(name + ("" if depth == 8 else f"{depth}le") for name in families for depth in depths)


_USUAL = ("yuv420p", "yuv422p", "yuv444p", "gray")

H264 = Codec(
    name="h264",
    encoder="libx264",
    formats=_formats((8, 10), *_USUAL),
    containers=("mp4", "mov", "mkv"),
    presets=PRESETS,
    efforts={},
    preset="medium",
    quality=17,
    quality_range=(0, 51),
    integer_quality=False,
    lossless=True,
    odd_sizes=False,
    limits=FrameLimits(
        source="H.264, Table A-1: 139,264 macroblocks at level 6.2; x264: edges",
        min_px=2,
        max_width=16_384,
        max_height=16_384,
        max_samples=139_264 * 256,
        block_px=16,
        usual_samples=36_864 * 256,
        usual_level="5.2",
    ),
    options=encoder_options.x264,
    captions=True,
    hdr_form="sei",
)
HEVC = Codec(
    name="hevc",
    encoder="libx265",
    formats=_formats((8, 10, 12), *_USUAL, "gbrp"),
    containers=("mp4", "mov", "mkv"),
    presets=PRESETS,
    efforts={},
    preset="medium",
    quality=18,
    quality_range=(0, 51),
    integer_quality=False,
    lossless=True,
    odd_sizes=False,
    limits=FrameLimits(
        source="H.265, Table A.8: level 7.2, whose edges end at the root of 8 times the samples",
        min_px=32,
        max_width=33_776,
        max_height=33_776,
        max_samples=142_606_336,
        usual_samples=35_651_584,
        usual_level="6.2",
    ),
    options=encoder_options.x265,
    captions=True,
    hdr_form="sei",
)
AV1 = Codec(
    name="av1",
    encoder="libsvtav1",
    formats=_formats((8, 10), "yuv420p"),
    containers=("mp4", "mkv", "webm"),
    presets=tuple(str(preset) for preset in range(14)),
    efforts=_SVT_AV1_EFFORTS,
    preset="8",
    quality=24,
    quality_range=(1, 63),
    integer_quality=True,
    lossless=False,  # SVT-AV1 4.1 says that it is, but changes 10-bit samples
    odd_sizes=True,
    limits=FrameLimits(
        source="SVT-AV1",
        min_px=16,
        max_width=16_384,
        max_height=8_704,
        max_samples=16_384 * 8_704,
        usual_samples=35_651_584,  # AV1 specification, A.3
        usual_level="6.3",
    ),
    options=encoder_options.svt_av1,
    hdr_form="av1",
)
VP9 = Codec(
    name="vp9",
    encoder="libvpx-vp9",
    formats=_formats((8,), "yuv420p", "yuva420p", "yuv422p", "yuv440p", "yuv444p", "gbrp"),
    containers=("mkv", "webm", "mp4"),
    presets=tuple(str(speed) for speed in range(9)),
    efforts=_VP9_EFFORTS,
    preset="4",
    quality=24,
    quality_range=(0, 63),
    integer_quality=True,
    lossless=True,
    odd_sizes=True,
    limits=FrameLimits(
        source="VP9 specification, 6.2.5: 16 bits for each edge",
        min_px=2,
        max_width=1 << 16,
        max_height=1 << 16,
        max_samples=1 << 28,
    ),
    options=encoder_options.vpx_vp9,
    not_in={"mp4": frozenset({"yuva420p", "yuv440p"})},  # alpha is beside the packets; the other is refused
)
FFV1 = Codec(
    name="ffv1",
    encoder="ffv1",
    formats=_formats((8, 9, 10, 12, 14, 16), *_USUAL, "gbrp")
    | _formats((8, 10, 12), "yuv440p")
    | _formats((8,), "yuv411p", "yuv410p")
    | _formats((8, 9, 10, 16), "yuva420p")
    | _formats((8, 9, 10, 12, 16), "yuva422p", "yuva444p")
    | _formats((8, 10, 12, 14, 16), "gbrap"),
    containers=("mkv",),
    presets=(),
    efforts=_NO_EFFORTS,
    preset="",
    quality=0,
    quality_range=(0, 0),
    integer_quality=True,
    lossless=True,
    odd_sizes=True,
    limits=FrameLimits(
        source="what FFmpeg opens",
        min_px=8,
        max_width=1 << 24,
        max_height=1 << 24,
        max_samples=1 << 28,
    ),
    options=encoder_options.ffv1,
)
PRORES = Codec(
    name="prores",
    encoder="prores_ks",
    formats=frozenset({"yuv422p10le", "yuv444p10le", "yuva444p10le"}),
    containers=("mov", "mkv"),
    presets=(),
    efforts=_NO_EFFORTS,
    preset="",
    quality=0,
    quality_range=(0, 0),
    integer_quality=True,
    lossless=False,
    odd_sizes=True,
    limits=FrameLimits(
        source="SMPTE RDD 36: 16 bits for each edge",
        min_px=2,
        max_width=(1 << 16) - 1,
        max_height=(1 << 16) - 1,
        max_samples=1 << 28,
    ),
    options=encoder_options.prores,
    rounded_depth=12,  # 4444 is decoded to 12 bit
    full_range=False,
)
CODECS = (H264, HEVC, AV1, VP9, FFV1, PRORES)


def codec_named(name: CodecName) -> Codec:
    """The codec of that name."""
    return next(codec for codec in CODECS if codec.name == name)
