from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.video.timeline import global_dts, packet_durations, rescale

_distinct = st.lists(st.integers(-(10**9), 10**12), min_size=1, max_size=60, unique=True)


@st.composite
def decode_orders(draw: st.DrawFn) -> np.ndarray:
    """Times that an encoder may give: displayed later than decoded by a few frames at most."""
    pts = sorted(draw(_distinct))
    keys = [index + draw(st.floats(0, 4)) for index in range(len(pts))]
    return np.array([pts[index] for index in np.argsort(keys, kind="stable")], dtype=np.int64)


@given(decode_orders())
def test_dts_ascend_and_never_lie_after_pts(pts: np.ndarray) -> None:
    dts = global_dts(pts)

    assert len(dts) == len(pts)
    assert np.all(np.diff(dts) > 0)
    assert np.all(dts <= pts)


@given(_distinct)
def test_dts_are_pts_where_nothing_is_reordered(times: list[int]) -> None:
    pts = np.array(sorted(times), dtype=np.int64)

    assert np.array_equal(global_dts(pts), pts)


@given(decode_orders(), st.integers(1, 1000))
def test_durations_fill_the_time_from_first_pts_to_end(pts: np.ndarray, last: int) -> None:
    durations = packet_durations(pts, int(pts.max()) + last)

    assert int(durations.sum()) == int(pts.max()) + last - int(pts.min())
    shown_until = dict(zip(pts.tolist(), (pts + durations).tolist(), strict=True))
    ordered = sorted(pts.tolist())
    assert [shown_until[time] for time in ordered[:-1]] == ordered[1:]


@given(
    st.lists(st.integers(-(2**50), 2**50), max_size=20),
    st.sampled_from(
        [Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 24_000), Fraction(1, 705_600_000)]
    ),
    st.sampled_from([Fraction(1, 1000), Fraction(1, 16_000), Fraction(1, 90_000), Fraction(1, 10**9)]),
)
def test_rescaling_rounds_halves_away_from_zero(
    times: list[int], from_time_base: Fraction, to_time_base: Fraction
) -> None:
    def expected(time: int) -> int:
        exact = abs(time * from_time_base / to_time_base)
        return int(exact + Fraction(1, 2)) * (1 if time >= 0 else -1)

    if any(abs(expected(time)) >= 2**63 for time in times):
        return
    rescaled = rescale(np.array(times, dtype=np.int64), from_time_base, to_time_base)

    assert rescaled.tolist() == [expected(time) for time in times]


def test_empty_timelines_stay_empty() -> None:
    empty = np.array([], dtype=np.int64)

    assert len(global_dts(empty)) == 0
    assert len(rescale(empty, Fraction(1, 25), Fraction(1, 1000))) == 0
