"""All cases of the corpus that are videos."""

from __future__ import annotations

from cluster.video.corpus import (
    codecs,
    colors,
    containers,
    damage,
    interlacing,
    samples,
    sizes,
    timing,
    tracks,
)
from cluster.video.corpus.case import Case

CASES: tuple[Case, ...] = (
    *containers.CASES,
    *codecs.CASES,
    *samples.CASES,
    *interlacing.CASES,
    *timing.CASES,
    *tracks.CASES,
    *colors.CASES,
    *sizes.CASES,
    *damage.CASES,
)
