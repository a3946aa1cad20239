"""What ffprobe and ffmpeg say of one film: its streams, packets, frames and small pictures of all frames.

Each film is read with three commands: one `ffprobe` of all packets with the hash of each payload, one
`ffprobe` of the first frame, and one `ffmpeg` decode that gives every displayed frame as a thumbnail and its
facts. Thumbnails of all frames of both films are kept in memory, about 170 KB a frame of 16:9, and several
times that while they are compared: this is for clips; of a long film, check a part that is cut out of both.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FAMILIES = {"mov": "mp4", "matroska": "matroska", "mpegts": "mpegts", "mpeg": "mpeg"}
UNSET = frozenset({None, "unknown", "unspecified", "reserved", "N/A", "und"})
ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}  # FFmpeg's own decoders leave the alpha out
THUMBNAIL_PX = 160
_SHRINK = "flags=area+accurate_rnd+full_chroma_int+full_chroma_inp"
_IN_LOG = re.compile(
    r"(?P<corrupt>corrupt decoded frame)"
    r"|\] n: *\d+ pts: *(?P<pts>-?\d+|NOPTS).* fmt:(?P<fmt>\w+) .* s:(?P<width>\d+)x(?P<height>\d+)"
    r" i:(?P<field>\w) iskey:(?P<key>\d)"
)


class UnreadableError(Exception):
    """A file cannot be read at all."""


@dataclass(frozen=True)
class Pixels:
    """What a pixel format can hold; `chroma_w` and `chroma_h` are log2 of the subsampling."""

    depth: int
    num_colors: int
    chroma_w: int
    chroma_h: int
    is_rgb: bool
    has_alpha: bool


class Shown(NamedTuple):
    """One displayed frame; `scan` is P, T or B: progressive, top or bottom field first."""

    size: tuple[int, int]
    pix_fmt: str
    scan: str
    is_key: bool
    is_corrupt: bool


@dataclass(frozen=True)
class Look:
    """How two films are made comparable.

    Attributes:
        is_rgb: Thumbnails are G, B, R by the film's own matrix and range, not Y, U, V as they are stored.
        has_alpha: Alpha is the fourth plane, and the others are premultiplied by it: hidden colours are none.
        deinterlace: An ffmpeg filter that makes frames of fields first.
    """

    is_rgb: bool = False
    has_alpha: bool = False
    deinterlace: str = ""


@dataclass
class Film:
    """One file as ffprobe and ffmpeg see it; `planes` are float32 thumbnails of shape (frames, planes, h, w).

    The planes are in 8-bit code values, ordered as `Look` says. `pts` are those of `shown`, but for fields
    that became frames, where they are the times that these must have. Other streams are timed against
    `origin_s`, which is the first frame that both films have where one lacks its first.
    """

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
    shown: list[Shown] = field(default_factory=list)
    planes: np.ndarray = field(default_factory=lambda: np.empty((0, 3, 1, 1), np.float32))
    errors: list[str] = field(default_factory=list)
    origin_s: Fraction | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored, before rotation."""
        return int(self.main["width"]), int(self.main["height"])

    @property
    def start_s(self) -> Fraction:
        """Time of the first displayed frame, or of the one that stands for it: `origin_s`."""
        if self.origin_s is not None:
            return self.origin_s
        return min((pts for pts in self.pts if pts is not None), default=0) * self.time_base

    @property
    def pixels(self) -> Pixels:
        """What its pixel format holds, with the alpha that WebM keeps beside the stream."""
        pixels = pixels_of(self.main["pix_fmt"])
        return replace(pixels, has_alpha=True) if has_alpha_layer(self.main) else pixels

    @property
    def is_interlaced(self) -> bool:
        """Whether the container or the first frame says so."""
        flagged = self.first_frame.get("interlaced_frame") == 1
        return flagged or self.main.get("field_order") in ("tt", "bb", "tb", "bt")

    def main_packets(self) -> list[dict[str, Any]]:
        """The packets of the main stream that are to be displayed."""
        listed = self.packets.get(self.main["index"], [])
        return [packet for packet in listed if "D" not in packet.get("flags", "")]

    def taken(self, chosen: np.ndarray) -> "Film":
        """The film with only the frames of these numbers."""
        return replace(
            self,
            pts=[self.pts[n] for n in chosen],
            shown=[self.shown[n] for n in chosen],
            planes=self.planes[chosen],
        )


def have_ffmpeg() -> bool:
    """Whether both programs are installed."""
    return all(shutil.which(name) for name in ("ffmpeg", "ffprobe"))


def read_film(path: Path, thumbnail: tuple[int, int] | None = None, look: Look | None = None) -> Film:
    """Probes and decodes `path`; thumbnails have the given width and height, by default about 160 px long."""
    film = probe(path)
    decode(film, thumbnail or thumbnail_size(*film.size), look or Look())
    return film


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """`width` x `height` divided so that the longer side is about `THUMBNAIL_PX`; never enlarged."""
    divisor = max(1, round(max(width, height) / THUMBNAIL_PX))
    return max(1, round(width / divisor)), max(1, round(height / divisor))


def ffprobe(path: Path | None, *options: str) -> dict[str, Any]:
    """What ffprobe answers, of a file or of itself."""
    command = ["ffprobe", "-v", "error", *options, "-of", "json", *([str(path)] if path else [])]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise UnreadableError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
    answer: dict[str, Any] = json.loads(done.stdout.decode(errors="replace"))
    return answer


@cache
def _pixel_formats() -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in ffprobe(None, "-show_pixel_formats")["pixel_formats"]}


def pixels_of(pix_fmt: str) -> Pixels:
    """What ffprobe knows of a pixel format; a palette holds RGB with alpha."""
    found = _pixel_formats().get(pix_fmt)
    if found is None:
        raise UnreadableError(f"ffprobe knows no pixel format {pix_fmt}")
    flags = found["flags"]
    depth = max(component["bit_depth"] for component in found["components"])
    if flags["palette"]:
        return Pixels(depth, 3, 0, 0, is_rgb=True, has_alpha=True)
    return Pixels(
        depth=depth,
        num_colors=found["nb_components"] - bool(flags["alpha"]),
        chroma_w=found.get("log2_chroma_w", 0),
        chroma_h=found.get("log2_chroma_h", 0),
        is_rgb=bool(flags["rgb"]),
        has_alpha=bool(flags["alpha"]),
    )


def tags_of(part: Mapping[str, Any]) -> dict[str, str]:
    """Its tags with names in lower case, without the language that some names end in (`title-eng`)."""
    found = part.get("tags", {}).items()
    return {re.sub(r"-[a-z]{3}$", "", name.lower()): value for name, value in found}


def has_alpha_layer(stream: Mapping[str, Any]) -> bool:
    """Whether VP8 or VP9 keeps its alpha as a second picture beside each packet."""
    return stream.get("codec_name") in ALPHA_DECODERS and tags_of(stream).get("alpha_mode") == "1"


def probe(path: Path) -> Film:
    """All but the pictures of a film."""
    wanted = (
        "format:stream:chapter:packet_side_data:"
        "packet=stream_index,pts,pts_time,duration,duration_time,size,flags,data_hash"
    )
    found = ffprobe(path, "-show_data_hash", "sha256", "-show_chapters", "-show_entries", wanted)
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
    first = ffprobe(path, *only_main, "-read_intervals", "%+#1", "-show_entries", "frame:frame_side_data")
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


def input_options(film: Film) -> list[str]:
    """How ffmpeg opens a film: its times and its pixels as they are stored, on one thread, with its alpha.

    One thread, because what a decoder makes of damage depends on their number.
    """
    decoder = ["-c:v", ALPHA_DECODERS[film.main["codec_name"]]] if has_alpha_layer(film.main) else []
    options = ["-threads", "1", "-noautorotate", "-copyts", *decoder, "-i", str(film.path)]
    return [*options, "-map", f"0:{film.main['index']}", "-fps_mode", "passthrough", "-enc_time_base", "-1"]


def decode(film: Film, thumbnail: tuple[int, int], look: Look) -> None:
    """Fills pts, facts of frames, thumbnails and decode errors from one pass of ffmpeg.

    `showinfo` stands first and so tells the frames as they were decoded, each after the complaint about it.
    `-copyts` keeps the pts of the file, and the demuxer applies the edit list, so these are the displayed
    frames. Frames of any size become thumbnails of one size.
    """
    chain = ",".join(filter(None, ["showinfo=checksum=0", look.deinterlace, _shrinking(thumbnail, look)]))
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    command += [*input_options(film), "-vf", chain, "-f", "rawvideo", "-"]
    with tempfile.TemporaryFile() as raw:
        done = subprocess.run(command, stdout=raw, stderr=subprocess.PIPE, check=False)
        raw.seek(0)
        samples = np.fromfile(raw, "<u2")
    log = done.stderr.decode(errors="replace")
    # What the raw muxer says is about the clock of its own output.
    complaints = re.compile(r"^(?!\[rawvideo ).*\[(error|fatal|panic)\]")
    film.errors = [line for line in log.splitlines() if complaints.match(line)]
    if clock := re.search(r"config in time_base: (\d+/\d+)", log):
        film.time_base = Fraction(clock[1])
    film.pts, film.shown = _shown(log)
    width, height = thumbnail
    planes = samples.reshape(-1, 4 if look.has_alpha else 3, height, width)
    rate = 2 if "send_field" in look.deinterlace else 1
    if len(planes) != rate * len(film.pts):
        raise UnreadableError(f"{film.path}: ffmpeg wrote {len(planes)} frames and told of {len(film.pts)}")
    film.planes = planes.astype(np.float32) / 256


def _shrinking(thumbnail: tuple[int, int], look: Look) -> str:
    """Filters to a thumbnail of 16 bits, which keep the fractions of the mean.

    Equal ranges on both sides of `scale` keep code values as they are stored, whatever the tags say.
    """
    as_stored = "" if look.is_rgb else ":in_range=tv:out_range=tv"
    shrink = f"scale={thumbnail[0]}:{thumbnail[1]}:{_SHRINK}{as_stored}"
    if look.has_alpha:
        wide = "gbrap16le" if look.is_rgb else "yuva444p16le"
        return f"format={wide},premultiply=inplace=1,{shrink},format={wide}"
    return f"{shrink},format={'gbrp16le' if look.is_rgb else 'yuv444p16le'}"


def _shown(log: str) -> tuple[list[int | None], list[Shown]]:
    pts: list[int | None] = []
    shown: list[Shown] = []
    is_corrupt = False
    for found in _IN_LOG.finditer(log):
        if found["corrupt"]:
            is_corrupt = True
            continue
        pts.append(None if found["pts"] == "NOPTS" else int(found["pts"]))
        size = int(found["width"]), int(found["height"])
        shown.append(Shown(size, found["fmt"], found["field"], found["key"] == "1", is_corrupt))
        is_corrupt = False
    return pts, shown


def hash_of_stream(path: Path, index: int, *options: str) -> str:
    """SHA-256 of what ffmpeg makes of one stream with these options, a line for each packet or frame."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", str(path), "-map", f"0:{index}"]
    done = subprocess.run([*command, *options, "-"], capture_output=True, check=False)
    if done.returncode:
        return f"unreadable: {done.stderr.decode(errors='replace').strip()}"
    # The lines of `framehash` start with stream, times and size; only the hash matters here.
    lines = [line for line in done.stdout.decode().splitlines() if not line.startswith("#")]
    return "\n".join(line.rpartition(",")[2].strip() for line in lines)


def grey_frames(film: Film, chain: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The frames that filters make of a film, one at a time: uint8 of (height, width); `size` is turned."""
    width, height = size
    shrink = f"scale={width}:{height}:flags=area,format=gray"
    command = ["ffmpeg", "-nostdin", "-v", "quiet", *input_options(film)]
    command += ["-vf", f"{chain},{shrink}" if chain else shrink, "-f", "rawvideo", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while len(frame := process.stdout.read(width * height)) == width * height:
            yield np.frombuffer(frame, np.uint8).reshape(height, width)
