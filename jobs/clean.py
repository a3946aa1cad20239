"""`framelift clean`: removing what abandoned runs left."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from rich.text import Text

from cluster.clean import Cleaned
from cluster.clean import clean as clean_store
from cluster.inputs import state_folder
from cluster.places import place_of
from cluster.storage import open_storage
from jobs.view import console
from sr_core.errors import SpecError

_NAMES = {
    "num_parts": "part",
    "num_receipts": "receipt",
    "num_plans": "plan",
    "num_failures": "failure record",
    "num_markers": "image marker",
    "num_heartbeats": "heartbeat",
    "num_uploads": "unfinished upload",
    "num_scratch_files": "scratch file",
}


def clean(output_url: str, older_than_s: float, *, is_dry_run: bool = False, as_json: bool = False) -> int:
    """Removes what runs left in `output_url` that have been silent for so long, and says what.

    Raises:
        SpecError: No job has written there.
    """
    storage = open_storage(state_folder(place_of(output_url)).url)
    cleaned = clean_store(storage, older_than_s, time.time(), is_dry_run=is_dry_run)
    if cleaned is None:
        raise SpecError(
            "no job has written here", where=output_url, next_step="give the OUT of a 'framelift upscale'"
        )
    if as_json:
        print(json.dumps({"is_dry_run": is_dry_run, **asdict(cleaned)}, indent=2))
    else:
        console().print(Text(cleaned_text(cleaned, is_dry_run=is_dry_run)))
    return 0


def cleaned_text(cleaned: Cleaned, *, is_dry_run: bool) -> str:
    """What was removed, or would be, in one line."""
    numbers = asdict(cleaned)
    found = [
        f"{numbers[key]} {name}{'s' * (numbers[key] != 1)}" for key, name in _NAMES.items() if numbers[key]
    ]
    if not found:
        return "nothing to remove"
    did = "would remove" if is_dry_run else "removed"
    return f"{did} {', '.join(found)}; {cleaned.num_bytes / 1e6:.1f} MB of objects"
