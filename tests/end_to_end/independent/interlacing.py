"""Interlaced films: what the output must show instead of the woven fields, and that no combs are left.

The reference is the source as ffmpeg's own bwdif deinterlaces it.
"""

import re
from dataclasses import replace
from itertools import islice
from typing import Literal

import numpy as np

from tests.end_to_end.independent.probing import Film, grey_frames
from tests.end_to_end.independent.report import Outcome
from tests.end_to_end.independent.verdict import Verdict

Deinterlace = Literal["auto", "frame", "field", "off"]
Mode = Literal["flagged", "frame", "field", "off"]

BWDIF = {
    "off": "",
    "flagged": "bwdif=mode=send_frame:parity=auto:deint=interlaced",
    "frame": "bwdif=mode=send_frame:parity=auto:deint=all",
    "field": "bwdif=mode=send_field:parity=auto:deint=all",
}
_ENLARGED = "scale=2*iw:2*ih:flags=bicubic"  # what is enlarged and shrunk again has weaker combs
_COMB_WIDTH_PX = 360
_LEAST_COMB = 0.1  # code values, over what the deinterlaced frame has: below it there is nothing to see
_MAX_COMB_FRAMES = 3000


def mode_of(source: Film, asked: Deinterlace, outcome: Outcome | None, verdict: Verdict) -> Mode:
    """How the source's fields became frames: by what the report tells, else by what was asked for."""
    wanted: Mode = asked if asked != "auto" else "flagged" if source.is_interlaced else "off"
    told = _told_mode(outcome)
    if outcome is None or outcome.state == "skipped":
        return wanted
    if told is None:
        if source.is_interlaced:
            verdict.fault(
                "told", "the source is interlaced, and the report does not say what was done with it"
            )
        return wanted
    is_repaired = told == "frame" and wanted == "field" and outcome.tells(r"timestamps?\b.*repaired")
    if asked != "auto" and told != wanted and not is_repaired:
        verdict.fault("told", f"deinterlacing {asked} was asked for, and {told} is told")
    return told


def _told_mode(outcome: Outcome | None) -> Mode | None:
    for text in outcome.told if outcome else ():
        if re.search(r"frame of each field|twice the frame rate", text):
            return "field"
        if re.search(r"one frame of each frame that|frames? that sa(?:y|id)s? so", text):
            return "flagged"
        if re.search(r"one frame of each frame", text):
            return "frame"
        if re.search(r"woven", text):
            return "off"
    return None


def as_fields(film: Film) -> Film:
    """The film with two frames of each: at its own time, and in the middle to the next (the last: as before).

    The thumbnails must be those of the fields already.
    """
    known = [pts if pts is not None else 0 for pts in film.pts]
    gaps = np.diff(known).tolist() if len(known) > 1 else [2]
    # In a clock of half the tick, the middle is the sum of both neighbours.
    pairs = [(2 * pts, 2 * pts + gap) for pts, gap in zip(known, [*gaps, gaps[-1]], strict=True)]
    shown = [shown for shown in film.shown for _ in range(2)]
    times: list[int | None] = [pts for pair in pairs for pts in pair]
    return replace(film, pts=times, shown=shown, time_base=film.time_base / 2)


def check_deinterlaced(source: Film, output: Film, mode: Mode, verdict: Verdict) -> None:
    """The output is progressive, and where the woven source has combs, the output has as good as none.

    Args:
        source: With the facts of its own frames, not yet of fields.
        output: As it is.
        mode: Not `off`.
        verdict: Gets the faults.
    """
    flagged = [n for n, shown in enumerate(output.shown) if shown.scan != "P"]
    verdict.fault_each("interlaced", [f"output frame {n} is still flagged as interlaced" for n in flagged])
    rate = 2 if mode == "field" else 1
    if len(output.shown) != rate * len(source.shown):
        verdict.notes.append("combs are not looked for where frames are missing")
        return
    size = min(source.size[0], _COMB_WIDTH_PX), source.size[1]
    woven = np.repeat(combs(source, _ENLARGED, size), rate)
    clean = combs(source, f"{BWDIF[mode]},{_ENLARGED}", size, rate)
    made = combs(output, "", size, rate)
    count = min(len(woven), len(clean), len(made))
    woven, clean, made = woven[:count], clean[:count], made[:count]
    is_combed = woven > 1.5 * clean + _LEAST_COMB
    verdict.figures["combed"] = int(is_combed.sum())
    if not is_combed.any():
        verdict.notes.append("no frame of the source shows combs")
        return
    share = (made - clean)[is_combed] / (woven - clean)[is_combed]
    verdict.figures["combs left"] = round(float(share.max()), 3)
    bad = np.flatnonzero(is_combed)[share > 0.5]
    verdict.fault_each(
        "combs", [f"frame {n} is still combed: {made[n]:.2f}, woven {woven[n]:.2f}" for n in bad]
    )


def combs(film: Film, chain: str, size: tuple[int, int], rate: int = 1) -> np.ndarray:
    """How combed each of the first frames is, in code values: how far rows stand out from both neighbours.

    Pictures have the source's height, so that one row is one field's; only one is in memory at a time.
    """
    frames = islice(grey_frames(film, chain, size), rate * _MAX_COMB_FRAMES)
    return np.array([_comb(frame.astype(np.float32)) for frame in frames], np.float32)


def _comb(frame: np.ndarray) -> float:
    to_above, to_below = frame[1:-1] - frame[:-2], frame[1:-1] - frame[2:]
    return float(np.sqrt(np.clip(to_above * to_below, 0, None)).mean()) if len(frame) > 2 else 0.0
