"""HDR10 static metadata in the forms that encoders and containers are given. Pure."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Literal

from cluster.video.info import ContentLight, MasteringDisplay

# SEI messages of H.264 and H.265, metadata OBUs of AV1, elements of Matroska, boxes of MP4 and MOV.
HdrForm = Literal["sei", "av1", "matroska", "mov"]

# ITU-T H.265, D.3.28: unsigned, in steps of 0.00002 and of 0.0001 cd/m2.
_SEI_POINT, _SEI_LUMINANCE = 50_000, 10_000
# AV1 specification, 6.7.4: 0.16, 24.8 and 18.14 fixed point.
_AV1_POINT, _AV1_MAX_LUMINANCE, _AV1_MIN_LUMINANCE = 1 << 16, 1 << 8, 1 << 14
_UINT16_MAX, _UINT32_MAX = (1 << 16) - 1, (1 << 32) - 1

_Point = tuple[Fraction, Fraction]


def writable_display(form: HdrForm, display: MasteringDisplay | None) -> MasteringDisplay | None:
    """What of `display` can be written in `form`; None where that is nothing.

    SEI messages and Matroska may say colours or luminances alone; AV1 and MP4 only both.
    """
    if display is None:
        return None
    colors, luminances = points(display), _luminances(display)
    if colors is None and luminances is None:
        return None
    if form in ("av1", "mov") and (colors is None or luminances is None):
        return None
    kept = replace(display, red=None, green=None, blue=None, white=None) if colors is None else display
    return replace(kept, min_luminance=None, max_luminance=None) if luminances is None else kept


def writable_light(form: HdrForm, light: ContentLight | None) -> ContentLight | None:
    """`light` where it can be written in `form`: in 16 bits, and not 0 where that says nothing."""
    if light is None or not all(0 <= value <= _UINT16_MAX for value in (light.max_cll, light.max_fall)):
        return None
    is_said = bool(light.max_cll and light.max_fall)
    return light if is_said or (form in ("sei", "av1") and (light.max_cll or light.max_fall)) else None


def points(display: MasteringDisplay) -> tuple[_Point, _Point, _Point, _Point] | None:
    """Red, green, blue and white; None where one is not known or cannot be written."""
    red, green, blue, white = display.red, display.green, display.blue, display.white
    if red is None or green is None or blue is None or white is None:
        return None
    are_writable = all(0 <= value < 1 for point in (red, green, blue, white) for value in point)
    return (red, green, blue, white) if are_writable else None


def sei_display(display: MasteringDisplay) -> str:
    """As x264 and x265 take it: in the codes of the message, of which 0 says nothing."""
    colors = points(display) or ((Fraction(0), Fraction(0)),) * 4
    least, most = _luminances(display) or (Fraction(0), Fraction(0))
    red, green, blue, white = (_pair(*(round(value * _SEI_POINT) for value in point)) for point in colors)
    luminance = _pair(round(most * _SEI_LUMINANCE), round(least * _SEI_LUMINANCE))
    return f"G{green}B{blue}R{red}WP{white}L{luminance}"


def av1_display(display: MasteringDisplay) -> str:
    """As SVT-AV1 takes it: in decimals, here those of the codes, since it cuts off what is between two."""
    colors, luminances = points(display), _luminances(display)
    assert colors is not None, "only what is writable is written"
    assert luminances is not None, "only what is writable is written"
    red, green, blue, white = (_pair(*(_fixed(value, _AV1_POINT) for value in point)) for point in colors)
    least, most = _fixed(luminances[0], _AV1_MIN_LUMINANCE), _fixed(luminances[1], _AV1_MAX_LUMINANCE)
    return f"G{green}B{blue}R{red}WP{white}L{_pair(most, least)}"


def light_levels(light: ContentLight) -> str:
    """As every encoder takes them."""
    return f"{light.max_cll},{light.max_fall}"


def _luminances(display: MasteringDisplay) -> tuple[Fraction, Fraction] | None:
    """Least and most; None where they are not known or cannot be written."""
    least, most = display.min_luminance, display.max_luminance
    if least is None or most is None or not 0 <= least < most:
        return None
    return (least, most) if most * _SEI_LUMINANCE <= _UINT32_MAX else None


def _fixed(value: Fraction, unit: int) -> str:
    return f"{round(value * unit) / unit:.20f}".rstrip("0") + "0"


def _pair(first: object, second: object) -> str:
    return f"({first},{second})"
