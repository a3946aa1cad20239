"""How long it takes to find that nothing is to do over many finished files in a store that is far away.

    python -m tests.benchmarks.rerun [--files 10000] [--latency-ms 20]

Upscales one image and one clip from bucket to bucket, then fills the buckets with as many more of both, each
with the state that a finished job leaves. Runs `upscale`, `status` and `clean` from the command line, without
and with the latency before every request, and prints seconds, seconds of CPU and requests of each as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from cluster.job import Job, ModelRef
from cluster.manifest import Manifest
from cluster.plan import Input, JobPlan, SourceRef, output_key
from cluster.storage import Storage, open_storage
from cluster.storage.parallel import in_parallel
from tests.benchmarks.long_film import make_film
from tests.stores.fault_proxy import FaultProxy, Traffic, fault_proxy
from tests.stores.s3_server import credentials, new_bucket, s3_server

JOB = Job(ModelRef("lanczos"), scale=2)
_ASKED = ("--model", "lanczos", "--scale", "2", "--preset", "ultrafast")
COMMAND = (sys.executable, "-c", "from jobs.cli import main; main()")


def framelift(*arguments: str) -> str:
    """What `framelift` prints."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def samples() -> Iterator[tuple[str, bytes]]:
    """A tiny image and a tiny clip by the suffixes of their names."""
    image = BytesIO()
    Image.new("RGB", (16, 16), "teal").save(image, "PNG")
    yield ".png", image.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_film(clip, 1.0, 12, with_audio=False)
        yield ".mp4", clip.read_bytes()


class Twins:
    """Makes finished files of one that was really upscaled, with all the state that it left."""

    def __init__(self, first: str, source: Storage, output: Storage, plan: JobPlan) -> None:
        self._source, self._output, self._plan = source, output, plan
        self._suffix = Path(first).suffix
        info = source.head(first)
        assert info is not None
        self._input = Input(SourceRef(source.url, first, info.size_bytes, info.version), first)
        self._key = output_key(plan, self._input)
        receipt = Manifest(output).output(self._key)
        assert receipt is not None
        self._receipt = receipt
        self._contents = source.get(first) or b"", output.get(first) or b""
        keys = [info.key for info in output.list(f".framelift/receipts/{self._key}")]
        self._segments = {key: output.get(key) or b"" for key in keys}

    def make(self, number: int) -> None:
        """Puts another source, its output, and the receipts of it and of its segments."""
        name = f"folder{number % 10}/{number:05}{self._suffix}"
        info = self._source.put(name, self._contents[0])
        reference = SourceRef(self._source.url, name, info.size_bytes, info.version)
        key = output_key(self._plan, Input(reference, name))
        self._output.put(name, self._contents[1])
        for segment, content in self._segments.items():
            mine = content.replace(self._key.encode(), key.encode())
            self._output.put(segment.replace(self._key, key), mine)
        Manifest(self._output).put_output(replace(self._receipt, key=key, source=name, output=name))


def fill(endpoint_url: str, num_files: int) -> tuple[str, str]:
    """Makes as many finished files, of which two are really made; returns the URLs of sources and outputs."""
    root, settings = f"s3://{new_bucket(endpoint_url)}", f"?endpoint_url={endpoint_url}"
    source, output = open_storage(f"{root}/in{settings}"), open_storage(f"{root}/out{settings}")
    firsts = {f"first{suffix}": content for suffix, content in samples()}
    for name, content in firsts.items():
        source.put(name, content)
    framelift("upscale", source.url, output.url, *_ASKED, "--workers", "1")
    job = replace(JOB, video=replace(JOB.video, preset="ultrafast"))
    plan = Manifest(output).plan(job)
    assert plan is not None, "the command line asks for another job than this"
    twins = [Twins(name, source, output, plan) for name in firsts]
    numbers = range(num_files - len(firsts))
    for _ in in_parallel(lambda number: twins[number % len(twins)].make(number), numbers):
        pass
    return f"{root}/in", f"{root}/out"


def measure(proxy: FaultProxy, arguments: Sequence[str], expected: str) -> dict[str, float]:
    """What one command costs, which must say what is expected."""
    proxy.traffic, start_s, start_cpu_s = Traffic(), time.perf_counter(), children_cpu_s()
    printed = framelift(*arguments, "--endpoint-url", proxy.url)
    seconds = time.perf_counter() - start_s
    if expected not in printed:
        raise RuntimeError(f"{arguments[0]} says nothing of {expected!r}:\n{printed[-2000:]}")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(children_cpu_s() - start_cpu_s, 2),
        "requests": len(proxy.traffic.requests),
    }


def children_cpu_s() -> float:
    """Of all processes that this one started and that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Fills a store, runs the commands and prints what they cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    options = parser.parse_args()
    with credentials(), s3_server() as endpoint_url, fault_proxy(endpoint_url) as proxy:
        source_url, output_url = fill(endpoint_url, options.files)
        upscale = ("upscale", source_url, output_url, *_ASKED)
        commands = {
            "upscale": (upscale, f"{options.files} done before"),
            "status": (("status", output_url, "--json"), '"num_files_skipped": ' + str(options.files)),
            "clean": (("clean", output_url, "--dry-run", "--json"), '"num_parts": 0'),
        }
        told = {}
        for latency_s in (0.0, options.latency_ms / 1000):
            proxy.latency_s = latency_s
            found = {name: measure(proxy, *command) for name, command in commands.items()}
            told[f"{latency_s * 1000:g} ms"] = found
        print(json.dumps({"files": options.files, **told}, indent=2))


if __name__ == "__main__":
    main()
