"""Spoiled files of every kind through the real job: `python -m tests.fuzz --count 2000`.

Seeds are the files of the conformance corpus. Every spoiled file must end as done, damaged or failed with a
reason, in a job that ends well; every output must have its receipt; and memory must stay bounded.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.hunt import Finding, hunt, seeds_in


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="spoiled files in all")
    parser.add_argument("--batch", type=int, default=200, help="files in one job")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--seeds", type=Path, help="a folder of files to spoil, in place of the corpus")
    parser.add_argument("--keep", type=Path, help="where to leave the files that found something")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="framelift-fuzz-") as folder:
        seeds = seeds_in(options.seeds, Path(folder) / "corpus")
        print(f"{len(seeds)} seeds")
        rng = random.Random(options.seed)
        result = hunt(seeds, options.count, options.batch, rng, Path(folder), options.keep)
    print(result.summary())
    for finding in result.findings:
        print(_line(finding), file=sys.stderr)
    return 1 if result.findings else 0


def _line(finding: Finding) -> str:
    return f"FOUND {finding.what}: {finding.name} {finding.detail}"


if __name__ == "__main__":
    sys.exit(main())
