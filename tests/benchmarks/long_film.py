"""Peak memory of a job on a long film of tiny frames, beside that on a short one.

    python -m tests.benchmarks.long_film [--hours H] [--fps N] [--audio] [--container mp4]

Makes both films, upscales each from the command line, and watches the resident memory of the driver and of
its workers, which also join. Prints the peaks and their differences.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.end_to_end.conftest import worker_pids

SIZE = 32


def make_film(path: Path, seconds: float, fps: int, *, with_audio: bool) -> None:
    """A film of tiny moving frames, and of silence where asked for."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": str(10 * fps)})
        video.width, video.height, video.pix_fmt = SIZE, SIZE, "yuv420p"
        audio = output.add_stream("aac", rate=8000, layout="mono") if with_audio else None
        planes = [
            np.roll(np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE), i, 1) for i in range(SIZE)
        ]
        chroma = np.full((SIZE // 2, SIZE // 2), 128, np.uint8)
        for number in range(round(seconds * fps)):
            frame = av.VideoFrame.from_dlpack((planes[number % SIZE], chroma, chroma), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            output.mux(video.encode(frame))
            if audio and number % fps == 0:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
                silence.sample_rate, silence.pts = 8000, number // fps * 8000
                output.mux(audio.encode(silence))
        output.mux(video.encode(None))
        if audio:
            output.mux(audio.encode(None))


def peaks_mb(film: Path, out: Path) -> dict[str, float]:
    """Peak resident memory of the driver and of the largest worker while `film` is upscaled."""
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "upscale", str(film), str(out)]
    process = subprocess.Popen(
        [*command, "--model", "lanczos", "--preset", "ultrafast"], stderr=subprocess.DEVNULL
    )
    peaks = {"driver": 0.0, "worker": 0.0}
    while process.poll() is None:
        peaks["driver"] = max(peaks["driver"], peak_mb(process.pid))
        peaks["worker"] = max([peaks["worker"], *(peak_mb(pid) for pid in worker_pids(process.pid))])
        time.sleep(0.2)
    assert process.returncode == 0, f"exit code {process.returncode}"
    return peaks


def peak_mb(pid: int) -> float:
    """What the kernel saw as the most that a process ever held; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--fps", type=int, default=5)
    parser.add_argument("--audio", action="store_true")
    parser.add_argument("--container", default="mp4")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), {}
        for label, seconds in (("short", 10.0), ("long", arguments.hours * 3600)):
            film = folder / f"{label}.{arguments.container}"
            make_film(film, seconds, arguments.fps, with_audio=arguments.audio)
            start_s = time.monotonic()
            found[label] = peaks_mb(film, folder / f"out-{label}")
            shown = ", ".join(f"{who} {peak:.0f} MB" for who, peak in found[label].items())
            print(
                f"{label}: {seconds:.0f} s, {shown}, {time.monotonic() - start_s:.0f} s of work", flush=True
            )
        for who in found["short"]:
            print(f"{who}: {found['long'][who] - found['short'][who]:+.0f} MB")


if __name__ == "__main__":
    main()
