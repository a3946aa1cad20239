"""What the frames show: each output frame looks like its source frame, more so than like any neighbour."""

import numpy as np
from PIL import Image

from tests.end_to_end.independent.probing import Film
from tests.end_to_end.independent.times import Pairing
from tests.end_to_end.independent.verdict import Limits, Verdict

BLOCK_PX = 8
WINDOW_FRAMES = 12
# FFmpeg widens by shifting: white of 8 bit is 255.0, of 10 bit 255.75; YUV's limited range has no such gap.
_FULL_RANGE_DRIFT = 1.0
_ALPHA_SHARE = 0.02  # of the variance: sharp edges of alpha are worth much, and lose some of it


def check_content(source: Film, output: Film, pairing: Pairing, limits: Limits, verdict: Verdict) -> None:
    """Each output frame looks like the source frame that it belongs to, more so than like any neighbour.

    A frame that looks like another source frame is told as out of order, one that looks like none as wrong,
    and the film's mean colour is taken over the frames that are neither.
    """
    chosen = pairing.source[pairing.comparable]
    mine = source.taken(chosen)
    theirs = output.taken(pairing.output[pairing.comparable])
    if not mine.pts:
        return
    allowed = _allowed_mse(mine.planes[:, 0], limits)
    later = np.arange(chosen[-1] + 1, len(source.pts))  # an output that ends early may show these
    neighbours = source.planes[np.concatenate([chosen, later]), 0]
    in_order = _check_order(neighbours, theirs.planes[:, 0], allowed, limits, verdict)
    alike = _check_likeness(mine, theirs, in_order, allowed, limits, verdict)
    if alike.any():
        _check_drift(mine, theirs, alike, limits, verdict)


def _allowed_mse(source_y: np.ndarray, limits: Limits) -> np.ndarray:
    share = limits.frame_mse_share * source_y.var((1, 2))
    allowed: np.ndarray = np.minimum(limits.frame_mse, np.maximum(share, limits.frame_mse_floor))
    return allowed


def _check_likeness(
    source: Film, output: Film, in_order: np.ndarray, allowed: np.ndarray, limits: Limits, verdict: Verdict
) -> np.ndarray:
    """Compares the frames that are in order: luma, colour planes, parts; returns which are alike.

    Small films are compared at their own size, where enlarging loses some detail in any case.
    """
    count = len(in_order)
    differences = output.planes - source.planes
    y, u, v = (differences[:, plane] for plane in range(3))
    chroma = np.full(count, 2 * limits.frame_mse)
    is_reduced = source.size != source.planes.shape[:-3:-1]
    lost = (
        np.zeros((count, 3))
        if is_reduced
        else 2 * np.stack([there_and_back_mse(f[:3]) for f in source.planes])
    )
    blocks = np.abs(block_means(y)).max((1, 2))
    alike: np.ndarray = in_order & _like_alpha(source.planes, differences, limits, verdict)
    for what, distance, bound in (
        ("luma MSE", (y**2).mean((1, 2)), allowed + lost[:, 0]),
        ("U MSE", (u**2).mean((1, 2)), chroma + lost[:, 1]),
        ("V MSE", (v**2).mean((1, 2)), chroma + lost[:, 2]),
        ("difference in one part", blocks, np.full(count, limits.block)),
    ):
        verdict.figures[f"max {what}"] = round(float(distance.max()), 3)
        wrong = np.flatnonzero(alike & (distance > bound))
        alike[wrong] = False
        verdict.fault_each(
            "content",
            [f"frame {n} is unlike the source's: {what} {distance[n]:.1f} > {bound[n]:.1f}" for n in wrong],
        )
    return alike


def _like_alpha(source: np.ndarray, differences: np.ndarray, limits: Limits, verdict: Verdict) -> np.ndarray:
    """Which frames have the source's alpha, as a whole and in each part; all where there is none."""
    if differences.shape[1] < 4:
        return np.ones(len(differences), bool)
    alpha, variance = differences[:, 3], source[:, 3].var((1, 2))
    distance = (alpha**2).mean((1, 2))
    verdict.figures["max alpha MSE"] = round(float(distance.max()), 3)
    parts = np.abs(block_means(alpha)).max((1, 2))
    bound = np.maximum(limits.frame_mse, _ALPHA_SHARE * variance)
    is_like: np.ndarray = (distance <= bound) & (parts <= limits.block)
    wrong = np.flatnonzero(~is_like)
    verdict.fault_each("alpha", [f"frame {n} has another alpha: MSE {distance[n]:.1f}" for n in wrong])
    return is_like


def there_and_back_mse(planes: np.ndarray) -> np.ndarray:
    """What a picture of shape (planes, height, width) loses if Lanczos doubles it and areas are averaged."""
    height, width = planes.shape[1:]
    doubled = [Image.fromarray(p).resize((2 * width, 2 * height), Image.Resampling.LANCZOS) for p in planes]
    back = np.stack([np.asarray(image.resize((width, height), Image.Resampling.BOX)) for image in doubled])
    mse: np.ndarray = ((back - planes) ** 2).mean((1, 2))
    return mse


def block_means(frames: np.ndarray) -> np.ndarray:
    """Means over blocks of 8x8 pixels; what does not fill a block at the right and bottom joins the last."""
    _, height, width = frames.shape
    rows = np.arange(0, max(1, height - BLOCK_PX + 1), BLOCK_PX)
    columns = np.arange(0, max(1, width - BLOCK_PX + 1), BLOCK_PX)
    sums = np.add.reduceat(np.add.reduceat(frames, rows, axis=1), columns, axis=2)
    heights, widths = np.diff([*rows, height]), np.diff([*columns, width])
    means: np.ndarray = sums / np.outer(heights, widths)
    return means


def lagged_mse(source_y: np.ndarray, output_y: np.ndarray, lag: int) -> np.ndarray:
    """MSE of each output frame n against source frame n + lag; NaN where there is none."""
    count = len(output_y)
    mse = np.full(count, np.nan)
    first, last = max(0, -lag), min(count, len(source_y) - lag)
    if first < last:
        mse[first:last] = ((output_y[first:last] - source_y[first + lag : last + lag]) ** 2).mean((1, 2))
    return mse


def _check_order(
    source_y: np.ndarray, output_y: np.ndarray, allowed: np.ndarray, limits: Limits, verdict: Verdict
) -> np.ndarray:
    """No neighbour within 12 frames is closer: frame by frame, and on average over runs of frames.

    A frame is out of order if it is closer to a neighbour by more than chance explains (`Limits.twin_mse`)
    and by at least half of what tells the two source frames apart. Where a film stands still, its frames
    cannot be told apart and a neighbour may win by a hair; over a run such chances cancel, so that a slow
    film that is shifted is found where single frames do not show it. Returns which frames are in order.
    """
    lags = [lag for lag in range(-WINDOW_FRAMES, WINDOW_FRAMES + 1) if lag]
    here = lagged_mse(source_y, output_y, 0)
    there = np.stack([lagged_mse(source_y, output_y, lag) for lag in lags])
    apart = np.stack([lagged_mse(source_y, source_y[: len(output_y)], lag) for lag in lags])
    nearest = np.fmin(here, np.fmin.reduce(there))
    # The usual distance to whichever frame is nearest is the encoder's, also where the order is wrong.
    noise = float(np.median(nearest))
    gain = here - there
    closest = np.nan_to_num(gain, nan=-np.inf)
    best, most = closest.argmax(0), closest.max(0)
    if np.isfinite(most).any():
        verdict.figures["worst_margin"] = round(float(-most.max()), 4)
        verdict.figures["typical_margin"] = round(float(-np.median(most)), 4)
    tolerance = max(limits.twin_mse, noise / 2)
    is_closer = (gain > tolerance) & (gain > apart / 2)
    twins = int((np.fmin.reduce(apart) <= tolerance).sum())
    verdict.figures["twin_frames"] = twins
    if twins:
        verdict.notes.append(
            f"{twins} frames equal a neighbour so nearly that swapping the two would not show"
        )
    out_of_order = is_closer.any(0) & (nearest <= allowed)
    verdict.fault_each(
        "order",
        [
            f"frame {n} is closer to source frame {n + lags[best[n]]} (by MSE {most[n]:.2f})"
            for n in np.flatnonzero(out_of_order)
        ],
    )
    if not out_of_order.any():
        length = min(limits.run_frames, len(output_y) // 2)
        _check_runs(lags, gain, length, limits.run_twin_mse * (1 + noise), verdict)
    in_order: np.ndarray = ~out_of_order
    return in_order


def _check_runs(lags: list[int], gain: np.ndarray, length: int, allowed: float, verdict: Verdict) -> None:
    worst = (-np.inf, 0, 0)
    for lag, gain_at_lag in zip(lags, gain, strict=True) if length else ():
        means = np.convolve(gain_at_lag, np.ones(length) / length, "valid")
        if np.isfinite(means).any():
            start = int(np.nanargmax(means))
            worst = max(worst, (float(means[start]), start, lag))
    if np.isfinite(worst[0]):
        verdict.figures["worst_run_margin"] = round(-worst[0], 4)
    if worst[0] > allowed:
        most, start, lag = worst
        span = f"frames {start} to {start + length - 1}"
        verdict.fault("order", f"{span} are closer to source frames shifted by {lag:+d} (by MSE {most:.3f})")


def _check_drift(source: Film, output: Film, frames: np.ndarray, limits: Limits, verdict: Verdict) -> None:
    chosen = np.flatnonzero(frames)
    means = (output.planes[chosen] - source.planes[chosen]).mean((0, 2, 3), dtype=np.float64)
    is_rgb = source.pixels.is_rgb or output.pixels.is_rgb
    names = ("G", "B", "R", "alpha") if is_rgb else ("Y", "U", "V", "alpha")
    drift = {}
    for name, mean in zip(names, means, strict=False):
        bound = limits.drift + (_FULL_RANGE_DRIFT if is_rgb or name == "alpha" else 0)
        drift[name] = round(float(mean), 3)
        if abs(mean) > bound:
            verdict.fault("drift", f"mean {name} is off by {mean:+.2f} of 255")
    verdict.figures["drift"] = drift
