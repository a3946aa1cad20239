"""A whole folder against its outputs: which belongs to which input, and what the report says of each."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.end_to_end.independent.report import Outcome, Report
from tests.end_to_end.independent.stills import STILL_SUFFIXES, is_still
from tests.end_to_end.independent.verdict import Verdict

FILM_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"),
    *(".avi", ".flv"),
)
OF_THE_JOB = (".framelift", "report.json")
_WITH_OUTPUT = ("done", "skipped", "damaged")


def pair_files(source: Path, output: Path) -> tuple[list[tuple[Path, Path | None]], list[Path]]:
    """Each film and image of `source` with its output, None if there is none, and outputs without source."""
    if source.is_file():
        made = output / source.name if output.is_dir() else output
        return [(source, made if made.is_file() else None)], []
    found: dict[str, list[Path]] = {}
    for path in _media(output):
        found.setdefault(str(path.relative_to(output).with_suffix("")), []).append(path)
    wanted = _media(source)
    # Sources may differ in their suffix alone: whose output has the same suffix chooses first.
    wanted.sort(key=lambda path: not (output / path.relative_to(source)).is_file())
    pairs: list[tuple[Path, Path | None]] = []
    for path in wanted:
        same_kind = found.get(str(path.relative_to(source).with_suffix("")), [])
        candidates = [made for made in same_kind if is_still(made) == is_still(path)]
        best = next((c for c in candidates if c.suffix == path.suffix), next(iter(candidates), None))
        if best:
            same_kind.remove(best)
        pairs.append((path, best))
    return sorted(pairs), [path for rest in found.values() for path in rest]


def pair_by_report(source: Path, output: Path, report: Report) -> list[tuple[Path, Path | None, Outcome]]:
    """Each input of the report with its output, where it must have one, and its outcome."""
    root, made = (source.parent if source.is_file() else source), output if output.is_dir() else output.parent
    pairs = []
    for outcome in report.outcomes:
        path = made / outcome.output
        must_have = outcome.state in _WITH_OUTPUT
        pairs.append((root / outcome.source, path if must_have and path.is_file() else None, outcome))
    return pairs


def _media(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.suffix.lower() in (*FILM_SUFFIXES, *STILL_SUFFIXES)]


def _visible(folder: Path) -> list[Path]:
    """All files without those whose name, or whose folder's name, starts with a dot."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def check_report(source: Path, output: Path, report: Report, exit_code: int | None) -> Verdict:
    """Every input has one outcome, every output belongs to one, and states, reasons and exit code agree."""
    verdict = Verdict(source, output)
    if source.is_dir() and not report.stopped:
        _check_inputs(source, report, verdict)
    for outcome in report.outcomes:
        _check_outcome(outcome, verdict)
    folder = output if output.is_dir() else output.parent
    if source.is_dir():
        _check_outputs(folder, report, verdict)
    if exit_code is not None and exit_code != (wanted := _exit_code(report)):
        verdict.fault("exit code", f"was {exit_code}, and the report's states make it {wanted}")
    return verdict


def _check_inputs(source: Path, report: Report, verdict: Verdict) -> None:
    counts = Counter(outcome.source for outcome in report.outcomes)
    counts.update(report.ignored)
    inputs = {path.relative_to(source).as_posix(): path for path in _visible(source)}
    verdict.fault_each("inputs", [f"{name} has no outcome" for name in sorted(inputs.keys() - counts.keys())])
    verdict.fault_each(
        "inputs", [f"{name} has {count} outcomes" for name, count in counts.items() if count > 1]
    )
    verdict.fault_each("inputs", [f"{name} is no input" for name in sorted(counts.keys() - inputs.keys())])
    known = (*FILM_SUFFIXES, *STILL_SUFFIXES)
    verdict.fault_each(
        "inputs", [f"{name} is ignored" for name in report.ignored if Path(name).suffix.lower() in known]
    )


def _check_outcome(outcome: Outcome, verdict: Verdict) -> None:
    name, state = outcome.source, outcome.state
    if state not in (*_WITH_OUTPUT, "failed"):
        verdict.fault("state", f"{name} is {state!r}, which is no state")
    if state in ("failed", "damaged") and not (outcome.reason or outcome.missing or outcome.corrupt):
        verdict.fault("state", f"{name} is {state} for no reason")
    if state == "done" and (outcome.missing or outcome.corrupt):
        verdict.fault("state", f"{name} is done, although frames are missing or corrupt")
    if _is_moved(outcome):
        verdict.fault("outputs", f"{name} became {outcome.output}")


def _check_outputs(folder: Path, report: Report, verdict: Verdict) -> None:
    owners = Counter(outcome.output for outcome in report.outcomes)
    verdict.fault_each("outputs", [f"{name} belongs to {n} inputs" for name, n in owners.items() if n > 1])
    there = {path.relative_to(folder).as_posix() for path in _all_files(folder)}
    made = {outcome.output for outcome in report.outcomes if outcome.state in _WITH_OUTPUT}
    verdict.fault_each("outputs", [f"{name} is not there" for name in sorted(made - there)])
    verdict.fault_each("outputs", [f"{name} belongs to no input" for name in sorted(there - owners.keys())])
    failed = {outcome.output for outcome in report.outcomes if outcome.state == "failed"}
    verdict.fault_each(
        "outputs", [f"{name} is there, though it failed" for name in sorted(failed & there - made)]
    )


def _is_moved(outcome: Outcome) -> bool:
    """Whether the output does not lie where the source does, under its name; a film may change its suffix."""
    before, after = Path(outcome.source), Path(outcome.output)
    if is_still(before):
        return before != after
    return before.with_suffix("") != after.with_suffix("")


def _all_files(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] not in OF_THE_JOB and not path.is_dir():
            yield path


def _exit_code(report: Report) -> int:
    if report.stopped:
        return 4
    return 3 if any(outcome.state in ("failed", "damaged") for outcome in report.outcomes) else 0
