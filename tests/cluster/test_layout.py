"""The keys of the state: what is built is what is read."""

from __future__ import annotations

import pytest

from cluster import layout
from cluster.layout import BegunStills, BegunVideo, Failure, FinishedOutput, Heartbeat, Part, Place, Receipt

OUTPUT = "0123abcd-output"
SEGMENT = f"{OUTPUT}-000007"
RUN = "20260101T000000-ab"


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (layout.output(OUTPUT), FinishedOutput(OUTPUT)),
        (layout.video("job", OUTPUT), BegunVideo(OUTPUT)),
        (layout.stills("job", f"{RUN}-3"), BegunStills()),
        (layout.part(SEGMENT, f"{RUN}-3.mp4"), Part(SEGMENT)),
        (layout.receipt(SEGMENT), Receipt(SEGMENT)),
        (layout.failure(SEGMENT, f"{RUN}-3"), Failure(SEGMENT, f"{RUN}-3")),
        (layout.heartbeat(RUN), Heartbeat(RUN)),
        (layout.plan("job"), None),
        (layout.weights("0" * 64, ".safetensors"), None),
        (layout.REPORT, None),
        ("films/outputs/a.json", None),
    ],
)
def test_a_key_that_is_built_is_read_as_what_it_was_built_of(key: str, place: Place | None) -> None:
    assert layout.parse(key) == place


@pytest.mark.parametrize("place", [Part(SEGMENT), Receipt(SEGMENT), Failure(SEGMENT, "attempt")])
def test_what_belongs_to_a_segment_belongs_to_its_output(place: Part | Receipt | Failure) -> None:
    assert place.output_key == OUTPUT


@pytest.mark.parametrize(
    "key",
    [
        layout.part(SEGMENT, f"{RUN}-3.mp4"),
        layout.failure(SEGMENT, f"{RUN}-3"),
        layout.stills("job", f"{RUN}-3"),
    ],
)
def test_an_attempt_is_of_its_run(key: str) -> None:
    assert layout.run_of(key) == RUN


def test_what_no_run_made_is_of_none() -> None:
    assert layout.run_of(layout.part(SEGMENT, "somebody.else")) == ""
