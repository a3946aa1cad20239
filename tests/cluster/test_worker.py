"""A worker in this process: real video, real state, no Ray."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from cluster.driver import Driver
from cluster.inputs import find_inputs
from cluster.job import Job, ModelRef, Policies, SegmentSettings, SequenceSettings, VideoSettings
from cluster.machines import WorkerSettings
from cluster.manifest import Manifest
from cluster.pool import WorkerPool
from cluster.report import JobReport, Snapshot
from cluster.request import Request
from cluster.retry import RetryPolicy
from cluster.sight import Sight
from cluster.storage import LocalStorage
from cluster.tasks import SegmentReceipt, SegmentTask
from cluster.worker import Worker
from jobs.models import find_model
from jobs.sample import SAMPLE
from sr_core.archs.compact import Compact, CompactConfig
from sr_core.blend import Blend
from sr_core.errors import FrameliftError, MediaError, OutputError
from tests.cluster.inline import InlineExecutor

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "video"
JOB = Job(
    ModelRef("bilinear"),
    scale=2,
    video=VideoSettings(preset="ultrafast"),
    segments=SegmentSettings(seconds=1.0),
)


def ignore(snapshot: Snapshot) -> None:
    """Shows nothing."""


def run(source: Path, out: Path, job: Job = JOB, watch: Callable[[Snapshot], None] = ignore) -> JobReport:
    inputs = find_inputs(str(source), str(out), job.video, job.image, job.sequences)
    storage = LocalStorage(inputs.output_url)
    settings = WorkerSettings(1)

    def make_pool(sights: Sequence[Sight]) -> WorkerPool:
        return WorkerPool(InlineExecutor(lambda: Worker("cpu", 1)), settings)

    return Driver(Request(job, RetryPolicy()), inputs, storage, make_pool, watch).run()


def num_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_clip_comes_out_with_all_its_frames_and_twice_its_size(tmp_path: Path) -> None:
    report = run(SAMPLE, tmp_path)
    assert [outcome.state for outcome in report.outcomes] == ["done"]
    with av.open(str(SAMPLE)) as source, av.open(str(tmp_path / "sample.mp4")) as output:
        frames, given = list(output.decode(video=0)), list(source.decode(video=0))
    assert [frame.time for frame in frames] == [frame.time for frame in given]
    assert (frames[0].width, frames[0].height) == (2 * given[0].width, 2 * given[0].height)


def test_each_receipt_says_that_the_output_looks_like_its_source(tmp_path: Path) -> None:
    run(SAMPLE, tmp_path)
    manifest, storage = Manifest(LocalStorage(tmp_path)), LocalStorage(tmp_path)
    keys = [Path(info.key).stem for info in storage.list(".framelift/receipts/")]
    assert len(keys) == 3
    for key in keys:
        receipt = manifest.receipt(key)
        assert receipt is not None
        assert receipt.psnr_db is not None
        assert receipt.psnr_db > 30


def test_a_source_that_changes_under_the_job_fails_with_that_reason(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(SAMPLE.read_bytes())

    def touch(snapshot: Snapshot) -> None:
        if snapshot.num_segments_done == 1:
            os.utime(clip, ns=(0, 12345))

    report = run(clip, tmp_path / "out", watch=touch)
    assert report.outcomes[0].state == "failed"
    assert "changed while the job ran" in report.outcomes[0].reason
    assert not (tmp_path / "out" / "clip.mp4").exists()


def test_a_source_that_is_deleted_under_the_job_fails_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(SAMPLE.read_bytes())

    def delete(snapshot: Snapshot) -> None:
        if snapshot.num_segments_done == 1:
            (folder / "a.mp4").unlink(missing_ok=True)

    report = run(folder, tmp_path / "out", watch=delete)
    assert [outcome.state for outcome in report.outcomes] == ["failed", "done"]
    assert "gone" in report.outcomes[0].reason


def test_junk_and_empty_files_fail_with_a_reason_and_the_rest_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(SAMPLE.read_bytes())
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "junk.mkv").write_bytes(b"not a film" * 100)
    report = run(folder, tmp_path / "out")
    outcomes = {outcome.source: outcome for outcome in report.outcomes}
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "good.mp4": "done",
        "empty.mp4": "failed",
        "junk.mkv": "failed",
    }
    assert "cannot be read as a video" in outcomes["junk.mkv"].reason
    assert report.exit_code == 3


def damaged(path: Path) -> Path:
    """The sample with noise in the middle of its data."""
    content = bytearray(SAMPLE.read_bytes())
    noise = np.random.default_rng(1).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    content[len(content) // 2 : len(content) // 2 + len(noise)] = noise
    path.write_bytes(content)
    return path


def test_of_a_damaged_source_what_decodes_is_kept_and_told(tmp_path: Path) -> None:
    report = run(damaged(tmp_path / "clip.mp4"), tmp_path / "out")
    outcome = report.outcomes[0]
    assert outcome.state == "damaged"
    assert outcome.reason
    missing = sum(each.num_frames for each in outcome.missing)
    assert outcome.num_frames + missing == 72
    assert num_frames(tmp_path / "out" / "clip.mp4") == outcome.num_frames
    assert report.exit_code == 3


def test_a_strict_job_fails_a_damaged_source(tmp_path: Path) -> None:
    job = replace(JOB, policies=Policies(strict=True))
    report = run(damaged(tmp_path / "clip.mp4"), tmp_path / "out", job)
    assert report.outcomes[0].state == "failed"
    assert "strict" in report.outcomes[0].reason
    assert not (tmp_path / "out" / "clip.mp4").exists()


def test_a_cut_off_file_is_damaged_and_not_done(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    content = SAMPLE.read_bytes()
    clip.write_bytes(content[: len(content) * 3 // 4])
    outcome = run(clip, tmp_path / "out").outcomes[0]
    if outcome.state == "failed":  # the index was at the end
        assert "cannot be read" in outcome.reason
    else:
        assert outcome.state == "damaged"
        assert outcome.num_frames < 72


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_blend_upscales_as_its_weights_would_in_one_file(tmp_path: Path, strength: float) -> None:
    config = CompactConfig(num_feat=4, num_conv=1, scale=2)
    ends = [Compact(config).state_dict() for _ in range(2)]
    mean = {key: (1 - strength) * value + strength * ends[1][key] for key, value in ends[0].items()}
    paths = [tmp_path / f"{name}.safetensors" for name in ("fidelity", "gan", "mean")]
    for path, state_dict in zip(paths, [*ends, mean], strict=True):
        safetensors.torch.save_file(state_dict, path)
    blended = find_model(str(paths[0]), None, Blend(str(paths[1]), strength))
    clip = tmp_path / "in" / "sample.mp4"
    clip.parent.mkdir()
    clip.write_bytes(SAMPLE.read_bytes())
    for folder, model in (("blend", blended), ("one", find_model(str(paths[2])))):
        job = Job(model, video=VideoSettings(preset="ultrafast"))
        assert run(clip, tmp_path / folder, job).exit_code == 0
    assert (tmp_path / "blend/sample.mp4").read_bytes() == (tmp_path / "one/sample.mp4").read_bytes()


def test_a_worker_notices_that_the_other_weights_of_a_blend_changed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.pth", "b.pth")]
    for path in paths:
        torch.save(Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict(), path)
    model = find_model(str(paths[0]), None, Blend(str(paths[1]), 0.5))
    torch.save(Compact(CompactConfig(num_feat=4, num_conv=1, scale=2)).state_dict(), paths[1])
    report = run(SAMPLE, tmp_path / "out", Job(model))
    assert "the weights changed while the job ran" in report.outcomes[0].reason


def test_a_height_that_is_no_multiple_is_reached_on_an_even_width(tmp_path: Path) -> None:
    job = Job(ModelRef("lanczos"), height=300, video=VideoSettings(preset="ultrafast"))
    report = run(SAMPLE, tmp_path, job)
    assert report.exit_code == 0
    with av.open(str(tmp_path / "sample.mp4")) as output:
        frame = next(output.decode(video=0))
    assert (frame.width, frame.height) == (534, 300)
    assert any("resized to 534x300" in told for told in report.outcomes[0].told)


def test_a_network_that_makes_nothing_but_noise_shows_in_the_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts: list[SegmentReceipt] = []
    put = Manifest.put_receipt

    def keep(self: Manifest, receipt: SegmentReceipt) -> None:
        receipts.append(receipt)
        put(self, receipt)

    monkeypatch.setattr(Manifest, "put_receipt", keep)
    monkeypatch.setattr("cluster.frames.torch.from_numpy", lambda plane: _torch(np.zeros_like(plane)))
    run(SAMPLE, tmp_path)
    assert max(receipt.psnr_db or 0 for receipt in receipts) < 20


def _torch(array: np.ndarray) -> object:
    import torch

    return torch.tensor(array)


def test_a_task_that_fails_by_a_defect_is_told_as_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(self: Worker, task: SegmentTask) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Worker, "_upscale", broken)
    monkeypatch.setattr("cluster.worker._log.exception", lambda *arguments: None)
    outcome = run(SAMPLE, tmp_path).outcomes[0]
    assert outcome.state == "failed"
    assert "ZeroDivisionError: oops" in outcome.reason


@pytest.mark.parametrize("kind", [MediaError, OutputError])
def test_what_fails_for_lack_of_memory_is_the_machines_fault(
    kind: type[FrameliftError], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def starved(self: Worker, task: SegmentTask) -> None:
        raise kind("it cannot be read") from av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(Worker, "_upscale", starved)

    assert "ran out of memory" in run(SAMPLE, tmp_path).outcomes[0].reason


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")
@pytest.mark.parametrize(("name", "frames"), [("truncated_at_55pct.mp4", 135), ("corrupted_h264.mp4", 49)])
def test_real_damaged_clips_are_damaged(tmp_path: Path, name: str, frames: int) -> None:
    report = run(SHARED / name, tmp_path)
    assert report.outcomes[0].state == "damaged"
    assert num_frames(tmp_path / name) == frames


def numbered_images(folder: Path, num: int = 5) -> Path:
    folder.mkdir(parents=True)
    for number in range(num):
        picture = np.full((24, 32, 3), 40 * number, np.uint8)
        Image.fromarray(picture).save(folder / f"frame_{number:03}.png")
    return folder


@pytest.mark.parametrize("deinterlace", ["auto", "frame", "field"])
def test_a_sequence_has_a_frame_for_each_image_whatever_is_asked_of_interlaced_video(
    tmp_path: Path, deinterlace: Literal["auto", "frame", "field"]
) -> None:
    job = replace(JOB, sequences=SequenceSettings("24"), policies=Policies(deinterlace=deinterlace))
    report = run(numbered_images(tmp_path / "in"), tmp_path / "out", job)
    [outcome] = report.outcomes
    assert (outcome.state, outcome.output, outcome.num_frames) == ("done", "frame.mkv", 5)
    assert any("no fields" in line for line in outcome.told) == (deinterlace != "auto")
    with av.open(str(tmp_path / "out" / "frame.mkv")) as output:
        frames = list(output.decode(video=0))
    assert [int(frame.to_ndarray(format="rgb24")[20, 20, 0]) for frame in frames] == [0, 40, 80, 120, 160]


def test_images_are_images_unless_a_rate_is_given(tmp_path: Path) -> None:
    report = run(numbered_images(tmp_path / "in"), tmp_path / "out")
    assert [outcome.state for outcome in report.outcomes] == ["done"] * 5
    with Image.open(tmp_path / "out" / "frame_004.png") as picture:
        assert picture.size == (64, 48)


def test_an_image_of_a_sequence_that_does_not_decode_is_missing_with_its_time(tmp_path: Path) -> None:
    folder = numbered_images(tmp_path / "in")
    (folder / "frame_002.png").write_bytes(b"not a picture any more")
    report = run(folder, tmp_path / "out", replace(JOB, sequences=SequenceSettings("25")))
    [outcome] = report.outcomes
    assert (outcome.state, outcome.num_frames) == ("damaged", 4)
    [missing] = outcome.missing
    assert (missing.num_frames, missing.start_s, missing.end_s) == (1, 0.08, 0.12)
