"""Killing the driver and its workers, on a real local Ray, with real video."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from jobs.sample import SAMPLE
from tests.end_to_end.conftest import Framelift, receipts, sha256s, worker_pids


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample clip in mp4, mkv and webm."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "clip.mp4").write_bytes(SAMPLE.read_bytes())
    _remux(SAMPLE, folder / "other.mkv")
    _to_webm(SAMPLE, folder / "third.webm")
    return folder


def _remux(source: Path, target: Path) -> None:
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        streams = {s.index: output.add_stream_from_template(s, opaque=True) for s in given.streams}
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)


def _to_webm(source: Path, target: Path) -> None:
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        stream = output.add_stream("libvpx-vp9", rate=24, options={"cpu-used": "8", "deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for frame in given.decode(video=0):
            small = frame.reformat(160, 90)
            small.pts, small.time_base = frame.pts, frame.time_base
            output.mux(stream.encode(small))
        output.mux(stream.encode(None))


@pytest.fixture(scope="module")
def undisturbed(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the outputs of a run that nothing happens to, with one worker."""
    folder = tmp_path_factory.mktemp("undisturbed")
    Framelift(folder)("upscale", sources, folder / "out", "--workers", 1, *_options())
    return sha256s(folder / "out")


def _options() -> tuple[str, ...]:
    return ("--model", "lanczos", "--segment-seconds", "0.5")


@pytest.mark.slow
def test_a_driver_killed_three_times_leaves_equal_bytes_and_keeps_its_receipts(
    framelift: Framelift, sources: Path, undisturbed: dict[str, str]
) -> None:
    out = framelift.folder / "out"
    for _ in range(3):
        before = receipts(out)
        framelift.kill_when(
            lambda before=before: len(receipts(out)) >= len(before) + 2, "upscale", sources, out, *_options()
        )
        assert before.items() <= receipts(out).items(), "a receipt that existed was touched"
    before = receipts(out)
    assert 6 <= len(before) < 18
    assert "running" in framelift("status", out)
    framelift("upscale", sources, out, *_options())
    assert before.items() <= receipts(out).items(), "a receipt that existed was touched"
    assert sha256s(out) == undisturbed


@pytest.mark.slow
def test_a_killed_worker_does_not_change_output_bytes_and_two_workers_make_those_of_one(
    framelift: Framelift, sources: Path, undisturbed: dict[str, str]
) -> None:
    out = framelift.folder / "out"
    process = framelift.start("upscale", sources, out, "--workers", 2, *_options())
    deadline_s = time.monotonic() + 120
    while len(receipts(out)) < 3:
        assert process.poll() is None, "it ended before a worker could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    workers = worker_pids(process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(timeout=200) == 0
    assert sha256s(out) == undisturbed
    failures = list((out / ".framelift" / "failures").rglob("*.json"))
    assert len(failures) == 1, "the attempt that was lost is on record"


@pytest.mark.slow
def test_an_interrupted_run_exits_with_130_and_leaves_no_worker(framelift: Framelift, sources: Path) -> None:
    out = framelift.folder / "out"
    process = framelift.start("upscale", sources, out, *_options())
    deadline_s = time.monotonic() + 120
    while len(receipts(out)) < 1:
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    workers = worker_pids(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    time.sleep(1)
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []


# Adopts orphans, as a user's service manager does, and starts what its arguments say.
_ADOPTER = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid, flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


@pytest.mark.slow
def test_workers_end_with_a_killed_driver_whoever_adopts_them(framelift: Framelift, sources: Path) -> None:
    out = framelift.folder / "out"
    command = framelift.command("upscale", sources, out, *_options())
    with subprocess.Popen(
        [sys.executable, "-c", _ADOPTER, *command], cwd=framelift.folder, stdout=subprocess.PIPE, text=True
    ) as adopter:
        assert adopter.stdout is not None
        driver = int(adopter.stdout.readline())
        deadline_s = time.monotonic() + 120
        while len(receipts(out)) < 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        workers = worker_pids(driver)
        assert workers
        os.kill(driver, signal.SIGKILL)
        deadline_s = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline_s, "a worker outlives its driver"
            time.sleep(0.1)
        adopter.kill()
