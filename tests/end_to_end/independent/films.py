"""The whole check of one film against its source."""

from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.end_to_end.independent.content import check_content
from tests.end_to_end.independent.interlacing import (
    BWDIF,
    Deinterlace,
    Mode,
    as_fields,
    check_deinterlaced,
    mode_of,
)
from tests.end_to_end.independent.pictures import check_picture_facts, color_tags
from tests.end_to_end.independent.probing import Film, Look, UnreadableError, decode, probe, thumbnail_size
from tests.end_to_end.independent.report import Outcome, excuse_told
from tests.end_to_end.independent.streams import check_metadata, check_other_streams
from tests.end_to_end.independent.times import check_frames
from tests.end_to_end.independent.verdict import Fault, Limits, Verdict


def compare(
    source: Film,
    output: Film,
    scale: Fraction | int,
    *,
    expected_color: Mapping[str, str] | None = None,
    expect_missing: Collection[str] = (),
    limits: Limits | None = None,
    outcome: Outcome | None = None,
    mode: Mode = "off",
    verdict: Verdict | None = None,
) -> Verdict:
    """All checks over two films that were read with thumbnails of one size and look; see `check_output`.

    Args:
        mode: How the source was deinterlaced. Its thumbnails are those of the frames that this makes.
        verdict: Gets the faults; a new one by default.
    """
    verdict = verdict or Verdict(source.path, output.path)
    reference = as_fields(source) if mode == "field" else source
    pairing = check_frames(reference, output, outcome, verdict)
    _set_origin(source, reference, pairing.source)
    _set_origin(output, output, pairing.output)
    check_picture_facts(source, output, Fraction(scale), expected_color or {}, verdict)
    check_other_streams(source, output, outcome.dropped_streams if outcome else (), verdict)
    check_metadata(source, output, verdict)
    check_content(reference, output, pairing, limits or Limits(), verdict)
    if mode != "off":
        check_deinterlaced(source, output, mode, verdict)
    if outcome is not None:
        _check_assumed_color(source, output, outcome, verdict)
        excuse_told(source, outcome, verdict)
    _excuse(expect_missing, verdict)
    return verdict


def _set_origin(film: Film, shown: Film, chosen: np.ndarray) -> None:
    """Times the other streams of `film` against its first frame that is paired, where that is a later one."""
    if len(chosen) and chosen[0] and (pts := shown.pts[chosen[0]]) is not None:
        film.origin_s = pts * shown.time_base


def measure(
    source: Path,
    output: Path,
    scale: Fraction | int,
    *,
    expected_color: Mapping[str, str] | None = None,
    expect_missing: Collection[str] = (),
    limits: Limits | None = None,
    outcome: Outcome | None = None,
    deinterlace: Deinterlace = "auto",
) -> Verdict:
    """Reads both and returns faults, notes and figures; see `check_output`."""
    verdict = Verdict(source, output)
    try:
        mine, theirs = probe(source), probe(output)
        mode = mode_of(mine, deinterlace, outcome, verdict)
        is_rgb, has_alpha = _look_of(mine, theirs)
        thumbnail = thumbnail_size(*mine.size)
        decode(mine, thumbnail, Look(is_rgb, has_alpha, BWDIF[mode]))
        decode(theirs, thumbnail, Look(is_rgb, has_alpha))
    except UnreadableError as error:
        return Verdict(source, output, [Fault("unreadable", str(error))])
    return compare(
        mine,
        theirs,
        scale,
        expected_color=expected_color,
        expect_missing=expect_missing,
        limits=limits,
        outcome=outcome,
        mode=mode,
        verdict=verdict,
    )


def _look_of(source: Film, output: Film) -> tuple[bool, bool]:
    """Whether both are compared as RGB, and with their alpha."""
    both = source.pixels, output.pixels
    return any(pixels.is_rgb for pixels in both), all(pixels.has_alpha for pixels in both)


def _check_assumed_color(source: Film, output: Film, outcome: Outcome, verdict: Verdict) -> None:
    before, after = color_tags(source), color_tags(output)
    added = [name for name, value in before.items() if value is None and after[name] is not None]
    # RGB has one matrix and one range, which encoders write unasked.
    added = [name for name in added if not (source.pixels.is_rgb and name in ("matrix", "range"))]
    if added and not outcome.tells("assumed"):
        verdict.fault(
            "told", f"{', '.join(added)} are written, which the source does not set: nothing tells it"
        )


def _excuse(expect_missing: Collection[str], verdict: Verdict) -> None:
    """Turns expected faults into notes; what was said to be missing and is there is a fault: the job lied."""
    found = {fault.key for fault in verdict.faults}
    excused = [fault for fault in verdict.faults if fault.key in expect_missing]
    verdict.faults = [fault for fault in verdict.faults if fault.key not in expect_missing]
    verdict.notes += [f"as expected: {fault.text}" for fault in excused]
    for key in sorted(set(expect_missing) - found):
        verdict.fault(key, f"{key} was expected to be missing or changed, but is not")
