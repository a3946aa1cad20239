"""How a job went: by file at its end, and in numbers while it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from cluster.job import ModelRef

FileState = Literal["done", "skipped", "damaged", "failed"]
SnapshotState = Literal["starting", "running", "finished", "stopped"]

EXIT_DONE = 0
EXIT_SPEC = 2
EXIT_INPUTS = 3
EXIT_STOPPED = 4
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class FrameRange:
    """Frames of a source that follow each other: half-open, in seconds of the source's clock."""

    start_s: float
    end_s: float
    num_frames: int


@dataclass(frozen=True)
class FileOutcome:
    """What became of one input.

    Attributes:
        state: done; skipped (it was done already); damaged (all that decodes is in the output, the rest is
            in `missing` and `corrupt`); failed (there is no output).
        reason: Why it failed or is damaged; empty otherwise.
        told: What the user must know: policies that applied, assumptions, what was dropped.
        missing: Frames that could not be decoded.
        corrupt: Frames that the decoder calls damaged, which are in the output as far as they decode.
        num_frames: In the output.
        psnr_db: Of sampled output frames, scaled down, against their source, luma; the lowest. It says
            whether the output shows what the source does, not how good it is. None where it was not measured.
        seconds: Of worker time that the output took in this run, over all its segments.
    """

    source: str
    output: str
    state: FileState
    reason: str = ""
    told: tuple[str, ...] = ()
    missing: tuple[FrameRange, ...] = ()
    corrupt: tuple[FrameRange, ...] = ()
    num_frames: int = 0
    psnr_db: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class JobReport:
    """How a job went: the content of `report.json`.

    Attributes:
        ignored: Files of the input folder that are neither videos nor images by their names.
        stopped: Why the whole job stopped early; empty if it ran to its end.
        model: What upscaled; None in reports of before it was written down.
    """

    job_id: str
    run_id: str
    started_s: float
    seconds: float
    outcomes: tuple[FileOutcome, ...]
    ignored: tuple[str, ...] = ()
    stopped: str = ""
    model: ModelRef | None = None

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some inputs failed or are damaged, 4 the job was stopped."""
        if self.stopped:
            return EXIT_STOPPED
        bad = any(outcome.state in ("failed", "damaged") for outcome in self.outcomes)
        return EXIT_INPUTS if bad else EXIT_DONE

    def to_json(self) -> bytes:
        """The report as indented JSON."""
        return TypeAdapter(JobReport).dump_json(self, indent=2)


@dataclass(frozen=True)
class Snapshot:
    """A running job in numbers; also what the heartbeat under `runs/` holds.

    Attributes:
        state: What the driver is at: starting workers, upscaling, or finished.
        num_frames: Of all inputs that were probed so far.
        num_frames_done: Of them, those that need no more work, also from earlier runs.
        frames_per_second: Over the last minute or so; 0 until something was measured.
        eta_s: None until something was measured.
        slowest_stage: decode, network or encode: the one that is busy most; empty until measured.
        current: Names of the files that workers are at.
        from_the_end: It takes the work from its end, as another driver began at the beginning.
    """

    run_id: str
    job_id: str
    state: SnapshotState
    updated_s: float
    elapsed_s: float
    num_files: int
    num_files_done: int
    num_files_skipped: int
    num_files_damaged: int
    num_files_failed: int
    num_files_probed: int
    num_segments: int
    num_segments_done: int
    num_frames: int
    num_frames_done: int
    frames_per_second: float
    eta_s: float | None
    slowest_stage: str
    num_workers: int
    current: tuple[str, ...]
    from_the_end: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a short calibration says.

    Attributes:
        frames_per_second: Of all workers together, at the size of the video that was measured.
        seconds: That all the work takes.
        slowest_stage: decode, network or encode.
    """

    num_workers: int
    frames_per_second: float
    seconds: float
    slowest_stage: str
