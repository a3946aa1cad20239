import subprocess
import sys
from pathlib import Path

from sr_core.memory import is_out_of_memory

# The address space of a process is limited to what it has and some more, so that the real allocator refuses.
LIMITED = """
import resource, sys
from pathlib import Path

import torch

from sr_core.archs.compact import COMPACT, Compact, CompactConfig
from sr_core.model import Model
from sr_core.upscale import Upscaler

torch.manual_seed(0)
torch.set_num_threads(1)
config = CompactConfig(num_feat=64, num_conv=2, scale=2)
model = Model(Compact(config).eval(), COMPACT.facts(config), "")
frame = torch.rand(1, 3, 512, 512)
whole = Upscaler(model, "cpu", "fp32", 4096, 1).run(frame)
engine = Upscaler(model, "cpu", "fp32", 4096, 1)
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + int(sys.argv[1]) * 2**20, resource.RLIM_INFINITY))
try:
    tiled = engine.run(frame)
finally:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(*engine.shrunk, sep="\\n")
print("difference", float((tiled - whole).abs().max()))
"""


def run_limited(megabytes: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, str(megabytes)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)


def test_tiles_shrink_until_they_fit_when_the_allocator_of_a_cpu_refuses() -> None:
    done = run_limited(96)

    assert done.returncode == 0, done.stderr
    assert "tile 512 -> 256: out of memory" in done.stdout
    assert float(done.stdout.split()[-1]) < 1e-6


def test_without_memory_for_the_smallest_tile_the_allocators_error_is_raised() -> None:
    done = run_limited(1)

    assert done.returncode != 0
    assert is_out_of_memory(RuntimeError(done.stderr))


def test_other_runtime_errors_are_not_taken_for_it() -> None:
    assert not is_out_of_memory(RuntimeError("Expected 4D input"))
    assert not is_out_of_memory(None)
    assert is_out_of_memory(MemoryError())


def test_a_thread_that_finds_no_room_for_its_stack_ran_out_of_memory() -> None:
    assert is_out_of_memory(RuntimeError("can't start new thread"))
