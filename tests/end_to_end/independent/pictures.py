"""What is said of the pictures: size, pixel format, colour tags, HDR metadata, pixel aspect and rotation."""

import re
from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor
from typing import Any

from tests.end_to_end.independent.probing import UNSET, Film
from tests.end_to_end.independent.verdict import Verdict

COLOR_FIELDS = {
    "range": "color_range",
    "matrix": "color_space",
    "primaries": "color_primaries",
    "transfer": "color_transfer",
}
HDR_KINDS = ("Mastering display metadata", "Content light level metadata")
_IDENTITY = (65536, 0, 0, 65536)
# Half of the unit that a value is written in: by AV1 (section 6.7.4 of its specification), and by all others.
_AV1_HALVES = {"luminance": Fraction(1, 512), "min_luminance": Fraction(1, 32768)}
_AV1_HALF_CHROMATICITY = Fraction(1, 131072)
_HEVC_HALF_CHROMATICITY, _HEVC_HALF_LUMINANCE = Fraction(1, 100_000), Fraction(1, 20_000)


def check_picture_facts(
    source: Film, output: Film, scale: Fraction, expected_color: Mapping[str, str], verdict: Verdict
) -> None:
    """Size, pixel format, colour tags, HDR metadata, pixel aspect and rotation."""
    _check_size(source, output, scale, verdict)
    _check_pixels(source, output, verdict)
    _check_color(source, output, expected_color, verdict)
    _check_hdr(source, output, verdict)
    _check_aspect(source, output, base_size(source, output, scale), verdict)
    _check_rotation(source, output, verdict)


def _check_size(source: Film, output: Film, scale: Fraction, verdict: Verdict) -> None:
    base = base_size(source, output, scale)
    verdict.figures["size"] = (base, output.size)
    for side, before, after in zip(("width", "height"), base, output.size, strict=True):
        if not _is_scaled(before, after, scale):
            verdict.fault("size", f"{side} {after}, expected {before} x {scale} = {before * scale}")
    if len({shown.size for shown in source.shown}) > 1:
        verdict.notes.append("the size of the source's frames changes midway")
    if sizes := {shown.size for shown in output.shown} - {output.size}:
        verdict.fault("size", f"the output's frames change their size: {sorted(sizes)} beside {output.size}")


def base_size(source: Film, output: Film, scale: Fraction) -> tuple[int, int]:
    """The source's size; where that changes midway, the first of its sizes that the output is made of."""
    sizes = [source.size, *(shown.size for shown in source.shown)]
    fits = (
        size for size in sizes if all(_is_scaled(a, b, scale) for a, b in zip(size, output.size, strict=True))
    )
    return next(fits, source.size)


def _is_scaled(before: int, after: int, scale: Fraction) -> bool:
    return after in (floor(before * scale), ceil(before * scale))


def _check_pixels(source: Film, output: Film, verdict: Verdict) -> None:
    """Depth, sampling and planes must be the source's or finer; a grey source may come as neutral colour."""
    before, after = source.pixels, output.pixels
    verdict.figures["pix_fmt"] = names = (source.main["pix_fmt"], output.main["pix_fmt"])
    coarser = []
    if after.depth < before.depth:
        coarser.append(f"{after.depth} bit instead of {before.depth}")
    if after.num_colors < before.num_colors:
        coarser.append("grey instead of colour")
    elif before.num_colors > 1 and after.is_rgb != before.is_rgb:
        coarser.append("RGB instead of YUV" if after.is_rgb else "YUV instead of RGB")
    elif before.num_colors > 1 and (after.chroma_w > before.chroma_w or after.chroma_h > before.chroma_h):
        coarser.append("coarser chroma")
    if before.has_alpha and not after.has_alpha:
        coarser.append("no alpha")
    if coarser:
        verdict.fault("pix_fmt", f"{names[1]} of a source of {names[0]}: {', '.join(coarser)}")
    elif before != after:
        verdict.notes.append(f"pixels are stored finer: {names[1]} of a source of {names[0]}")


def color_tags(film: Film) -> dict[str, str | None]:
    """Range, matrix, primaries and transfer, of the stream or else of its first frame; None where unset."""
    tags = {}
    for name, probe_field in COLOR_FIELDS.items():
        values = (film.main.get(probe_field), film.first_frame.get(probe_field))
        tags[name] = next((value for value in values if value not in UNSET), None)
    if film.main["pix_fmt"].startswith("yuvj"):
        tags["range"] = "pc"
    return tags


def _check_color(source: Film, output: Film, expected_color: Mapping[str, str], verdict: Verdict) -> None:
    before, after = color_tags(source), color_tags(output)
    verdict.figures["color"] = {name: (before[name], after[name]) for name in COLOR_FIELDS}
    untagged = []
    for name, probe_field in COLOR_FIELDS.items():
        want = before[name] or expected_color.get(name)
        in_frame = output.first_frame.get(probe_field)
        if want is None:
            untagged.append(f"{name} ({after[name] or 'nor in the output'})")
        elif after[name] != want and not _is_implied_alias(source, probe_field, after[name], want):
            reason = "source has" if before[name] else "expected"
            verdict.fault("color", f"{name} is {after[name] or 'not tagged'}, {reason} {want}")
        elif in_frame not in UNSET and in_frame != after[name]:
            verdict.fault("color", f"{name}: container says {after[name]}, frames say {in_frame}")
    if untagged:
        verdict.notes.append(f"not tagged in the source (in brackets: the output): {', '.join(untagged)}")
    _check_siting(source, output, verdict)


def _check_siting(source: Film, output: Film, verdict: Verdict) -> None:
    want, got = (
        film.first_frame.get("chroma_location") or film.main.get("chroma_location")
        for film in (source, output)
    )
    if want not in UNSET and got != want:
        text = f"chroma siting is {got or 'not tagged'}, source has {want}"
        # Not every codec can say `left`, which is what players take for granted.
        verdict.notes.append(text) if got in UNSET else verdict.fault("color", text)


def _is_implied_alias(source: Film, probe_field: str, got: str | None, want: str) -> bool:
    """VP8 has no tags, its decoder answers `bt470bg`: the same matrix as `smpte170m`, which will do."""
    implied = source.main.get(probe_field) in UNSET
    return implied and probe_field == "color_space" and {got, want} == {"bt470bg", "smpte170m"}


def _side_data(film: Film, kind: str) -> list[dict[str, Any]]:
    """What the container and the first frame say, in this order."""
    listed = [*film.main.get("side_data_list", []), *film.first_frame.get("side_data_list", [])]
    return [data for data in listed if data.get("side_data_type", "").lower() == kind.lower()]


def _check_hdr(source: Film, output: Film, verdict: Verdict) -> None:
    """Equal as rationals, in the container and in the frames; but for rounding to another codec's units."""
    for kind in HDR_KINDS:
        before, after = _side_data(source, kind), _side_data(output, kind)
        if before and not after:
            verdict.fault("hdr", f"{kind} is lost")
        if after and not before:
            verdict.fault("hdr", f"{kind} is invented: the source has none")
        for said in after if before else ():
            for name in sorted((before[0].keys() | said.keys()) - {"side_data_type"}):
                if text := _changed_hdr(name, before[0], said, source, output):
                    verdict.fault("hdr", f"{kind}: {text}")


def _changed_hdr(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], source: Film, output: Film
) -> str:
    if name not in before or name not in after:
        return f"{name} is {'lost' if name in before else 'invented'}"
    want, got = Fraction(before[name]), Fraction(after[name])
    if abs(want - got) <= _rounding(name, source, output):
        return ""
    return f"{name} is {after[name]} ({float(got)}), source has {before[name]} ({float(want)})"


def _rounding(name: str, source: Film, output: Film) -> Fraction:
    """What writing a value in the output's units may change: nothing where the source has the same units."""
    codecs = source.main["codec_name"], output.main["codec_name"]
    if name.startswith("max_") and name != "max_luminance":
        return Fraction(0)  # content light levels are whole numbers everywhere
    if (codecs[0] == "av1") == (codecs[1] == "av1"):
        return Fraction(0)
    is_luminance = name.endswith("luminance")
    if codecs[1] != "av1":
        return _HEVC_HALF_LUMINANCE if is_luminance else _HEVC_HALF_CHROMATICITY
    if is_luminance:
        return _AV1_HALVES["min_luminance" if name.startswith("min") else "luminance"]
    return _AV1_HALF_CHROMATICITY


def _check_aspect(source: Film, output: Film, base: tuple[int, int], verdict: Verdict) -> None:
    before, after = (pixel_aspect(film) for film in (source, output))
    verdict.figures["sar"] = (str(before), str(after))
    # Matroska stores the displayed size in whole pixels.
    slack = before / 1000 if output.family == "matroska" else Fraction(0)
    is_same_shape = base[0] * output.size[1] == base[1] * output.size[0]
    if is_same_shape and abs(before - after) > slack:
        verdict.fault("sar", f"sample aspect ratio is {after}, source has {before}")
    displayed = [before * base[0] / base[1], after * output.size[0] / output.size[1]]
    # A size that is rounded to whole or even pixels may take the rest into its pixels' shape, or leave it.
    rounding = 0 if is_same_shape else displayed[0] * 2 / min(output.size)
    if abs(displayed[0] - displayed[1]) > rounding + slack * displayed[0]:
        shown = [f"{float(aspect):.4f}" for aspect in displayed]
        verdict.fault("sar", f"is displayed at an aspect of {shown[1]}, source at {shown[0]}")


def pixel_aspect(film: Film) -> Fraction:
    """The sample aspect ratio; unset is 1."""
    text = film.main.get("sample_aspect_ratio") or film.first_frame.get("sample_aspect_ratio") or "N/A"
    if text in UNSET:
        return Fraction(1)
    across, down = map(int, text.split(":"))
    return Fraction(across, down) if across and down else Fraction(1)


def _check_rotation(source: Film, output: Film, verdict: Verdict) -> None:
    before, after = rotation(source), rotation(output)
    verdict.figures["rotation"] = (before, after)
    if before != after:
        verdict.fault("rotation", f"display matrix is {after}, source has {before}")


def rotation(film: Film) -> tuple[int, ...]:
    """The linear part (a, b, c, d) of the display matrix in units of 1/65536; identity where there is none.

    The translation is left out: it is in pixels, and grows with the picture.
    """
    said = _side_data(film, "Display Matrix")
    rows = re.findall(r"\d{8}: +(-?\d+) +(-?\d+)", said[0].get("displaymatrix", "")) if said else []
    if len(rows) < 2:
        return _IDENTITY
    (a, b), (c, d) = rows[:2]
    return int(a), int(b), int(c), int(d)
