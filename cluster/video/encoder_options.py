"""How each encoder is told what is asked of it: FFmpeg's options. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.video.hdr import av1_display, light_levels, sei_display
from cluster.video.info import ContentLight, MasteringDisplay
from cluster.video.pixels import PixelFormat

Options = tuple[tuple[str, str], ...]

# With their usual lookahead x265 and SVT-AV1 hold 130 times a frame and more, which at 15360x8640 were 27 GB;
# as they are told below, at most 55 times.
_LARGE_SAMPLES = 1 << 25

# Where it plans over several frames (cu-tree), x265 writes behind the end of its memory in frames that are
# narrower than 52 px; 4.1 does, whatever their height.
LEAST_CU_TREE_PX = 64


@dataclass(frozen=True)
class Asked:
    """What an encoder is asked for.

    Attributes:
        preset: The encoder's own.
        quality: Constant quality; None is lossless.
        interval: At most so many frames from keyframe to keyframe.
        width_px: Of a frame.
        height_px: The same.
        display: HDR10 static metadata that the encoder can write, as is `light`.
    """

    preset: str
    quality: float | None
    threads: int
    interval: int
    width_px: int
    height_px: int
    pixels: PixelFormat
    display: MasteringDisplay | None = None
    light: ContentLight | None = None

    @property
    def is_large(self) -> bool:
        """Whether memory must be saved."""
        return self.width_px * self.height_px > _LARGE_SAMPLES


def x264(asked: Asked) -> Options:
    """H.264."""
    rate = ("qp", "0") if asked.quality is None else ("crf", f"{asked.quality:g}")
    options: Options = (("preset", asked.preset), rate, ("g", str(asked.interval)))
    if asked.display is not None:
        options = with_parameter(options, "x264-params", f"mastering-display={sei_display(asked.display)}")
    if asked.light is not None:
        options = with_parameter(options, "x264-params", f"cll={light_levels(asked.light)}")
    return options


def x265(asked: Asked) -> Options:
    """HEVC."""
    # Without info=0 the version and all settings stand in the extradata, which would differ between machines.
    parameters = [*("log-level=none", "info=0", "open-gop=0"), f"keyint={asked.interval}"]
    parameters += [f"pools={asked.threads}"]
    parameters += [f"frame-threads={1 if asked.is_large else min(asked.threads, 16)}"]
    parameters += ["rc-lookahead=4", "bframes=2"] * asked.is_large
    parameters += ["cutree=0"] * (asked.width_px < LEAST_CU_TREE_PX)
    parameters += ["lossless=1"] * (asked.quality is None)
    # Where there are no light levels it writes 0, which says that they are not known (D.3.35).
    if asked.display is not None:
        parameters.append(f"master-display={sei_display(asked.display)}")
    if asked.light is not None:
        parameters.append(f"max-cll={light_levels(asked.light)}")
    rate = () if asked.quality is None else (("crf", f"{asked.quality:g}"),)
    return (("preset", asked.preset), *rate, ("a53cc", "1"), ("x265-params", ":".join(parameters)))


def svt_av1(asked: Asked) -> Options:
    """AV1."""
    parameters = ["lookahead=0", "lp=1", "hierarchical-levels=3"] * asked.is_large
    if asked.display is not None:
        parameters.append(f"mastering-display={av1_display(asked.display)}")
    if asked.light is not None:
        parameters.append(f"content-light={light_levels(asked.light)}")
    options: Options = (("preset", asked.preset), ("crf", f"{asked.quality:g}"), ("g", str(asked.interval)))
    return (*options, ("svtav1-params", ":".join(parameters))) if parameters else options


def vpx_vp9(asked: Asked) -> Options:
    """VP9."""
    rate = ("lossless", "1") if asked.quality is None else ("crf", f"{asked.quality:g}")
    speed = (("deadline", "good"), ("cpu-used", asked.preset), ("row-mt", "1"))
    return (*speed, rate, ("b", "0"), ("g", str(asked.interval)))


def ffv1(asked: Asked) -> Options:
    """FFV1: every frame by itself, with checksums, which is what archives ask for.

    How many slices a frame has is left to the encoder: not every number goes with every size.
    """
    return (("level", "3"), ("g", "1"), ("slicecrc", "1"))


def prores(asked: Asked) -> Options:
    """ProRes: 4444 for full chroma and alpha, else 422 HQ; with the mark that editing programs look for."""
    is_4444 = not asked.pixels.is_subsampled
    alpha = (("alpha_bits", "16"),) if asked.pixels.has_alpha else ()
    return (("profile", "4" if is_4444 else "3"), ("vendor", "apl0"), *alpha)


def with_parameter(options: Options, name: str, parameter: str) -> Options:
    """`options` with one more parameter in the option `name`, which holds a list of them."""
    before = dict(options).get(name)
    merged = parameter if before is None else f"{before}:{parameter}"
    return (*(option for option in options if option[0] != name), (name, merged))
