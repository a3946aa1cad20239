"""What is found wrong with one output: faults, notes, figures, and the limits that they are measured by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

SHOWN_PER_FAULT = 3


@dataclass(frozen=True)
class Limits:
    """How far a picture of the output may lie from that of the source; all in 8-bit code values.

    The defaults were set with x264 and VP9 at crf 18 and 30 on 20 clips, and leave some room to all of them.

    Attributes:
        frame_mse: Upper bound of a frame's luma MSE (30 is 33 dB); chroma planes may have twice as much.
        frame_mse_share: Upper bound of the luma MSE as a share of the source frame's variance ...
        frame_mse_floor: ... which is not asked of frames that are as good as flat.
        block: Largest difference of the mean of any 8x8 block: a tile that is wrong or missing.
        drift: Largest difference of the film's mean Y, U or V: wrong range, wrong matrix, planes swapped.
        twin_mse: A neighbour may be closer by this much, or by half the film's usual MSE if that is more:
            encoders repeat blocks where little moves.
        run_twin_mse: The same for the mean over a run of frames, where chance cancels.
        run_frames: Frames in a run: long enough for slow films, short enough to find one shifted segment.
        bleed: How far a still picture's visible edge may lie on the way to the hidden colour beside it.
    """

    frame_mse: float = 30.0
    frame_mse_share: float = 0.25
    frame_mse_floor: float = 4.0
    block: float = 16.0
    drift: float = 0.75
    twin_mse: float = 0.1
    run_twin_mse: float = 0.03
    run_frames: int = 24
    bleed: float = 0.05


class Fault(NamedTuple):
    """What is wrong, under a short key (`pts`, `audio:1`, `chapters`) that `expect_missing` can name."""

    key: str
    text: str


@dataclass
class Verdict:
    """Faults (empty: the output is good), notes (things to know) and the measured figures of one pair."""

    source: Path
    output: Path
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def fault(self, key: str, text: str) -> None:
        """Adds a fault."""
        self.faults.append(Fault(key, text))

    def fault_each(self, key: str, texts: Sequence[str]) -> None:
        """Adds one fault that quotes the first few of `texts`; none if there are none."""
        if texts:
            more = len(texts) - SHOWN_PER_FAULT
            tail = f" ... and {more} more" if more > 0 else ""
            self.fault(key, "; ".join(texts[:SHOWN_PER_FAULT]) + tail)
