"""An independent check of what an upscaling job made: only ffprobe, ffmpeg, numpy and Pillow.

Nothing of Framelift is imported, so that a mistake in its probe, decoder or muxer cannot hide itself. The
command reads two files or two folders, and the report of the job where there is one:

    python -m tests.end_to_end.independent SRC OUT --scale 2 [--deinterlace field] [--exit-code 3] [--notes]

Read first `films` (one film) and `stills` (one image); `folders` says which output belongs to which input.
Thumbnails of all frames are kept in memory: see `probing`.
"""

from tests.end_to_end.independent.command import check_output, main
from tests.end_to_end.independent.films import compare, measure
from tests.end_to_end.independent.interlacing import Deinterlace
from tests.end_to_end.independent.probing import Film, have_ffmpeg, read_film, thumbnail_size
from tests.end_to_end.independent.report import Outcome, Report, Span, read_report
from tests.end_to_end.independent.stills import measure_still
from tests.end_to_end.independent.verdict import Fault, Limits, Verdict

__all__ = [
    "Deinterlace",
    "Fault",
    "Film",
    "Limits",
    "Outcome",
    "Report",
    "Span",
    "Verdict",
    "check_output",
    "compare",
    "have_ffmpeg",
    "main",
    "measure",
    "measure_still",
    "read_film",
    "read_report",
    "thumbnail_size",
]
