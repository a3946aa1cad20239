"""What must hold of a job whatever happened to it. What does not is a finding."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.footage import frame_times, is_video
from tests.chaos.jobs import Run
from tests.chaos.places import Glance, Place, glance
from tests.chaos.scene import Scene

# Matroska's clock, and what is left of a sum of floats.
_CLOCK_S = 0.0015
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Finding:
    """Something that must not be."""

    what: str
    detail: str = ""


@dataclass
class Truth:
    """The outputs of an undisturbed run.

    Attributes:
        sha256s: Of every output, by name.
        frame_times: Of every video's source, in seconds, by the name of its output.
    """

    sha256s: dict[str, str]
    frame_times: dict[str, list[float]]

    @classmethod
    def of(cls, place: Place, sources: Path) -> Truth:
        """What stands in `place`."""
        sha256s = {name: _sha256(place.read(name)) for name in glance(place).outputs}
        stems = {path.relative_to(sources).with_suffix("").as_posix(): path for path in sources.rglob("*.*")}
        times = {
            name: frame_times(stems[Path(name).with_suffix("").as_posix()])
            for name in sha256s
            if is_video(name)
        }
        return cls(sha256s, times)

    def compare(self, place: Place, *, is_done: bool) -> list[Finding]:
        """What is wrong with the outputs of `place`, all of which must be there if the job is done."""
        there = {name: _sha256(place.read(name)) for name in glance(place).outputs}
        expected = self.sha256s if is_done else {name: self.sha256s.get(name, "none") for name in there}
        return [
            Finding("an output's bytes are wrong" if name in there else "an output is missing", name)
            for name in sorted({*expected, *there})
            if there.get(name) != expected.get(name)
        ]

    def count_frames(self, place: Place) -> list[Finding]:
        """Frames of the videos of `place` that are lost, doubled or late, by ffprobe."""
        return [
            Finding("frames are lost, doubled or late", name)
            for name, times in self.frame_times.items()
            if not _are_equal(times, _times_of(place.read(name), Path(name).suffix))
        ]


@dataclass
class Ledger:
    """What was committed, watched from look to look.

    Attributes:
        num_computed_twice: Segments that were stored again, though nobody had spoiled them.
        findings: Segments that were computed again in a later run than the one that committed them.
    """

    num_computed_twice: int = 0
    findings: list[Finding] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)
    _settled: dict[str, str] = field(default_factory=dict)

    def begin_run(self) -> None:
        """From now on what is known must stay."""
        self._settled = dict(self._known)

    def note(self, scene: Scene) -> None:
        """Compares with what was there before."""
        for key, version in scene.seen.receipts.items():
            is_new = self._known.get(key, version) != version
            if is_new and key not in scene.destroyed:
                self.num_computed_twice += 1
                if key in self._settled and not scene.may_write_twice:
                    self.findings.append(Finding("a committed segment was computed again", key))
            self._known[key] = version
        for key in self._known.keys() - scene.seen.receipts.keys() - scene.destroyed:
            self.findings.append(Finding("a receipt is gone", key))
            del self._known[key]


def said_in_log(run: Run) -> list[Finding]:
    """Tracebacks in what a driver printed."""
    text = run.log.read_text(errors="replace")
    return [Finding("a traceback", f"{run.log}: {_last_line(text)}")] if _TRACEBACK in text else []


def said_by_workers(ray_folder: Path) -> list[Finding]:
    """Tracebacks in what workers printed."""
    logs = [
        *ray_folder.glob("session_2*/logs/worker-*.err"),
        *ray_folder.glob("session_2*/logs/worker-*.out"),
    ]
    texts = {log: log.read_text(errors="replace") for log in logs}
    return [
        Finding("a worker's traceback", f"{log}: {_last_line(t)}")
        for log, t in texts.items()
        if _TRACEBACK in t
    ]


def changed(before: Glance, after: Glance) -> list[Finding]:
    """What a run wrote that had nothing to do."""
    names = {
        *(name for name, version in before.outputs.items() if after.outputs.get(name) != version),
        *(key for key, version in before.receipts.items() if after.receipts.get(key) != version),
    }
    return [Finding("a run that had nothing to do changed something", name) for name in sorted(names)]


def _last_line(text: str) -> str:
    after = text.partition(_TRACEBACK)[2].strip().splitlines()
    outside = [line for line in after if not line.startswith(" ")]
    return outside[0] if outside else ""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _times_of(content: bytes, suffix: str) -> list[float]:
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        return frame_times(Path(file.name))


def _are_equal(one: list[float], other: list[float]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(abs(a - b) <= _CLOCK_S for a, b in pairs)
