"""What of footage is trained on, and what is kept to choose and to confirm by: by stretches of time.

Frames of one film resemble each other, so that single frames cannot be set aside; but where there is one film
alone, something of it must be. So it is cut into stretches of time, of which whole ones are set aside, and
what lies next to these is not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.training.split import SplitSettings
from sr_core.errors import SpecError

_LEAST_STRETCHES = 3
_PERIOD = 8  # of so many stretches, one is to choose by and one is to confirm by
_STRETCH_S = 4.0
_GAP_S = 1.0
_LEAST_CONFIRMING = 2
_NEAR_BITS = SplitSettings.most_different_bits


@dataclass(frozen=True)
class Moment:
    """When a frame of footage is shown.

    Attributes:
        file: Number of the file.
        seconds: From the start of its file; 0 of an image.
        file_seconds: How long its file is; 0 of an image.
        look: `cluster.training.split.difference_hash` of the frame.
    """

    file: int
    seconds: float = 0.0
    file_seconds: float = 0.0
    look: int | None = None


@dataclass(frozen=True)
class Parts:
    """Indices of frames, ascending, that share none; some frames may be in no part.

    Attributes:
        training: To learn from.
        choosing: By which it is decided what of that is kept.
        confirming: On which that is measured, once.
        are_alike: Whether what is trained on has near-duplicates in the other parts, as where all footage is
            of one view; else it has none.
    """

    training: tuple[int, ...]
    choosing: tuple[int, ...]
    confirming: tuple[int, ...]
    are_alike: bool


def parted(moments: Sequence[Moment]) -> Parts:
    """Shares frames among the parts: an eighth of the stretches to choose by, and an eighth to confirm by.

    Args:
        moments: Those of a file one after the other, in the order of time.

    Raises:
        SpecError: There are too few.
    """
    stretches = _stretches(moments)
    num_stretches = len(set(stretches))
    period = min(_PERIOD, num_stretches)
    first = period // 4
    places = [stretch % period for stretch in stretches]
    choosing = tuple(at for at, place in enumerate(places) if place == first)
    confirming = tuple(at for at, place in enumerate(places) if place == first + period // 2)
    held = {*choosing, *confirming}
    training = [at for at in range(len(moments)) if at not in held]
    training = [at for at in training if not any(_touch(moments[at], moments[each]) for each in held)]
    if num_stretches < _LEAST_STRETCHES or len(confirming) < _LEAST_CONFIRMING or not training:
        raise SpecError(
            "the footage is too short for a part of it to be set aside",
            got=f"{len(moments)} frames that can be used, of {num_stretches} stretches of time",
            expected="some seconds of video, or some 20 images",
        )
    apart = [at for at in training if not any(_alike(moments[at], moments[each]) for each in held)]
    are_alike = 2 * len(apart) < len(training)
    return Parts(tuple(training if are_alike else apart), choosing, confirming, are_alike)


def _stretches(moments: Sequence[Moment]) -> list[int]:
    """The number of each one's stretch, counted through all files."""
    stretches: list[int] = []
    files = [each.file for each in moments]
    is_only = len(set(files)) == 1
    for file in dict.fromkeys(files):
        own = [each for each in moments if each.file == file]
        # A short one among others is a stretch as a whole.
        num = 1 if len(own) < _PERIOD and not is_only else _num_stretches(own[0], len(own))
        first = stretches[-1] + 1 if stretches else 0
        stretches += [first + at * num // len(own) for at in range(len(own))]
    return stretches


def _num_stretches(moment: Moment, num_frames: int) -> int:
    return min(num_frames, max(_PERIOD, round(moment.file_seconds / _STRETCH_S)))


def _touch(one: Moment, other: Moment) -> bool:
    """Whether they are nearly at the same time."""
    gap_s = min(_GAP_S, one.file_seconds / (2 * _PERIOD))
    return one.file == other.file and abs(one.seconds - other.seconds) < gap_s


def _alike(one: Moment, other: Moment) -> bool:
    if one.look is None or other.look is None:
        return False
    return (one.look ^ other.look).bit_count() <= _NEAR_BITS
