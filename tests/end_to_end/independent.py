"""An independent check of an upscaled film against its source: only ffprobe, ffmpeg and numpy.

Nothing of Framelift is imported, so that a mistake in its probe, decoder or muxer cannot hide itself. Each
film is read with three commands: one `ffprobe` of all packets with the hash of each payload, one `ffprobe` of
the first frame, and one `ffmpeg` decode that gives every displayed frame as a thumbnail and its pts.

    python tests/end_to_end/independent.py SRC OUT --scale 2 [--json] [--notes] [--expect expect.json]

SRC and OUT are two files or two folders; in folders, files are paired by relative path without suffix.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from math import ceil, floor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FILM_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".m2ts", ".mpg", ".avi", ".flv", ".gif")
FAMILIES = {"mov": "mp4", "matroska": "matroska", "mpegts": "mpegts", "mpeg": "mpeg"}
COLOR_FIELDS = {
    "range": "color_range",
    "matrix": "color_space",
    "primaries": "color_primaries",
    "transfer": "color_transfer",
}
UNSET = frozenset({None, "unknown", "unspecified", "reserved", "N/A", "und"})
KEPT_TAGS = ("title", "comment", "creation_time", "artist", "album", "composer", "date", "genre", "copyright")
TECHNICAL_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
SAME_LAYOUT = {"nv12": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "p010le": "yuv420p10le"}
MILLISECOND = Fraction(1, 1000)
THUMBNAIL_PX = 160
BLOCK_PX = 8
WINDOW_FRAMES = 12
SHOWN_PER_FAULT = 3


@dataclass(frozen=True)
class Limits:
    """How far a thumbnail of the output may lie from that of the source; all in 8-bit code values.

    The defaults were set with x264 and VP9 at crf 18 and 30 on 20 clips, and leave some room to all of them.

    Attributes:
        frame_mse: Upper bound of a frame's luma MSE (30 is 33 dB); chroma planes may have twice as much.
        frame_mse_share: Upper bound of the luma MSE as a share of the source frame's variance ...
        frame_mse_floor: ... which is not asked of frames that are as good as flat.
        block: Largest difference of the mean of any 8x8 block: a tile that is wrong or missing.
        drift: Largest difference of the film's mean Y, U or V: wrong range, wrong matrix, planes swapped.
        twin_mse: A neighbour may be closer by this much, or by half the film's usual MSE if that is more:
            encoders repeat blocks where little moves.
        run_twin_mse: The same for the mean over a run of frames, where chance cancels.
        run_frames: Frames in a run: long enough for slow films, short enough to find one shifted segment.
    """

    frame_mse: float = 30.0
    frame_mse_share: float = 0.25
    frame_mse_floor: float = 4.0
    block: float = 16.0
    drift: float = 0.75
    twin_mse: float = 0.1
    run_twin_mse: float = 0.03
    run_frames: int = 24


class Fault(NamedTuple):
    """What is wrong, under a short key (`pts`, `audio:1`, `chapters`) that `expect_missing` can name."""

    key: str
    text: str


@dataclass
class Film:
    """One file as ffprobe and ffmpeg see it; `y`, `u`, `v` are float32 thumbnails of shape (frames, h, w)."""

    path: Path
    family: str
    format: dict[str, Any]
    main: dict[str, Any]
    first_frame: dict[str, Any]
    others: dict[str, list[dict[str, Any]]]
    chapters: list[dict[str, Any]]
    packets: dict[int, list[dict[str, Any]]]
    time_base: Fraction
    pts: list[int | None] = field(default_factory=list)
    y: np.ndarray = field(default_factory=lambda: np.empty((0, 1, 1), np.float32))
    u: np.ndarray = field(default_factory=lambda: np.empty((0, 1, 1), np.float32))
    v: np.ndarray = field(default_factory=lambda: np.empty((0, 1, 1), np.float32))
    errors: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored, before rotation."""
        return int(self.main["width"]), int(self.main["height"])

    @property
    def start_s(self) -> Fraction:
        """Time of the first displayed frame."""
        return min((pts for pts in self.pts if pts is not None), default=0) * self.time_base


@dataclass
class Verdict:
    """Faults (empty: the output is good), notes (things to know) and the measured figures of one pair."""

    source: Path
    output: Path
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def fault(self, key: str, text: str) -> None:
        """Adds a fault."""
        self.faults.append(Fault(key, text))

    def fault_each(self, key: str, texts: Sequence[str]) -> None:
        """Adds one fault that quotes the first few of `texts`; none if there are none."""
        if texts:
            more = len(texts) - SHOWN_PER_FAULT
            tail = f" ... and {more} more" if more > 0 else ""
            self.fault(key, "; ".join(texts[:SHOWN_PER_FAULT]) + tail)


class UnreadableError(Exception):
    """ffprobe or ffmpeg cannot read a film at all."""


def have_ffmpeg() -> bool:
    """Whether both programs are installed."""
    return all(shutil.which(name) for name in ("ffmpeg", "ffprobe"))


# What ffprobe and ffmpeg say


def read_film(path: Path, thumbnail: tuple[int, int] | None = None) -> Film:
    """Probes and decodes `path`; thumbnails have the given width and height, by default about 160 px long."""
    film = _probe(path)
    _decode(film, thumbnail or thumbnail_size(*film.size))
    return film


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """`width` x `height` divided so that the longer side is about `THUMBNAIL_PX`; never enlarged."""
    divisor = max(1, round(max(width, height) / THUMBNAIL_PX))
    return max(1, round(width / divisor)), max(1, round(height / divisor))


def _ffprobe(path: Path, *options: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", *options, "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise UnreadableError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
    answer: dict[str, Any] = json.loads(done.stdout.decode(errors="replace"))
    return answer


def _probe(path: Path) -> Film:
    wanted = (
        "format:stream:chapter:packet_side_data:"
        "packet=stream_index,pts,pts_time,duration,duration_time,size,flags,data_hash"
    )
    found = _ffprobe(path, "-show_data_hash", "sha256", "-show_chapters", "-show_entries", wanted)
    streams = found.get("streams", [])
    videos = [s for s in streams if kind_of(s) == "video"]
    if not videos:
        raise UnreadableError(f"{path}: no video stream")
    main = videos[0]
    others: dict[str, list[dict[str, Any]]] = {}
    for stream in streams:
        if stream is not main and not _is_chapter_track(stream):
            others.setdefault(kind_of(stream), []).append(stream)
    packets: dict[int, list[dict[str, Any]]] = {}
    for packet in found.get("packets", []):
        packets.setdefault(packet["stream_index"], []).append(packet)
    only_main = ("-select_streams", str(main["index"]))
    first = _ffprobe(path, *only_main, "-read_intervals", "%+#1", "-show_entries", "frame:frame_side_data")
    demuxer = found["format"]["format_name"].split(",")[0]
    return Film(
        path=path,
        family=FAMILIES.get(demuxer, demuxer),
        format=found["format"],
        main=main,
        first_frame=next(iter(first.get("frames", [])), {}),
        others=others,
        chapters=found.get("chapters", []),
        packets=packets,
        time_base=Fraction(main["time_base"]),
    )


def kind_of(stream: Mapping[str, Any]) -> str:
    """`video`, `audio`, `subtitle`, `data`, `attachment`, or `cover` for a picture that is attached."""
    is_cover = stream.get("disposition", {}).get("attached_pic")
    return "cover" if is_cover else str(stream.get("codec_type", "data"))


def _is_chapter_track(stream: Mapping[str, Any]) -> bool:
    """MP4 keeps chapter titles in a text track; ffprobe shows it as data, and as chapters besides."""
    return stream.get("codec_type") == "data" and stream.get("codec_tag_string") == "text"


def _decode(film: Film, thumbnail: tuple[int, int]) -> None:
    """Fills pts, thumbnails and decode errors from one pass of ffmpeg.

    Equal ranges on both sides of `scale` keep code values as they are stored, whatever the tags say; 16
    bits keep the fractions of the mean. `-copyts` keeps the pts of the file, and the demuxer applies the edit
    list, so these are the displayed frames.
    """
    width, height = thumbnail
    flags = "area+accurate_rnd+full_chroma_int+full_chroma_inp"
    shrink = f"scale={width}:{height}:flags={flags}:in_range=tv:out_range=tv"
    chain = f"{shrink},format=yuv444p16le,showinfo=checksum=0"
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-threads", "2"]
    command += ["-noautorotate", "-copyts", "-i", str(film.path), "-map", f"0:{film.main['index']}"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "-1", "-vf", chain, "-f", "rawvideo", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    log = done.stderr.decode(errors="replace")
    # What the raw muxer says is about the clock of its own output.
    complaints = re.compile(r"^(?!\[rawvideo ).*\[(error|fatal|panic)\]")
    film.errors = [line for line in log.splitlines() if complaints.match(line)]
    if clock := re.search(r"config in time_base: (\d+/\d+)", log):
        film.time_base = Fraction(clock[1])
    shown = re.findall(r"\] n: *\d+ pts: *(-?\d+|NOPTS)", log)
    film.pts = [None if pts == "NOPTS" else int(pts) for pts in shown]
    planes = np.frombuffer(done.stdout, "<u2").reshape(-1, 3, height, width)
    if len(planes) != len(film.pts):
        raise UnreadableError(f"{film.path}: ffmpeg wrote {len(planes)} frames and told of {len(film.pts)}")
    film.y, film.u, film.v = (planes[:, i].astype(np.float32) / 256 for i in range(3))


# Frames and their times


def rescale(pts: int, clock: Fraction, to_clock: Fraction) -> int:
    """`pts` in another clock, halves away from zero, as the muxers round."""
    exact = pts * clock / to_clock
    nearest = floor(abs(exact) + Fraction(1, 2))
    return nearest if exact >= 0 else -nearest


def check_frames(source: Film, output: Film, verdict: Verdict) -> None:
    """As many frames as in the source, each at its own time; all packets of the output can be displayed."""
    counted = len(source.pts), len(output.pts)
    verdict.figures["frames"] = counted
    if not counted[0]:
        verdict.fault("source", "ffmpeg decodes no frame of the source")
    if counted[0] != counted[1]:
        verdict.fault("frames", f"source shows {counted[0]} frames, output {counted[1]}")
    stored = len(output.packets.get(output.main["index"], []))
    if stored != counted[1] and output.main["codec_name"] != "vp8":  # VP8 has packets that are not displayed
        verdict.fault("packets", f"output stores {stored} video packets but shows {counted[1]} frames")
    if output.errors:
        verdict.fault("decode", f"output does not decode cleanly: {output.errors[0]}")
    if source.errors:
        verdict.notes.append(f"source does not decode cleanly: {source.errors[0]}")
    _check_times(source, output, verdict)


def _check_times(source: Film, output: Film, verdict: Verdict) -> None:
    if None in output.pts:
        verdict.fault("pts", f"output frame {output.pts.index(None)} has no pts")
        return
    if None in source.pts:
        verdict.notes.append("source has frames without pts: times are not compared")
        return
    actual = [pts for pts in output.pts if pts is not None]
    wanted = [rescale(pts, source.time_base, output.time_base) for pts in source.pts if pts is not None]
    if len(actual) != len(wanted):
        _name_missing_times(wanted, actual, output.time_base, verdict)
    elif actual:
        _compare_times(wanted, actual, source, output, verdict)


def _compare_times(
    wanted: list[int], actual: list[int], source: Film, output: Film, verdict: Verdict
) -> None:
    """Tells a film that is shifted as a whole (another container may do that) from single frames that are."""
    errors = [got - want for got, want in zip(actual, wanted, strict=True)]
    usual, times = Counter(errors).most_common(1)[0]
    shift = usual if 2 * times > len(errors) else 0
    is_other_container = source.family != output.family
    if shift:
        text = f"the whole film is shifted by {_ms(shift * output.time_base):+.3f} ms ({shift} ticks)"
        verdict.notes.append(text) if is_other_container else verdict.fault("shift", text)
    exact_s = [pts * source.time_base for pts in source.pts if pts is not None]
    off_s = [abs(got * output.time_base - want) for got, want in zip(actual, exact_s, strict=True)]
    verdict.figures["shift_ms"] = round(_ms(shift * output.time_base), 4)
    verdict.figures["max_pts_error_ticks"] = max(map(abs, errors))
    verdict.figures["max_pts_error_ms"] = round(_ms(max(off_s)), 4)
    # A shift between two clocks is rounded for each frame.
    slack_ticks = 1 if shift and is_other_container else 0
    verdict.fault_each(
        "pts",
        [
            f"frame {n} is at {actual[n]}, expected {wanted[n] + shift} (x {output.time_base} s)"
            for n, error in enumerate(errors)
            if abs(error - shift) > slack_ticks
        ],
    )


def _name_missing_times(wanted: list[int], actual: list[int], clock: Fraction, verdict: Verdict) -> None:
    missing = sorted((Counter(wanted) - Counter(actual)).elements())
    extra = sorted((Counter(actual) - Counter(wanted)).elements())
    verdict.fault_each("pts", [f"no frame at pts {pts} ({float(pts * clock):.4f} s)" for pts in missing])
    verdict.fault_each("pts", [f"frame too many at pts {pts} ({float(pts * clock):.4f} s)" for pts in extra])


def _ms(seconds: Fraction) -> float:
    return float(seconds * 1000)


# Size, colour, rotation


def check_picture_facts(
    source: Film, output: Film, scale: Fraction, expected_color: Mapping[str, str], verdict: Verdict
) -> None:
    """Size, pixel format, colour tags, HDR metadata, pixel aspect and rotation."""
    _check_size(source, output, scale, verdict)
    before, after = pixel_layout(source.main["pix_fmt"]), pixel_layout(output.main["pix_fmt"])
    verdict.figures["pix_fmt"] = (source.main["pix_fmt"], output.main["pix_fmt"])
    if before != after:
        verdict.fault("pix_fmt", f"is {output.main['pix_fmt']}, source has {source.main['pix_fmt']}")
    _check_color(source, output, expected_color, verdict)
    _check_hdr(source, output, verdict)
    _check_aspect(source, output, verdict)
    _check_rotation(source, output, verdict)


def _check_size(source: Film, output: Film, scale: Fraction, verdict: Verdict) -> None:
    verdict.figures["size"] = (source.size, output.size)
    for side, before, after in zip(("width", "height"), source.size, output.size, strict=True):
        if after not in (floor(before * scale), ceil(before * scale)):
            verdict.fault("size", f"{side} {after}, expected {before} x {scale} = {before * scale}")


def pixel_layout(pix_fmt: str) -> str:
    """The pixel format without what does not matter: `yuvj420p` and `nv12` are laid out as `yuv420p` is."""
    plain = pix_fmt.replace("yuvj", "yuv")
    return SAME_LAYOUT.get(plain, plain)


def color_tags(film: Film) -> dict[str, str | None]:
    """Range, matrix, primaries and transfer, of the stream or else of its first frame; None where unset."""
    tags = {}
    for name, probe_field in COLOR_FIELDS.items():
        values = (film.main.get(probe_field), film.first_frame.get(probe_field))
        tags[name] = next((value for value in values if value not in UNSET), None)
    if film.main["pix_fmt"].startswith("yuvj"):
        tags["range"] = "pc"
    return tags


def _check_color(source: Film, output: Film, expected_color: Mapping[str, str], verdict: Verdict) -> None:
    before, after = color_tags(source), color_tags(output)
    verdict.figures["color"] = {name: (before[name], after[name]) for name in COLOR_FIELDS}
    untagged = []
    for name, probe_field in COLOR_FIELDS.items():
        want = before[name] or expected_color.get(name)
        in_frame = output.first_frame.get(probe_field)
        if want is None:
            untagged.append(f"{name} ({after[name] or 'nor in the output'})")
        elif after[name] != want and not _is_implied_alias(source, probe_field, after[name], want):
            reason = "source has" if before[name] else "expected"
            verdict.fault("color", f"{name} is {after[name] or 'not tagged'}, {reason} {want}")
        elif in_frame not in UNSET and in_frame != after[name]:
            verdict.fault("color", f"{name}: container says {after[name]}, frames say {in_frame}")
    if untagged:
        verdict.notes.append(f"not tagged in the source (in brackets: the output): {', '.join(untagged)}")
    _check_siting(source, output, verdict)


def _check_siting(source: Film, output: Film, verdict: Verdict) -> None:
    want, got = (
        film.first_frame.get("chroma_location") or film.main.get("chroma_location")
        for film in (source, output)
    )
    if want not in UNSET and got != want:
        text = f"chroma siting is {got or 'not tagged'}, source has {want}"
        # Not every codec can say `left`, which is what players take for granted.
        verdict.notes.append(text) if got in UNSET else verdict.fault("color", text)


def _is_implied_alias(source: Film, probe_field: str, got: str | None, want: str) -> bool:
    """VP8 has no tags, its decoder answers `bt470bg`: the same matrix as `smpte170m`, which will do."""
    implied = source.main.get(probe_field) in UNSET
    return implied and probe_field == "color_space" and {got, want} == {"bt470bg", "smpte170m"}


def _side_data(film: Film, kind: str) -> dict[str, Any]:
    listed = [*film.main.get("side_data_list", []), *film.first_frame.get("side_data_list", [])]
    return next((data for data in listed if data.get("side_data_type", "").lower() == kind.lower()), {})


def _check_hdr(source: Film, output: Film, verdict: Verdict) -> None:
    for kind in ("Mastering display metadata", "Content light level metadata"):
        before, after = _side_data(source, kind), _side_data(output, kind)
        if before and not after:
            verdict.fault("hdr", f"{kind} is lost")
        for name in before.keys() & after.keys() - {"side_data_type"}:
            want, got = Fraction(before[name]), Fraction(after[name])
            # AV1 and HEVC store these in different units.
            if abs(want - got) > max(Fraction(1, 10_000), abs(want) / 1000):
                verdict.fault("hdr", f"{kind}: {name} is {float(got)}, source has {float(want)}")


def _check_aspect(source: Film, output: Film, verdict: Verdict) -> None:
    before, after = (pixel_aspect(film) for film in (source, output))
    verdict.figures["sar"] = (str(before), str(after))
    # Matroska stores the displayed size in whole pixels.
    slack = before / 1000 if output.family == "matroska" else 0
    if abs(before - after) > slack:
        verdict.fault("sar", f"sample aspect ratio is {after}, source has {before}")


def pixel_aspect(film: Film) -> Fraction:
    """The sample aspect ratio; unset is 1."""
    text = film.main.get("sample_aspect_ratio") or film.first_frame.get("sample_aspect_ratio") or "N/A"
    if text in UNSET:
        return Fraction(1)
    across, down = map(int, text.split(":"))
    return Fraction(across, down) if across and down else Fraction(1)


def _check_rotation(source: Film, output: Film, verdict: Verdict) -> None:
    before, after = rotation(source), rotation(output)
    verdict.figures["rotation"] = (before, after)
    if before != after:
        verdict.fault("rotation", f"display matrix is {after}, source has {before}")


def rotation(film: Film) -> tuple[int, ...]:
    """The linear part (a, b, c, d) of the display matrix in units of 1/65536; identity where there is none.

    The translation is left out: it is in pixels, and grows with the picture.
    """
    matrix = _side_data(film, "Display Matrix").get("displaymatrix", "")
    rows = re.findall(r"\d{8}: +(-?\d+) +(-?\d+)", matrix)
    if len(rows) < 2:
        return (65536, 0, 0, 65536)
    (a, b), (c, d) = rows[:2]
    return int(a), int(b), int(c), int(d)


# Sound, subtitles, covers, attachments


def check_other_streams(source: Film, output: Film, verdict: Verdict) -> None:
    """Every other stream of the source is in the output, in the order of its kind, with the same packets."""
    kinds = sorted({*source.others, *output.others})
    totals = Counter[str]()
    for kind in kinds:
        before, after = source.others.get(kind, []), output.others.get(kind, [])
        for n, (mine, theirs) in enumerate(zip_longest(before, after)):
            key = f"{kind}:{n}"
            if theirs is None:
                verdict.fault(key, f"{mine.get('codec_name', '?')} stream is lost")
            elif mine is None:
                verdict.fault(key, f"{theirs.get('codec_name', '?')} stream is not in the source")
            else:
                _check_stream(key, (source, mine), (output, theirs), verdict)
                totals[kind] += len(output.packets.get(theirs["index"], []))
    verdict.figures["packets"] = dict(totals)
    same_family = source.family == output.family
    _check_stream_tags("video", source.main, output.main, same_family, verdict)


def _check_stream(
    key: str, before: tuple[Film, dict[str, Any]], after: tuple[Film, dict[str, Any]], verdict: Verdict
) -> None:
    (source, mine), (output, theirs) = before, after
    for name in ("codec_name", "sample_rate", "channels", "width", "height"):
        if mine.get(name) != theirs.get(name):
            verdict.fault(key, f"{name} is {theirs.get(name)}, source has {mine.get(name)}")
    same_family = source.family == output.family
    _check_header(key, mine, theirs, same_family, verdict)
    _check_stream_tags(key, mine, theirs, same_family, verdict)
    ours, out = source.packets.get(mine["index"], []), output.packets.get(theirs["index"], [])
    if same_payload(key, ours, out, verdict) and kind_of(mine) in ("audio", "subtitle", "video"):
        _check_stream_times(key, before, after, verdict)
        if same_family:
            _check_trimming(key, ours, out, verdict)


def _check_header(
    key: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], same_family: bool, verdict: Verdict
) -> None:
    """The codec's header, which is also where Matroska keeps the bytes of an attachment."""
    if mine.get("extradata_hash") == theirs.get("extradata_hash"):
        return
    text = "codec header or attachment differs"
    # Containers store headers in different forms, and MP4 text tracks have the size of the picture in theirs.
    is_rewritten = not same_family or mine.get("codec_name") == "mov_text"
    is_attachment = mine.get("codec_type") == "attachment"
    is_fault = is_attachment or not is_rewritten
    verdict.fault(key, text) if is_fault else verdict.notes.append(f"{key}: {text}")


def same_payload(key: str, ours: list[dict[str, Any]], out: list[dict[str, Any]], verdict: Verdict) -> bool:
    """Whether both have as many packets with the same bytes; otherwise tells what differs."""
    if len(ours) != len(out):
        verdict.fault(key, f"{len(out)} packets, source has {len(ours)}")
        return False
    pairs = zip(ours, out, strict=True)
    differing = [n for n, (mine, theirs) in enumerate(pairs) if mine["data_hash"] != theirs["data_hash"]]
    verdict.fault_each(key, [f"payload of packet {n} differs" for n in differing])
    return not differing


def _check_stream_tags(
    key: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], same_family: bool, verdict: Verdict
) -> None:
    before, after = _tags(mine), _tags(theirs)
    for name in ("language", "title", "filename", "mimetype"):
        want, got = (tags.get(name) for tags in (before, after))
        if want not in UNSET and got != want:
            verdict.fault(key, f"{name} is {got!r}, source has {want!r}")
    flags, flags_now = _dispositions(mine), _dispositions(theirs)
    if flags != flags_now:
        text = f"dispositions {sorted(flags_now)}, source has {sorted(flags)}"
        # Another container knows other flags; what it cannot hold is for the job's own report to tell.
        verdict.fault(key, text) if same_family else verdict.notes.append(f"{key}: {text}")


def _tags(part: Mapping[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in part.get("tags", {}).items()}


def _dispositions(stream: Mapping[str, Any]) -> set[str]:
    return {name for name, is_set in stream.get("disposition", {}).items() if is_set}


def _check_stream_times(
    key: str, before: tuple[Film, dict[str, Any]], after: tuple[Film, dict[str, Any]], verdict: Verdict
) -> None:
    """Times against the first displayed frame: those of the first packet, then those of all."""
    ours, out = (_times_s(film, stream) for film, stream in (before, after))
    pairs = [(a, b) for a, b in zip(ours, out, strict=True) if a is not None and b is not None]
    if not pairs:
        return
    moved = [b - a for a, b in pairs]
    if key.startswith("audio"):
        verdict.figures.setdefault("av_offset_change_ms", {})[key] = round(_ms(moved[0]), 4)
    if abs(moved[0]) > MILLISECOND:
        text = f"starts {_ms(moved[0]):+.3f} ms off against the picture"
        verdict.fault(key, f"{text} ({_ms(pairs[0][1]):.3f} ms, source {_ms(pairs[0][0]):.3f} ms)")
    else:
        late = [n for n, shift in enumerate(moved) if abs(shift) > MILLISECOND]
        verdict.fault_each(key, [f"packet {n} is {_ms(moved[n]):+.3f} ms off" for n in late])
    if key.startswith("subtitle"):
        _check_durations(key, before, after, verdict)


def _times_s(film: Film, stream: Mapping[str, Any]) -> list[Fraction | None]:
    clock = Fraction(stream["time_base"])
    listed = film.packets.get(stream["index"], [])
    return [p["pts"] * clock - film.start_s if "pts" in p else None for p in listed]


def _check_durations(
    key: str, before: tuple[Film, dict[str, Any]], after: tuple[Film, dict[str, Any]], verdict: Verdict
) -> None:
    lasting = [
        [p.get("duration", 0) * Fraction(stream["time_base"]) for p in film.packets.get(stream["index"], [])]
        for film, stream in (before, after)
    ]
    verdict.fault_each(
        key,
        [
            f"packet {n} lasts {_ms(b):.0f} ms, in the source {_ms(a):.0f} ms"
            for n, (a, b) in enumerate(zip(*lasting, strict=True))
            if abs(a - b) > MILLISECOND
        ],
    )


def _check_trimming(
    key: str, ours: list[dict[str, Any]], out: list[dict[str, Any]], verdict: Verdict
) -> None:
    """Samples that a player throws away at the start (encoder delay) and at the end (padding)."""
    for what in ("skip_samples", "discard_padding"):
        want, got = (
            sum(int(data.get(what, 0)) for p in packets for data in p.get("side_data_list", []))
            for packets in (ours, out)
        )
        if want != got:
            verdict.fault(key, f"{what} is {got}, source has {want}")


# Chapters and container metadata


def check_metadata(source: Film, output: Film, verdict: Verdict) -> None:
    """Chapters with their times and titles, and what the container says about the whole film."""
    verdict.figures["chapters"] = (len(source.chapters), len(output.chapters))
    if len(source.chapters) != len(output.chapters):
        verdict.fault("chapters", f"{len(output.chapters)} chapters, source has {len(source.chapters)}")
    for n, (mine, theirs) in enumerate(zip(source.chapters, output.chapters, strict=False)):
        faults = _chapter_faults(n, mine, theirs, source.start_s, output.start_s)
        if source.family != output.family and not _chapter_faults(n, mine, theirs, Fraction(0), Fraction(0)):
            verdict.notes += [f"kept as it was, not shifted with the picture: {text}" for text in faults]
        else:
            verdict.fault_each("chapters", faults)
    before, after = _tags(source.format), _tags(output.format)
    for name in (name for name in KEPT_TAGS if name in before):
        want, got = (_plain_date(name, tags.get(name)) for tags in (before, after))
        if want not in (None, got):
            verdict.fault(f"metadata:{name}", f"is {after.get(name)!r}, source has {before[name]!r}")
    if lost := sorted(before.keys() - after.keys() - {*KEPT_TAGS, *TECHNICAL_TAGS}):
        verdict.notes.append(f"further metadata not in the output: {', '.join(lost)}")


def _chapter_faults(
    n: int, mine: Mapping[str, Any], theirs: Mapping[str, Any], start_s: Fraction, out_start_s: Fraction
) -> list[str]:
    """Chapters belong to the picture: their times count from the first displayed frame."""
    faults = []
    for edge in ("start", "end"):
        want = mine[edge] * Fraction(mine["time_base"]) - start_s
        got = theirs[edge] * Fraction(theirs["time_base"]) - out_start_s
        if abs(got - want) > MILLISECOND:
            faults.append(f"chapter {n}: {edge} is {float(got):.3f} s, source has {float(want):.3f} s")
    want, got = _tags(mine).get("title"), _tags(theirs).get("title")
    if want != got:
        faults.append(f"chapter {n}: title is {got!r}, source has {want!r}")
    return faults


def _plain_date(name: str, value: str | None) -> str | None:
    """Old QuickTime files write `2016-05-31 17:01:35`, others ISO 8601; a clock at zero was never set."""
    if name != "creation_time" or value is None:
        return value
    plain = re.sub(r"\.0+Z?$|Z$", "", value.replace(" ", "T"))
    return None if plain.startswith(("1970-01-01T00:00:00", "1904-01-01T00:00:00")) else plain


# What is in the frames


def check_content(source: Film, output: Film, limits: Limits, verdict: Verdict) -> None:
    """Each output frame looks like the source frame of the same number, more so than like any neighbour.

    A frame that looks like another source frame is told as out of order, one that looks like none as wrong,
    and the film's mean colour is taken over the frames that are neither.
    """
    count = min(len(source.y), len(output.y))
    if not count:
        return
    allowed = _allowed_mse(source.y[:count], limits)
    in_order = _check_order(source.y, output.y[:count], allowed, limits, verdict)
    alike = _check_likeness(source, output, in_order, allowed, limits, verdict)
    if alike.any():
        _check_drift(source, output, alike, limits, verdict)


def _allowed_mse(source_y: np.ndarray, limits: Limits) -> np.ndarray:
    share = limits.frame_mse_share * source_y.var((1, 2))
    allowed: np.ndarray = np.minimum(limits.frame_mse, np.maximum(share, limits.frame_mse_floor))
    return allowed


def _check_likeness(
    source: Film, output: Film, in_order: np.ndarray, allowed: np.ndarray, limits: Limits, verdict: Verdict
) -> np.ndarray:
    """Compares the frames that are in order: luma, colour planes, parts; returns which are alike."""
    count = len(in_order)
    y, u, v = (getattr(output, name)[:count] - getattr(source, name)[:count] for name in "yuv")
    chroma = np.full(count, 2 * limits.frame_mse)
    blocks = np.abs(block_means(y)).max((1, 2))
    alike = in_order.copy()
    for what, distance, bound in (
        ("luma MSE", (y**2).mean((1, 2)), allowed),
        ("U MSE", (u**2).mean((1, 2)), chroma),
        ("V MSE", (v**2).mean((1, 2)), chroma),
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
    drift = {}
    chosen = np.flatnonzero(frames)
    for name in "yuv":
        difference = getattr(output, name)[chosen] - getattr(source, name)[chosen]
        drift[name] = round(float(difference.mean(dtype=np.float64)), 3)
        if abs(drift[name]) > limits.drift:
            verdict.fault("drift", f"mean {name.upper()} is off by {drift[name]:+.2f} of 255")
    verdict.figures["drift"] = drift


# The whole check


def compare(
    source: Film,
    output: Film,
    scale: Fraction | int,
    *,
    expected_color: Mapping[str, str] | None = None,
    expect_missing: Collection[str] = (),
    limits: Limits | None = None,
) -> Verdict:
    """All checks over two films that were read with thumbnails of one size; see `check_output`."""
    verdict = Verdict(source.path, output.path)
    check_frames(source, output, verdict)
    check_picture_facts(source, output, Fraction(scale), expected_color or {}, verdict)
    check_other_streams(source, output, verdict)
    check_metadata(source, output, verdict)
    check_content(source, output, limits or Limits(), verdict)
    _excuse(expect_missing, verdict)
    return verdict


def measure(
    source: Path,
    output: Path,
    scale: Fraction | int,
    *,
    expected_color: Mapping[str, str] | None = None,
    expect_missing: Collection[str] = (),
    limits: Limits | None = None,
) -> Verdict:
    """Reads both and returns faults, notes and figures; see `check_output`."""
    try:
        mine = read_film(source)
        theirs = read_film(output, thumbnail_size(*mine.size))
    except UnreadableError as error:
        return Verdict(source, output, [Fault("unreadable", str(error))])
    return compare(
        mine, theirs, scale, expected_color=expected_color, expect_missing=expect_missing, limits=limits
    )


def _excuse(expect_missing: Collection[str], verdict: Verdict) -> None:
    """Turns expected faults into notes; what was said to be missing and is there is a fault: the job lied."""
    found = {fault.key for fault in verdict.faults}
    excused = [fault for fault in verdict.faults if fault.key in expect_missing]
    verdict.faults = [fault for fault in verdict.faults if fault.key not in expect_missing]
    verdict.notes += [f"as expected: {fault.text}" for fault in excused]
    for key in sorted(set(expect_missing) - found):
        verdict.fault(key, f"{key} was expected to be missing or changed, but is not")


def check_output(
    source: Path,
    output: Path,
    scale: Fraction | int,
    *,
    expected_color: Mapping[str, str] | None = None,
    expect_missing: Collection[str] = (),
    limits: Limits | None = None,
) -> list[str]:
    """What is wrong with `output` as the upscaled `source`, one readable line each; empty if it is good.

    Args:
        source: The film that was upscaled.
        output: What came out.
        scale: Size of the output over that of the source.
        expected_color: Tags that the output must have where the source has none: `range`, `matrix`,
            `primaries`, `transfer`, with ffprobe's names as values (`tv`, `bt709`).
        expect_missing: Keys of faults that are known and told: `subtitle:0`, `cover:0`, `chapters`, `shift`,
            `metadata:comment`. Such a thing that is not missing after all is a fault.
        limits: How much frames may differ from the source's, for models that change the picture.
    """
    verdict = measure(
        source, output, scale, expected_color=expected_color, expect_missing=expect_missing, limits=limits
    )
    return [f"{fault.key}: {fault.text}" for fault in verdict.faults]


# The command line


def pair_films(source: Path, output: Path) -> tuple[list[tuple[Path, Path | None]], list[Path]]:
    """Each film of `source` with its output (None if there is none), and the outputs that have no source."""
    if source.is_file():
        return [(source, output if output.is_file() else None)], []
    made: dict[str, list[Path]] = {}
    for path in _films(output):
        made.setdefault(str(path.relative_to(output).with_suffix("")), []).append(path)
    pairs: list[tuple[Path, Path | None]] = []
    for path in _films(source):
        candidates = made.get(str(path.relative_to(source).with_suffix("")), [])
        # Two sources may differ in their suffix alone.
        best = next((c for c in candidates if c.suffix == path.suffix), next(iter(candidates), None))
        if best:
            candidates.remove(best)
        pairs.append((path, best))
    return pairs, [path for rest in made.values() for path in rest]


def _films(folder: Path) -> list[Path]:
    inside = (path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in FILM_SUFFIXES)
    return sorted(p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts))


COLUMNS = {
    "file": 36,
    "frames": 9,
    "pts error": 15,
    "packets": 20,
    "a/v ms": 7,
    "size": 20,
    "tags out": 31,
    "margin worst/typical": 20,
    "MSE": 6,
    "drift YUV": 17,
    "": 3,
}


def table_row(verdict: Verdict) -> str:
    """One line of the table."""
    figures = verdict.figures
    if "frames" not in figures:
        return _columns([verdict.source.name, *[""] * (len(COLUMNS) - 2), "BAD"])
    (width, height), (out_width, out_height) = figures["size"]
    tags = [after or "-" for _, after in figures["color"].values()]
    moved = figures.get("av_offset_change_ms", {}).values()
    cells = [
        verdict.source.name,
        "/".join(map(str, figures["frames"])),
        f"{figures.get('max_pts_error_ms', '?')} ms {figures.get('max_pts_error_ticks', '?')} t",
        " ".join(f"{kind[:3]} {count}" for kind, count in figures["packets"].items()) or "-",
        f"{max(moved, key=abs):.3f}" if moved else "-",
        f"{width}x{height}>{out_width}x{out_height}",
        "/".join(tags),
        f"{figures.get('worst_margin', '-')} / {figures.get('typical_margin', '-')}",
        str(figures.get("max luma MSE", "-")),
        " ".join(f"{value:+.2f}" for value in figures.get("drift", {}).values()),
        "BAD" if verdict.faults else "ok",
    ]
    return _columns(cells)


def _columns(cells: Sequence[str]) -> str:
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True)).rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks a folder or a file; returns 1 on any fault, 2 where there is nothing to check or no ffmpeg."""
    parser = argparse.ArgumentParser(description="Independent check of upscaled films against their sources.")
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=Fraction, default=Fraction(2))
    parser.add_argument("--only", nargs="*", help="names or stems of the sources to check (default: all)")
    example = '{"stem": {"color": {"range": "tv"}, "missing": ["audio:1"]}}'
    parser.add_argument("--expect", type=Path, help=f"JSON file with what is expected: {example}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--notes", action="store_true", help="print notes too")
    options = parser.parse_args(arguments)
    if not have_ffmpeg():
        print("ffmpeg and ffprobe are needed", file=sys.stderr)
        return 2
    expected = json.loads(options.expect.read_text()) if options.expect else {}
    pairs, extra = pair_films(options.source, options.output)
    if options.only:
        pairs = [(film, out) for film, out in pairs if {film.name, film.stem} & set(options.only)]
        extra = []
    if not options.json:
        print(_columns(list(COLUMNS)))
    verdicts = []
    for film, out in pairs:
        verdict = _judge(film, out, options.scale, expected.get(film.stem, {}))
        verdicts.append(verdict)
        if not options.json:
            _print(verdict, options.notes)
    for path in extra:
        verdicts.append(Verdict(Path("-"), path, [Fault("extra", f"{path} has no source")]))
        if not options.json:
            _print(verdicts[-1], options.notes)
    if options.json:
        print(json.dumps([_as_json(verdict) for verdict in verdicts], indent=1))
    if not pairs:
        print("no film found", file=sys.stderr)
        return 2
    return 1 if any(verdict.faults for verdict in verdicts) else 0


def _judge(film: Path, out: Path | None, scale: Fraction, expected: Mapping[str, Any]) -> Verdict:
    if out is None:
        return Verdict(film, Path("-"), [Fault("missing", f"{film.name} has no output")])
    return measure(
        film, out, scale, expected_color=expected.get("color"), expect_missing=expected.get("missing", ())
    )


def _print(verdict: Verdict, with_notes: bool) -> None:
    print(table_row(verdict))
    for fault in verdict.faults:
        print(f"    FAULT {fault.key}: {fault.text}")
    for note in verdict.notes if with_notes else ():
        print(f"    note {note}")
    sys.stdout.flush()


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "source": str(verdict.source),
        "output": str(verdict.output),
        "faults": [fault._asdict() for fault in verdict.faults],
        "notes": verdict.notes,
        "figures": verdict.figures,
    }


if __name__ == "__main__":
    sys.exit(main())
