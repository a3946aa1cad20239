"""`framelift conformance`: every kind of footage, made here, upscaled, and compared with what must come."""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter
from rich.table import Table
from rich.text import Text

from cluster.images import corpus as images
from cluster.images.corpus import ImageCase
from cluster.job import VideoSettings
from cluster.report import EXIT_DONE, EXIT_INPUTS, EXIT_STOPPED, FileOutcome, JobReport
from cluster.video.corpus import cases as videos
from cluster.video.corpus.case import Case
from cluster.video.corpus.judging import video_faults
from jobs.spec import UpscaleSpec
from jobs.upscale import upscale
from jobs.view import console, printable
from sr_core.errors import FrameliftError, SpecError, StorageError

_SCALE = 2
_CORPUS, _OUTPUT = "corpus", "upscaled"

AnyCase = Case | ImageCase


@dataclass(frozen=True)
class Verdict:
    """How one case went.

    Attributes:
        expected: In a few words, as is what came.
        faults: What differs; empty where all holds.
    """

    case: str
    shows: str
    expected: str
    got: str
    faults: tuple[str, ...]


def conformance(
    folder: Path | None, only: Sequence[str] = (), *, keep: bool | None = None, as_json: bool = False
) -> int:
    """Makes the corpus, upscales it on this machine, and prints what differs from what must come of it.

    Args:
        folder: Gets the files in `corpus` and the outputs in `upscaled`; None is a temporary one.
        only: Names of cases, with or without their suffix; all where there are none.
        keep: Whether the files stay; None keeps them in a folder that was named.
        as_json: Prints JSON in place of a table.

    Returns:
        The exit code: 0 where all holds, else 3; 4 where the job was stopped.

    Raises:
        SpecError: A name is unknown, or the folder is in use.
        FrameliftError: Nothing ran.
    """
    chosen = _chosen(only)
    with _workplace(folder, keep) as place:
        make_corpus(place / _CORPUS, chosen)
        verdicts = _verdicts(chosen, _upscaled(place), place / _OUTPUT)
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        _show(verdicts)
    return EXIT_INPUTS if any(verdict.faults for verdict in verdicts) else EXIT_DONE


def all_cases() -> tuple[AnyCase, ...]:
    """Videos, then images."""
    return (*videos.CASES, *images.CASES)


def make_corpus(folder: Path, cases: Sequence[AnyCase] | None = None) -> None:
    """Writes the files of `cases`, by default of all, into `folder`, which is made.

    Raises:
        StorageError: They cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for case in all_cases() if cases is None else cases:
            case.make(folder / case.name)
    except OSError as error:
        raise StorageError("the corpus cannot be written", where=str(folder), got=str(error)) from error


def _chosen(only: Sequence[str]) -> tuple[AnyCase, ...]:
    cases = all_cases()
    names = {name: case for case in cases for name in (case.name, Path(case.name).stem)}
    for name in only:
        if name not in names:
            raise SpecError(
                "there is no such case",
                where="--only",
                got=name,
                expected=", ".join(difflib.get_close_matches(name, names, cutoff=0.4))
                or "a file of the corpus",
            )
    wanted = {names[name].name for name in only}
    return tuple(case for case in cases if not only or case.name in wanted)


@contextlib.contextmanager
def _workplace(folder: Path | None, keep: bool | None) -> Iterator[Path]:
    """A folder for files and outputs, which are removed in the end, unless they are to be kept."""
    is_kept = folder is not None if keep is None else keep
    place = folder or Path(tempfile.mkdtemp(prefix="framelift-conformance-"))
    made = [place / _CORPUS, place / _OUTPUT]
    for path in made:
        _refuse_existing(path)
    try:
        yield place
    finally:
        if is_kept:
            print(f"corpus and outputs are in {place}", file=sys.stderr)
        else:
            for path in made if folder else [place]:
                shutil.rmtree(path, ignore_errors=True)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise SpecError(
            "this folder is there already",
            where=str(path),
            expected="a place where corpus and outputs can be made",
            next_step="remove it, or name another folder",
        )


def _upscaled(place: Path) -> JobReport:
    """The report of a job over the corpus, on a Ray of this machine alone."""
    os.environ.pop("RAY_ADDRESS", None)  # a cluster would not see the files
    spec = UpscaleSpec(
        input=str(place / _CORPUS),
        output=str(place / _OUTPUT),
        model="lanczos",
        scale=_SCALE,
        video=VideoSettings(preset="ultrafast"),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # its summary tells of every file what is meant here
        code = upscale(spec)
    report = TypeAdapter(JobReport).validate_json((place / _OUTPUT / "report.json").read_bytes())
    if code == EXIT_STOPPED:
        raise StorageError("the job was stopped", got=report.stopped)
    return report


def _verdicts(cases: Sequence[AnyCase], report: JobReport, output: Path) -> list[Verdict]:
    outcomes = {outcome.source: outcome for outcome in report.outcomes}
    return [_verdict(case, outcomes.get(case.name), output) for case in cases]


def _verdict(case: AnyCase, outcome: FileOutcome | None, output: Path) -> Verdict:
    if outcome is None:
        faults, got = ["it was not looked at, as by its name it is nothing that is read"], "ignored"
    else:
        faults, got = _faults(case, outcome, output / outcome.output), _got(outcome)
    return Verdict(case.name, case.shows, _wanted(case), got, tuple(faults))


def _faults(case: AnyCase, outcome: FileOutcome, output: Path) -> list[str]:
    try:
        if isinstance(case, ImageCase):
            return images.image_faults(case.expected, outcome, output, _SCALE)
        return video_faults(case.expected, outcome, output, _SCALE)
    except FrameliftError as error:
        return [f"its output cannot be read back: {error}"]


def _wanted(case: AnyCase) -> str:
    expected = case.expected
    if expected.state == "failed":
        return "failed"
    if expected.state == "damaged" and isinstance(case, Case):
        return f"damaged, {case.expected.least_frames} frames or more"
    return f"{expected.state}, {_frames(expected.num_frames)}"


def _got(outcome: FileOutcome) -> str:
    return outcome.state if outcome.state == "failed" else f"{outcome.state}, {_frames(outcome.num_frames)}"


def _frames(number: int | None) -> str:
    return "any frames" if number is None else "1 frame" if number == 1 else f"{number} frames"


def _show(verdicts: Sequence[Verdict]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("case", "expected", "got", "result"):
        table.add_column(name, overflow="fold")
    for verdict in verdicts:
        result = Text("FAILED", style="red") if verdict.faults else Text("ok", style="green")
        if verdict.faults:
            result.append(f" {printable('; '.join(verdict.faults))}", style="default")
        table.add_row(Text(verdict.case), Text(verdict.expected), Text(verdict.got), result)
    to = console()
    to.print(table)
    num_bad = sum(bool(verdict.faults) for verdict in verdicts)
    to.print(Text(f"{len(verdicts) - num_bad} of {len(verdicts)} cases hold"))
