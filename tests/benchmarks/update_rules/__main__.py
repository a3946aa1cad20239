"""Which update rule makes the better pictures: super-resolution against a discriminator, at CPU size.

    python -m tests.benchmarks.update_rules --data FOLDER [--data FOLDER] --eval FOLDER --features FILE
                                            --lpips FEATURES HEADS --out FOLDER [--threads 1] [--only NAME]
    python -m tests.benchmarks.update_rules --out FOLDER --table

A generator of 16,000 parameters is trained by L1, once; `--out` keeps it. From it, every rule plays 3000
gradients of each player against a new discriminator, at three learning rates with three seeds each; then the
best two play ten seeds. Content loss, discriminator, R1, clipping, average of weights and the order of crops
are the same for all. Rates and rules are chosen by a part of the training pictures that is set aside;
`--eval` is for the tables alone, which show the centres of its pictures.

What counts is LPIPS by AlexNet, which nobody trains for (the loss sees SqueezeNet's features), at no more
than 1 dB of PSNR lost. A run has diverged where it is not finite, or has lost more than 3 dB.

Each run is a line of JSON in a file of its own. Where the command was interrupted, the same one goes on with
the run that it was at. `protocol.py` has all that is fixed, `play.py` the sizes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from cluster.storage import Storage, open_storage
from sr_core.errors import SpecError
from sr_core.metrics.lpips import load_lpips
from tests.benchmarks.update_rules.play import Sets, Start, play, read_sets, train_start
from tests.benchmarks.update_rules.protocol import Contestant, Record, Run, wanted
from tests.benchmarks.update_rules.table import tables

START = "start.safetensors"
RUNS = "runs/"


def read_records(store: Storage) -> list[Record]:
    """Of all runs that are done, by name."""
    lines = (store.get(info.key) for info in store.list(RUNS))
    return [Record.of_line(line) for line in lines if line]


def start_of(store: Storage, sets: Sets) -> Start:
    """The kept one, or a new one."""
    weights = store.get(START)
    if weights is None:
        weights = train_start(sets)
        store.put(START, weights)
    start = Start.of(weights, sets)
    print(f"start: {start.point}", flush=True)
    return start


def next_run(records: list[Record], only: list[Contestant]) -> Run | None:
    """The first that is not done."""
    done = {record.run.name for record in records}
    return next(
        (run for run in wanted(records) if run.name not in done and run.contestant in only),
        None,
    )


def play_all(store: Storage, sets: Sets, only: list[Contestant]) -> None:
    """Every run that is not done.

    Raises:
        SpecError: What is done started from other weights.
    """
    start = start_of(store, sets)
    while run := next_run(records := read_records(store), only):
        if any(record.start != start.digest for record in records):
            raise SpecError(
                "runs with other start weights are here", where=store.url, next_step="take another"
            )
        record = play(run, sets, start)
        store.put(f"{RUNS}{run.name}.json", record.line())
        end = record.points[-1]
        told = record.diverged or f"{record.lost_db:.2f} dB lost, LPIPS {record.lpips:.4f}"
        print(f"{run.name}: {told}, test {end.test}, {end.cpu_s:.0f} s", flush=True)


def main() -> None:
    """Plays what is missing, then prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--eval")
    parser.add_argument("--features", type=Path, help="SqueezeNet's weights")
    parser.add_argument("--lpips", type=Path, nargs=2, metavar=("FEATURES", "HEADS"), help="AlexNet's")
    parser.add_argument("--out", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", action="append", choices=[each.name.lower() for each in Contestant])
    parser.add_argument("--table", action="store_true", help="trains nothing")
    asked = parser.parse_args()
    store = open_storage(asked.out)
    if not asked.table:
        if not (asked.data and asked.eval and asked.features and asked.lpips):
            parser.error("runs need --data, --eval, --features and --lpips")
        torch.set_num_threads(asked.threads)
        sets = read_sets(asked.data, asked.eval, asked.features, load_lpips(*asked.lpips))
        only = [each for each in Contestant if not asked.only or each.name.lower() in asked.only]
        play_all(store, sets, only)
    records = read_records(store)
    if not records:
        sys.exit("no run is done")
    print("\n".join(tables(records)))


if __name__ == "__main__":
    main()
