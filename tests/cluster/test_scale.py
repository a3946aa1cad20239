from __future__ import annotations

from tests.benchmarks.scale import run


def test_a_large_job_on_dying_workers_is_complete_and_right() -> None:
    """The benchmark in small; it checks each output."""
    result = run(num_segments=2000, num_workers=50, seed=2)
    assert result.num_segments == 2000
    assert result.met["worker died"] > 0
    assert result.met["machine taken away"] > 0
    assert result.met["stand still"] > 0
    assert result.met["computed twice"] == 0
