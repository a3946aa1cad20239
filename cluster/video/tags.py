"""What the colour tags of a stream are, where it does not say. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster.video.info import UNSPECIFIED, ColorTags, VideoInfo
from cluster.video.pixels import pixel_format

RGB = 0  # ITU-T H.273 MatrixCoefficients: there is no matrix, planes are red, green and blue


# ITU-T H.273 MatrixCoefficients that are linear in R'G'B', by the engine's names; 5 and 6 are the same.
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020nc"}


@dataclass(frozen=True)
class _Standard:
    name: str
    primaries: int
    transfer: int
    matrix: int


# Code points of ITU-T H.273. Both BT.601 systems have the transfer function of BT.709, as code point 6.
_BT709 = _Standard("BT.709", 1, 1, 1)
_BT601_525 = _Standard("BT.601, 525 lines", 6, 6, 6)
_BT601_625 = _Standard("BT.601, 625 lines", 5, 6, 5)
_BT2020 = _Standard("BT.2020", 9, 14, 9)
_SRGB = _Standard("sRGB", 1, 13, RGB)

# By FFmpeg's names of side data; what is not here is the coding's own, or carried elsewhere.
_SIDE_DATA = {
    "AFD": "active format description",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient viewing environment",
    "DOVI_CONF": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid dynamic metadata",
    "GOP_TIMECODE": "timecode",
    "ICC_PROFILE": "ICC profile",
    "PANSCAN": "pan and scan",
    "S12M_TIMECODE": "timecode",
    "SPHERICAL": "spherical video",
    "STEREO3D": "stereo 3D",
}

_OF_MATRIX = {1: _BT709, 5: _BT601_625, 6: _BT601_525, 9: _BT2020, 10: _BT2020}
_OF_PRIMARIES = {1: _BT709, 5: _BT601_625, 6: _BT601_525, 7: _BT601_525, 9: _BT2020}
_OF_TRANSFER = {1: _BT709, 14: _BT2020, 15: _BT2020, 16: _BT2020, 18: _BT2020}


def assume_color(video: VideoInfo) -> tuple[ColorTags, tuple[str, ...]]:
    """The colour tags of `video` with nothing left open, and what had to be assumed, in words.

    Tags that are set stay. The others follow those that are set; where none is, they follow the size, as
    players do: SD is BT.601, anything larger BT.709. RGB is full range sRGB, and a matrix is none of it;
    anything else is limited range. Siting is filled in for every sampling, but said only where it matters.
    """
    pixels = pixel_format(video.pixel_format)
    is_rgb = pixels is not None and pixels.is_rgb
    set_ = replace(video.color, matrix=_matrix(video.color.matrix, is_rgb))
    standard = _SRGB if is_rgb else _standard(set_, video)
    what: list[str] = []
    unset = [field for field in ("matrix", "primaries", "transfer") if getattr(set_, field) == UNSPECIFIED]
    if unset:
        what.append(f"{_listed(unset)} as in {standard.name}")
    if set_.full_range is None:
        what.append("full range" if is_rgb else "limited range")
    if set_.chroma_location is None and pixels and pixels.is_420:
        what.append("chroma siting left")
    color = ColorTags(
        primaries=standard.primaries if "primaries" in unset else set_.primaries,
        transfer=standard.transfer if "transfer" in unset else set_.transfer,
        matrix=standard.matrix if "matrix" in unset else set_.matrix,
        full_range=is_rgb if set_.full_range is None else set_.full_range,
        chroma_location=set_.chroma_location or "left",
    )
    if not what:
        return color, ()
    return color, (f"colour tags that the source does not set are written as assumed: {_listed(what)}",)


def _matrix(tag: int, is_rgb: bool) -> int:
    """`tag`, but as not known where it contradicts the planes, which are RGB or are not."""
    return tag if (tag == RGB) == is_rgb else UNSPECIFIED


def _standard(set_: ColorTags, video: VideoInfo) -> _Standard:
    standard = _OF_MATRIX.get(set_.matrix) or _OF_PRIMARIES.get(set_.primaries)
    return standard or _OF_TRANSFER.get(set_.transfer) or _of_size(video)


def _of_size(video: VideoInfo) -> _Standard:
    if video.height > 576 or video.width > 1024:
        return _BT709
    is_625 = video.height > 486 or video.frame_rate in (25, 50)
    return _BT601_625 if is_625 else _BT601_525


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def dropped_side_data(video: VideoInfo) -> tuple[str, ...]:
    """What frames carry and the output will not, for the user to know."""
    names = list(dict.fromkeys(_SIDE_DATA[name] for name in video.side_data if name in _SIDE_DATA))
    return (f"not carried, and dropped: {_listed(names)}",) if names else ()
