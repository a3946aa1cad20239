"""Where a video is cut into segments. Pure integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from cluster.job import Deinterlace
from cluster.plan import Segment
from cluster.video.info import VideoInfo
from cluster.video.timeline import Timeline

CONTEXT_FRAMES = 2  # that bwdif looks at on either side, and one to spare


def segments_of(
    output_key: str,
    video: VideoInfo,
    timeline: Timeline,
    seconds: float,
    asked: Deinterlace,
    seen: tuple[int, int] = (0, 0),
) -> tuple[Segment, ...]:
    """The segments of one video, which cover it from its first frame to its last.

    Args:
        output_key: Begins the segments' keys.
        seconds: The length that segments come close to.
        asked: Whether frames may need their neighbours to be deinterlaced.
        seen: How many frames before and after each the model sees with it.
    """
    step_pts = max(1, round(Fraction(seconds) / video.time_base))
    cuts = [] if video.timestamp_problem else _cuts(timeline, step_pts)
    bounds = np.searchsorted(timeline.pts, cuts).tolist()
    firsts, lasts = [0, *bounds], [*bounds, len(timeline.pts)]
    starts, ends = [None, *cuts], [*cuts, None]
    num_context = 0 if asked == "off" else CONTEXT_FRAMES
    return tuple(
        Segment(
            key=f"{output_key}-{index:06d}",
            start_pts=start,
            end_pts=end,
            num_frames=last - first,
            window=around(timeline, first - seen[0], last + seen[1]),
            context=around(timeline, first - seen[0] - num_context, last + seen[1] + num_context),
        )
        for index, (start, end, first, last) in enumerate(zip(starts, ends, firsts, lasts, strict=True))
    )


def around(timeline: Timeline, first: int, last: int) -> tuple[int | None, int | None]:
    """The range of pts of the frames from number `first` to below `last`, as far as there are such."""
    return (
        int(timeline.pts[first]) if first > 0 else None,
        int(timeline.pts[last]) if last < len(timeline.pts) else None,
    )


def _cuts(timeline: Timeline, step_pts: int) -> list[int]:
    """Where to cut: at keyframes about `step_pts` apart; where those are rarer than that, at any frame."""
    cuts: list[int] = []
    start = int(timeline.pts[0])
    while timeline.end_pts - start >= step_pts * 3 // 2:
        cut = _cut_near(timeline, start + step_pts, step_pts // 2)
        if cut is None:
            break
        cuts.append(cut)
        start = cut
    return cuts


def _cut_near(timeline: Timeline, target_pts: int, reach_pts: int) -> int | None:
    """The keyframe nearest to `target_pts` within `reach_pts`, else the next frame, else None."""
    keyframes = timeline.keyframe_pts
    low, high = np.searchsorted(keyframes, [target_pts - reach_pts, target_pts + reach_pts + 1])
    if low < high:
        near = keyframes[low:high]
        return int(near[np.argmin(np.abs(near - target_pts))])
    index = int(np.searchsorted(timeline.pts, target_pts))
    return int(timeline.pts[index]) if index < len(timeline.pts) else None
