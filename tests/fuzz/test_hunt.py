"""A short hunt in the suite; `python -m tests.fuzz --count 2000` is the long one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.fuzz import hunt as hunting
from tests.fuzz.hunt import Result, hunt, seeds_in
from tests.fuzz.mutate import MUTATORS, spoiled


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_ends_well_whatever_its_files_are(tmp_path: Path) -> None:
    seeds = seeds_in(None, tmp_path / "corpus")
    result = hunt(seeds, 150, 150, random.Random(99), tmp_path, keep=None)
    assert result.findings == []
    assert sum(result.states.values()) == 150
    assert {"done", "damaged", "failed"} == set(result.states)


@pytest.mark.parametrize("mutator", MUTATORS, ids=lambda mutator: mutator.__name__.strip("_"))
def test_every_mutator_changes_files_of_any_size(mutator: object) -> None:
    assert callable(mutator)
    content = bytes(range(256)) * 8 + b"....moovmvhd" * 20
    changed = 0
    for seed in range(40):
        data = bytearray(content)
        mutator(data, random.Random(seed))
        changed += bytes(data) != content
    assert changed > 20
    mutator(bytearray(b"x"), random.Random(1))


def test_spoiling_is_the_same_for_the_same_random_numbers() -> None:
    content = random.Random(0).randbytes(5000)
    assert spoiled(content, random.Random(5)) == spoiled(content, random.Random(5))
    assert spoiled(content, random.Random(5)) != spoiled(content, random.Random(6))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        ("stray output", "an output without a receipt"),
        ("lost outcome", "an input without an outcome"),
        ("lost output", "state done, output there: False"),
        ("no reason", "no reason"),
        ("defect", "a defect"),
    ],
)
def test_what_must_not_be_is_found(tmp_path: Path, spoil: str, what: str) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    receipts = output / ".framelift" / "outputs"
    receipts.mkdir(parents=True)
    source.mkdir()
    (source / "a.mp4").touch()
    (output / "a.mp4").touch()
    (receipts / "a.json").write_text(json.dumps({"output": "a.mp4"}))
    outcome = {"source": "a.mp4", "output": "a.mp4", "state": "done", "reason": ""}
    match spoil:
        case "stray output":
            (output / "b.mp4").touch()
        case "lost outcome":
            outcome["source"] = "b.mp4"
        case "lost output":
            (output / "a.mp4").unlink()
        case "no reason":
            outcome["state"] = "damaged"
        case "defect":
            outcome |= {"state": "damaged", "reason": "Framelift failed"}
    (output / "report.json").write_text(json.dumps({"outcomes": [outcome]}))
    assert what in [finding.what for finding in hunting._check_outputs(source, output, Result())]
