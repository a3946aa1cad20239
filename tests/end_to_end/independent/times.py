"""How many frames, at which times, and which frames of the source are in the output at all.

The result is a `Pairing`: which frame of the output shows which of the source.
"""

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import NamedTuple

import numpy as np

from tests.end_to_end.independent.probing import Film
from tests.end_to_end.independent.report import Outcome, Span
from tests.end_to_end.independent.streams import ms
from tests.end_to_end.independent.verdict import Verdict

_HAS_HIDDEN_PACKETS = ("vp8",)  # its alternate reference frames are packets that are not displayed
_MAY_PACK_FRAMES = ("mpeg4", "msmpeg4v3", "vp8")  # a packet may hold two frames, or one that is not displayed
_SPAN_SLACK_S = 1e-4
_LOST_TAIL_FRAMES = 2


class Pairing(NamedTuple):
    """Numbers of frames that belong together, ascending, and those of them that may be compared.

    After damage a picture is what a decoder makes of it until the next keyframe; such pairs are not `alike`.
    """

    source: np.ndarray
    output: np.ndarray
    comparable: np.ndarray


def rescale(pts: int, clock: Fraction, to_clock: Fraction) -> int:
    """`pts` in another clock, halves away from zero, as the muxers round."""
    exact = pts * clock / to_clock
    nearest = floor(abs(exact) + Fraction(1, 2))
    return nearest if exact >= 0 else -nearest


def check_frames(source: Film, output: Film, outcome: Outcome | None, verdict: Verdict) -> Pairing:
    """As many frames as in the source, each at its own time; all packets of the output can be displayed.

    Where the report tells of damage, or the source has some, frames are paired by their times, and what is
    missing must be told; where it tells of repaired timestamps, by their numbers.
    """
    counted = len(source.pts), len(output.pts)
    verdict.figures["frames"] = counted
    if not counted[0]:
        verdict.fault("source", "ffmpeg decodes no frame of the source")
    _check_output_stream(output, verdict)
    if source.errors:
        verdict.notes.append(f"source does not decode cleanly: {source.errors[0]}")
    if outcome is not None and outcome.num_frames not in (0, counted[1]):
        verdict.fault("report", f"the report counts {outcome.num_frames} frames, the output has {counted[1]}")
    is_repaired = outcome is not None and outcome.tells(r"timestamps?\b.*repaired")
    if outcome is not None and not is_repaired and (is_damaged(source) or _says_damaged(outcome)):
        return _check_damaged(source, output, outcome, verdict)
    if counted[0] != counted[1]:
        verdict.fault("frames", f"source shows {counted[0]} frames, output {counted[1]}")
    if is_repaired:
        verdict.notes.append("the source's timestamps are repaired: its frames are paired by number")
    else:
        _check_times(source, output, verdict)
    if outcome is not None and not is_repaired and not _can_be_kept(source):
        verdict.fault("told", "the source has missing or repeated timestamps, which nothing tells")
    numbers = np.arange(min(counted))
    return Pairing(numbers, numbers, np.ones(len(numbers), bool))


def _check_output_stream(output: Film, verdict: Verdict) -> None:
    stored, num_shown = len(output.packets.get(output.main["index"], [])), len(output.pts)
    if stored != num_shown and output.main["codec_name"] not in _HAS_HIDDEN_PACKETS:
        verdict.fault("packets", f"output stores {stored} video packets but shows {num_shown} frames")
    if output.errors or any(shown.is_corrupt for shown in output.shown):
        what = output.errors[0] if output.errors else "a frame is corrupt"
        verdict.fault("decode", f"output does not decode cleanly: {what}")
    known = [pts for pts in output.pts if pts is not None]
    falling = [n for n, (a, b) in enumerate(pairwise(known)) if b <= a]
    verdict.fault_each("pts", [f"output frame {n + 1} is not later than the one before" for n in falling])
    if None in output.pts:
        verdict.fault("pts", f"output frame {output.pts.index(None)} has no pts")


def _can_be_kept(source: Film) -> bool:
    known = [pts for pts in source.pts if pts is not None]
    return len(set(known)) == len(source.pts) and known == sorted(known)


def _check_times(source: Film, output: Film, verdict: Verdict) -> None:
    if None in output.pts:
        return
    if None in source.pts:
        verdict.notes.append("source has frames without pts: times are not compared")
        return
    actual = [pts for pts in output.pts if pts is not None]
    wanted = [rescale(pts, source.time_base, output.time_base) for pts in source.pts if pts is not None]
    if len(actual) != len(wanted):
        _name_missing_times(wanted, actual, output.time_base, verdict)
    elif actual:
        _compare_times(wanted, actual, source, output, verdict)


def _compare_times(
    wanted: list[int], actual: list[int], source: Film, output: Film, verdict: Verdict
) -> None:
    """Tells a film that is shifted as a whole (another container may do that) from single frames that are."""
    errors = [got - want for got, want in zip(actual, wanted, strict=True)]
    usual, times = Counter(errors).most_common(1)[0]
    shift = usual if 2 * times > len(errors) else 0
    is_other_container = source.family != output.family
    if shift:
        text = f"the whole film is shifted by {ms(shift * output.time_base):+.3f} ms ({shift} ticks)"
        verdict.notes.append(text) if is_other_container else verdict.fault("shift", text)
    exact_s = [pts * source.time_base for pts in source.pts if pts is not None]
    off_s = [abs(got * output.time_base - want) for got, want in zip(actual, exact_s, strict=True)]
    verdict.figures["shift_ms"] = round(ms(shift * output.time_base), 4)
    verdict.figures["max_pts_error_ticks"] = max(map(abs, errors))
    verdict.figures["max_pts_error_ms"] = round(ms(max(off_s)), 4)
    # A shift between two clocks is rounded for each frame.
    slack_ticks = 1 if shift and is_other_container else 0
    verdict.fault_each(
        "pts",
        [
            f"frame {n} is at {actual[n]}, expected {wanted[n] + shift} (x {output.time_base} s)"
            for n, error in enumerate(errors)
            if abs(error - shift) > slack_ticks
        ],
    )


def _name_missing_times(wanted: list[int], actual: list[int], clock: Fraction, verdict: Verdict) -> None:
    missing = sorted((Counter(wanted) - Counter(actual)).elements())
    extra = sorted((Counter(actual) - Counter(wanted)).elements())
    verdict.fault_each("pts", [f"no frame at pts {pts} ({float(pts * clock):.4f} s)" for pts in missing])
    verdict.fault_each("pts", [f"frame too many at pts {pts} ({float(pts * clock):.4f} s)" for pts in extra])


# Damage


def is_damaged(source: Film) -> bool:
    """Whether ffmpeg finds damage: corrupt frames, packets without one, or fewer than the file promises."""
    if any(shown.is_corrupt for shown in source.shown) or _is_cut(source):
        return True
    if source.main["codec_name"] in _MAY_PACK_FRAMES or not source.errors:
        return False
    return bool(_undecoded(source))


def _is_cut(source: Film) -> bool:
    if source.family == "avi":  # whose count is of ticks too at which no new frame is shown
        return False
    promised = int(source.main.get("nb_frames", 0))
    return promised > len(source.packets.get(source.main["index"], []))


def _undecoded(source: Film) -> set[int]:
    """The pts of packets that give no frame. Of two fields in packets of their own, one gives the frame."""
    decoded = {pts for pts in source.pts if pts is not None}
    told = {packet["pts"] for packet in source.main_packets() if "pts" in packet}
    if any(shown.scan != "P" for shown in source.shown):
        ordered = sorted(decoded | told)
        gap = float(np.median(np.diff(sorted(decoded)))) if len(decoded) > 1 else 0.0
        told -= {b for a, b in pairwise(ordered) if b - a < 0.75 * gap}
    return told - decoded


def _says_damaged(outcome: Outcome) -> bool:
    return outcome.state == "damaged" or bool(outcome.missing)


def _check_damaged(source: Film, output: Film, outcome: Outcome, verdict: Verdict) -> Pairing:
    """Every frame that decodes is in the output, every other one is told, and nothing else is."""
    undecoded = _undecoded(source)
    at = {rescale(pts, source.time_base, output.time_base): pts for pts in undecoded}
    sound = dict[int, int]()
    for n, pts in enumerate(source.pts):
        if pts is not None:
            at[rescale(pts, source.time_base, output.time_base)] = pts
            sound[rescale(pts, source.time_base, output.time_base)] = n
    there = {pts: n for n, pts in enumerate(output.pts) if pts is not None}
    lost = [p for p, n in sound.items() if p not in there and not source.shown[n].is_corrupt]
    verdict.fault_each("frames", [f"the frame at {_at(p, output)} decodes, but is lost" for p in lost])
    extra = sorted(there.keys() - at.keys())
    verdict.fault_each("frames", [f"the frame at {_at(p, output)} is not in the source" for p in extra])
    absent = sorted(float(at[p] * source.time_base) for p in at.keys() - there.keys())
    _check_spans(absent, _within_file(source, outcome.missing, verdict), verdict)
    _check_state(source, absent, outcome, verdict)
    common = sorted(sound.keys() & there.keys())
    numbers = np.array([sound[p] for p in common], int)
    comparable = _untouched(source, undecoded)[numbers] if common else np.empty(0, bool)
    return Pairing(numbers, np.array([there[p] for p in common], int), comparable)


def _at(pts: int, film: Film) -> str:
    return f"{float(pts * film.time_base):.4f} s"


def _within_file(source: Film, spans: tuple[Span, ...], verdict: Verdict) -> tuple[Span, ...]:
    """The spans that lie before the source's end; those behind it must be what the container promises."""
    end_s = max((pts for pts in source.pts if pts is not None), default=0) * source.time_base
    behind = [span for span in spans if span.start_s > end_s]
    told = sum(span.num_frames for span in behind)
    promised = int(source.main.get("nb_frames", 0)) - len(source.packets.get(source.main["index"], []))
    is_counted = source.family in ("mp4", "avi") and promised > 0
    is_exact = told == promised or (source.family == "avi" and told < promised)
    if behind and not (is_exact if is_counted else _ends_early(source)):
        text = f"{told} frames are told missing behind the end, the container promises {max(0, promised)}"
        verdict.fault("missing", text)
    return tuple(span for span in spans if span not in behind)


def _check_spans(absent: list[float], spans: tuple[Span, ...], verdict: Verdict) -> None:
    counts = [0] * len(spans)
    untold = []
    for time_s in absent:
        inside = [
            n
            for n, span in enumerate(spans)
            if span.start_s - _SPAN_SLACK_S <= time_s < span.end_s - _SPAN_SLACK_S
        ]
        if inside:
            counts[inside[0]] += 1
        else:
            untold.append(f"the frame at {time_s:.4f} s is missing, which is not told")
    verdict.fault_each("missing", untold)
    for span, count in zip(spans, counts, strict=True):
        if count != span.num_frames:
            where = f"{span.start_s:.4f} to {span.end_s:.4f} s"
            verdict.fault("missing", f"{span.num_frames} frames are told missing from {where}, {count} are")


def _check_state(source: Film, absent: list[float], outcome: Outcome, verdict: Verdict) -> None:
    is_bad = bool(absent) or is_damaged(source)
    if is_bad and outcome.state == "done":
        verdict.fault("state", "the source is damaged, but the report calls it done")
    if not is_bad and outcome.state == "damaged":
        # Demuxers complain of damage that no frame shows, as of a cut that falls between two packets.
        is_suspect = bool(source.errors) or _ends_early(source)
        text = "nothing of the source is damaged, but the report calls it so"
        verdict.notes.append(text) if is_suspect else verdict.fault("state", text)


def _ends_early(source: Film) -> bool:
    """Whether the container says that the film lasts longer than its frames do."""
    known = [pts for pts in source.pts if pts is not None]
    if len(known) < 2 or "duration" not in source.format:
        return False
    start_s = Fraction(source.format.get("start_time", "0"))
    last_s, gap_s = known[-1] * source.time_base, (known[-1] - known[-2]) * source.time_base
    return start_s + Fraction(source.format["duration"]) > last_s + (1 + _LOST_TAIL_FRAMES) * gap_s


def _untouched(source: Film, undecoded: set[int]) -> np.ndarray:
    """Frames with no damage since their keyframe."""
    harmed, is_harmed = [], False
    waiting = sorted(undecoded)
    for pts, shown in zip(source.pts, source.shown, strict=True):
        is_harmed = is_harmed and not shown.is_key
        while pts is not None and waiting and waiting[0] < pts:
            waiting.pop(0)
            is_harmed = is_harmed or not shown.is_key
        is_harmed = is_harmed or shown.is_corrupt
        harmed.append(is_harmed)
    # What is damaged in the order of coding comes after frames that are shown later.
    return ~np.array(harmed, bool)
