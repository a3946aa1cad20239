"""What the report of a job says of one input, and which faults its words excuse."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.independent.probing import Film
from tests.end_to_end.independent.verdict import Verdict

# A sentence tells of a loss if it speaks of the thing and says that something happened to it.
_LOSS = re.compile(
    r"drop|cannot|not (?:carried|kept|held|written|stored)|left out|lost|loses|without|becom|convert|chang"
    r"|rounded|round|reduced|instead|stored as|written as|fitted|moved|flatten|no longer"
)
_SUBJECTS = {
    "sar": r"pixels' shape|aspect|\bsar\b",
    "pix_fmt": r"\bbits?\b|4:[0-4]:[0-4]|depth|pixel format|\brgb\b|\byuv\b|alpha|chroma|gr[ae]y",
    "alpha": r"alpha|transparen",
    "color": r"colou?r|siting|matrix|primaries|transfer|range",
    "hdr": r"hdr10|mastering|light level",
    "rotation": r"rotat|display matrix",
    "chapters": r"chapter",
    "cover": r"cover",
    "attachment": r"attachment|font",
    "shift": r"shift|clock",
    "icc": r"icc|profile",
    "exif": r"exif|metadata",
    "mode": r"\bbits?\b|depth|palette|gr[ae]y|alpha|cmyk|colou?r",
    "frames": r"animat|page|frame",
    "durations": r"duration|delay|clock",
    "loop": r"loop",
    "format": r"format|container|cannot",
}
_DROPPED = re.compile(r"\bstream (\d+) .*\bdropped\b")


@dataclass(frozen=True)
class Span:
    """Frames that follow each other: half-open, in seconds of the source's clock."""

    start_s: float
    end_s: float
    num_frames: int


@dataclass(frozen=True)
class Outcome:
    """What the report says of one input; see README.md of the project for the states."""

    source: str = ""
    output: str = ""
    state: str = "done"
    reason: str = ""
    told: tuple[str, ...] = ()
    missing: tuple[Span, ...] = ()
    corrupt: tuple[Span, ...] = ()
    num_frames: int = 0

    @property
    def dropped_streams(self) -> frozenset[int]:
        """Indexes of the source's streams that are said to be dropped."""
        found = (_DROPPED.search(text) for text in self.told)
        return frozenset(int(match[1]) for match in found if match)

    def tells(self, pattern: str) -> bool:
        """Whether any sentence matches."""
        return any(re.search(pattern, text, re.IGNORECASE) for text in self.told)


@dataclass(frozen=True)
class Report:
    """The report of a job."""

    outcomes: tuple[Outcome, ...]
    ignored: tuple[str, ...] = ()
    stopped: str = ""

    def of_output(self, name: str) -> Outcome | None:
        """The outcome that belongs to an output."""
        return next((outcome for outcome in self.outcomes if outcome.output == name), None)


def read_report(path: Path) -> Report:
    """The report that a job wrote; fields that are not known here are passed over."""
    found = json.loads(path.read_text())
    outcomes = tuple(_outcome(entry) for entry in found["outcomes"])
    return Report(outcomes, tuple(found.get("ignored", ())), found.get("stopped", ""))


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    return Outcome(
        source=entry["source"],
        output=entry["output"],
        state=entry["state"],
        reason=entry.get("reason", ""),
        told=tuple(entry.get("told", ())),
        missing=_spans(entry.get("missing", ())),
        corrupt=_spans(entry.get("corrupt", ())),
        num_frames=entry.get("num_frames", 0),
    )


def _spans(entries: Iterable[Mapping[str, Any]]) -> tuple[Span, ...]:
    return tuple(Span(float(e["start_s"]), float(e["end_s"]), int(e["num_frames"])) for e in entries)


def excuse_told(source: Film | None, outcome: Outcome, verdict: Verdict) -> None:
    """Turns faults that the report tells of into notes."""
    faults, verdict.faults = verdict.faults, []
    for fault in faults:
        if text := _telling(fault.key, source, outcome):
            verdict.notes.append(f"told ({text}): {fault.key}: {fault.text}")
        else:
            verdict.faults.append(fault)


def _telling(key: str, source: Film | None, outcome: Outcome) -> str:
    kind, _, rest = key.partition(":")
    patterns = [_SUBJECTS[kind]] if kind in _SUBJECTS else []
    if kind == "metadata":
        patterns = [rf"\b{re.escape(rest)}\b", r"metadata|tags"]
    index = _index_of_stream(source, key) if source else None
    if index is not None:
        patterns.append(rf"\bstream {index}\b")
    for text in outcome.told:
        is_assumption = "does not set" in text  # tells of tags that are added, excuses none that change
        if not is_assumption and _LOSS.search(text) and any(re.search(p, text, re.I) for p in patterns):
            return text
    return ""


def _index_of_stream(source: Film, key: str) -> int | None:
    kind, _, number = key.partition(":")
    listed = source.others.get(kind, [])
    return int(listed[int(number)]["index"]) if number.isdigit() and int(number) < len(listed) else None
