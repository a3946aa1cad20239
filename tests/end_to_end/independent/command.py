"""The command, its table, and `check_output` for tests."""

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from tests.end_to_end.independent.films import measure
from tests.end_to_end.independent.folders import check_report, pair_by_report, pair_files
from tests.end_to_end.independent.interlacing import Deinterlace
from tests.end_to_end.independent.probing import have_ffmpeg
from tests.end_to_end.independent.report import Outcome, Report, read_report
from tests.end_to_end.independent.stills import is_still, measure_still
from tests.end_to_end.independent.verdict import Fault, Limits, Verdict

COLUMNS = {
    "file": 36,
    "frames": 9,
    "pts error": 15,
    "packets": 20,
    "a/v ms": 7,
    "size": 20,
    "tags out, or mode": 31,
    "margin worst/typical": 20,
    "MSE": 6,
    "drift": 17,
    "": 3,
}


def check_output(
    source: Path,
    output: Path,
    scale: Fraction | int,
    *,
    expected_color: Mapping[str, str] | None = None,
    expect_missing: Collection[str] = (),
    limits: Limits | None = None,
    outcome: Outcome | None = None,
    deinterlace: Deinterlace = "auto",
) -> list[str]:
    """What is wrong with `output` as the upscaled `source`, one readable line each; empty if it is good.

    Args:
        source: The film or image that was upscaled.
        output: What came out.
        scale: Size of the output over that of the source.
        expected_color: Tags that the output must have where the source has none: `range`, `matrix`,
            `primaries`, `transfer`, with ffprobe's names as values (`tv`, `bt709`).
        expect_missing: Keys of faults that are known and told: `subtitle:0`, `cover:0`, `chapters`, `shift`,
            `metadata:comment`. Such a thing that is not missing after all is a fault.
        limits: How much frames may differ from the source's, for models that change the picture.
        outcome: What the job's report says: its words excuse faults, and must be true themselves.
        deinterlace: What was asked of interlaced sources; where `outcome` tells what was done, that counts.
    """
    if is_still(source):
        verdict = measure_still(
            source, output, scale, expect_missing=expect_missing, limits=limits, outcome=outcome
        )
    else:
        verdict = measure(
            source,
            output,
            scale,
            expected_color=expected_color,
            expect_missing=expect_missing,
            limits=limits,
            outcome=outcome,
            deinterlace=deinterlace,
        )
    return [f"{fault.key}: {fault.text}" for fault in verdict.faults]


def table_row(verdict: Verdict) -> str:
    """One line of the table."""
    figures = verdict.figures
    if "size" not in figures:
        return _columns([verdict.source.name, *[""] * (len(COLUMNS) - 2), "BAD" if verdict.faults else "ok"])
    (width, height), (out_width, out_height) = figures["size"]
    tags = [after or "-" for _, after in figures.get("color", {}).values()] or [
        " > ".join(figures.get("mode", ()))
    ]
    moved = figures.get("av_offset_change_ms", {}).values()
    packets = figures.get("packets", {})
    drift = figures.get("drift", {})
    has_times = "max_pts_error_ms" in figures
    cells = [
        verdict.source.name,
        "/".join(map(str, figures.get("frames", ()))),
        f"{figures['max_pts_error_ms']} ms {figures['max_pts_error_ticks']} t" if has_times else "-",
        " ".join(f"{kind[:3]} {count}" for kind, count in packets.items()) or "-",
        f"{max(moved, key=abs):.3f}" if moved else "-",
        f"{width}x{height}>{out_width}x{out_height}",
        "/".join(tags) or " > ".join(figures.get("mode", ())),
        f"{figures.get('worst_margin', '-')} / {figures.get('typical_margin', '-')}",
        str(figures.get("max luma MSE", "-")),
        " ".join(f"{value:+.2f}" for value in drift.values()),
        "BAD" if verdict.faults else "ok",
    ]
    return _columns(cells)


def _columns(cells: Sequence[str]) -> str:
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True)).rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks a folder or a file; returns 1 on any fault, 2 where there is nothing to check or no ffmpeg."""
    options = _options(arguments)
    if not have_ffmpeg():
        print("ffmpeg and ffprobe are needed", file=sys.stderr)
        return 2
    if not options.json:
        print(_columns(list(COLUMNS)))
    verdicts = []
    for verdict in _verdicts(options):
        verdicts.append(verdict)
        if not options.json:
            _print(verdict, options.notes)
    if options.json:
        print(json.dumps([_as_json(verdict) for verdict in verdicts], indent=1))
    if not verdicts:
        print("no film or image found", file=sys.stderr)
        return 2
    return 1 if any(verdict.faults for verdict in verdicts) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.end_to_end.independent",
        description="Independent check of upscaled films and images against their sources.",
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=Fraction, default=Fraction(2))
    parser.add_argument("--only", nargs="*", help="names or stems of the sources to check (default: all)")
    parser.add_argument(
        "--report", type=Path, help="report.json of the job (default: the one in OUT, if it is there)"
    )
    parser.add_argument("--exit-code", type=int, help="of the job: must agree with the report")
    parser.add_argument(
        "--deinterlace",
        choices=get_args(Deinterlace),
        default="auto",
        help="what was asked of interlaced sources",
    )
    example = '{"stem": {"color": {"range": "tv"}, "missing": ["audio:1"]}}'
    parser.add_argument("--expect", type=Path, help=f"JSON file with what is expected: {example}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--notes", action="store_true", help="print notes too")
    return parser.parse_args(arguments)


@dataclass(frozen=True)
class _Pair:
    source: Path
    output: Path | None
    outcome: Outcome | None


def _verdicts(options: argparse.Namespace) -> Iterator[Verdict]:
    """One for each pair, and one for the folder as a whole where there is something to say of it."""
    expected = json.loads(options.expect.read_text()) if options.expect else {}
    report = _report(options)
    extra: list[Path] = []
    if report is not None:
        pairs = [_Pair(*pair) for pair in pair_by_report(options.source, options.output, report)]
    else:
        found, extra = pair_files(options.source, options.output)
        pairs = [_Pair(source, output, None) for source, output in found]
    if options.only:
        pairs = [pair for pair in pairs if {pair.source.name, pair.source.stem} & set(options.only)]
        extra = []
    for pair in pairs:
        yield _judge(pair, options, expected.get(pair.source.stem, {}))
    for path in extra:
        yield Verdict(Path("-"), path, [Fault("extra", f"{path} has no source")])
    if report is not None and not options.only:
        yield check_report(options.source, options.output, report, options.exit_code)


def _report(options: argparse.Namespace) -> Report | None:
    if options.report:
        return read_report(options.report)
    if options.source.is_dir():
        path = options.output / "report.json"
    else:  # the report of a single file lies with the job's state
        folder = options.output if options.output.is_dir() else options.output.parent
        path = folder / ".framelift" / "report.json"
    if not path.is_file():
        return None
    report = read_report(path)
    if options.source.is_file() and options.source.name not in {
        outcome.source for outcome in report.outcomes
    }:
        return None  # it is about another file
    return report


def _judge(pair: _Pair, options: argparse.Namespace, expected: Mapping[str, Any]) -> Verdict:
    outcome = pair.outcome
    if outcome is not None and outcome.state == "failed":
        return Verdict(pair.source, Path("-"), notes=[f"failed, as the report says: {outcome.reason}"])
    if pair.output is None:
        return Verdict(pair.source, Path("-"), [Fault("missing", f"{pair.source.name} has no output")])
    if outcome is not None and outcome.state == "skipped":
        outcome = None  # only the report of the run that made it tells how
    if is_still(pair.source):
        missing = expected.get("missing", ())
        return measure_still(pair.source, pair.output, options.scale, expect_missing=missing, outcome=outcome)
    return measure(
        pair.source,
        pair.output,
        options.scale,
        expected_color=expected.get("color"),
        expect_missing=expected.get("missing", ()),
        outcome=outcome,
        deinterlace=options.deinterlace,
    )


def _print(verdict: Verdict, with_notes: bool) -> None:
    print(table_row(verdict))
    for fault in verdict.faults:
        print(f"    FAULT {fault.key}: {fault.text}")
    for note in verdict.notes if with_notes else ():
        print(f"    note {note}")
    sys.stdout.flush()


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "source": str(verdict.source),
        "output": str(verdict.output),
        "faults": [fault._asdict() for fault in verdict.faults],
        "notes": verdict.notes,
        "figures": verdict.figures,
    }
