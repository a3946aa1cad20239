"""What Ray, queues, parts and joining cost on top of decoding, the network and encoding.

    python -m tests.benchmarks.glue CLIP --model WEIGHTS [--frames N] [--repeat N]

Times the three stages alone, one after the other in one process with all its threads, then the whole job from
the command line, which includes starting and ending Ray. Prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TypeVar

import av
import torch

from cluster.frames import upscaled_frames
from cluster.job import Job, ModelRef, VideoSettings
from cluster.video.decode import VideoReader
from cluster.video.encode import PartWriter
from sr_core.model import load_model
from sr_core.upscale import Upscaler
from tests.cluster.plans import video_plan

T = TypeVar("T")

QUALITY = {"codec": "h264", "preset": "veryfast", "quality": "18"}


def stages(clip: Path, weights: str) -> dict[str, float]:
    """Seconds of every stage alone over all frames."""
    model = load_model(weights)
    job = Job(ModelRef(weights, weights, model.weights_sha256), video=VideoSettings("h264", "veryfast", 18.0))
    treatment = video_plan(clip, job).treatment
    upscaler = Upscaler(model, "cpu", "fp32", 256, 1)
    with clip.open("rb") as file, VideoReader(file, treatment.video, 4) as reader:
        decode_s, frames = timed(lambda: list(reader.frames(None, None)))
    network_s, upscaled = timed(lambda: list(upscaled_frames(frames, treatment, upscaler)))
    with tempfile.TemporaryDirectory() as folder:

        def encode() -> None:
            with PartWriter(Path(folder) / "part.mp4", treatment.encode) as writer:
                for frame, planes in upscaled:
                    writer.write(planes, frame.pts)
                writer.close()

        encode_s, _ = timed(encode)
    return {"decode": decode_s, "network": network_s, "encode": encode_s}


def job(clip: Path, weights: str) -> float:
    """Seconds of the whole job from the command line."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [part for key, value in QUALITY.items() for part in (f"--{key}", value)]
        command = [sys.executable, "-c", "from jobs.cli import main; main()", "upscale", str(clip)]
        seconds, _ = timed(
            lambda: subprocess.run(
                [*command, f"{folder}/out", "--model", weights, *flags], check=True, capture_output=True
            )
        )
    return seconds


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds that a call takes, and what it returns."""
    start_s = time.perf_counter()
    result = call()
    return time.perf_counter() - start_s, result


def first_frames(clip: Path, num_frames: int, folder: Path) -> Path:
    """The first frames of a clip, copied."""
    path = folder / clip.name
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in islice(source.demux(source.streams.video[0]), num_frames):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        clip = first_frames(arguments.clip, arguments.frames, Path(folder))
        ratios = []
        for _ in range(arguments.repeat):
            alone, whole_s = stages(clip, arguments.model), job(clip, arguments.model)
            ratios.append(whole_s / sum(alone.values()))
            parts = " + ".join(f"{name} {seconds:.1f}" for name, seconds in alone.items())
            print(
                f"job {whole_s:.1f} s; {parts} = {sum(alone.values()):.1f} s; ratio {ratios[-1]:.2f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
