"""Containers: which one an output gets, and what each can hold. Pure."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Literal, get_args

from cluster.video.info import SourceInfo, StreamInfo
from cluster.video.languages import is_same_language, iso_code, quicktime_name
from sr_core.errors import SpecError

Container = Literal["mp4", "mov", "mkv", "webm"]

MUXERS: dict[Container, str] = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}

# A source keeps its family; what is no container for films at rest goes to the nearest that is. 3GP, DV and
# MXF go to MOV, which holds their sound as it is (AMR, PCM). Files without times (.h264, .hevc) are not here.
_SUFFIXES: dict[Container, tuple[str, ...]] = {
    "mp4": (".mp4", ".m4v", ".ts", ".m2ts", ".mts", ".m2t", ".trp", ".tod", ".flv", ".f4v"),
    "mov": (".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".mxf", ".dv", ".dif"),
    "mkv": (
        *(".mkv", ".mk3d", ".avi", ".divx", ".wmv", ".asf", ".wtv", ".dvr-ms"),
        *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".m2p", ".vob", ".evo", ".vro", ".mod"),
        *(".ogv", ".ogm", ".rm", ".rmvb", ".nut", ".y4m", ".mjpg", ".mjpeg", ".ivf", ".obu"),
        *(".amv", ".nsv", ".gxf", ".nuv", ".bik", ".smk", ".roq", ".fli", ".flc"),
    ),
    "webm": (".webm",),
}
_FAMILY = {suffix: container for container, suffixes in _SUFFIXES.items() for suffix in suffixes}
VIDEO_SUFFIXES = tuple(_FAMILY)

# Images that become videos where a container is asked for.
_ANIMATIONS = (".gif",)

# Only what players of the family know is carried there, of what PyAV (18.1) lets pass: to Matroska nothing
# that goes there under Windows' own numbers, as WMA and ADPCM would.
_MP4_AUDIO = {"aac", "ac3", "eac3", "mp2", "mp3", "opus", "flac", "alac"}
_PCM = {"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_s16be", "pcm_s24be", "pcm_s32be"}
_MOV_PCM = {"pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_f64le", "pcm_f32be", "pcm_f64be"}
_MKV_PCM = {"pcm_u8", "pcm_f64le"}
_AUDIO: dict[Container, set[str]] = {
    "mp4": _MP4_AUDIO,
    "mov": _MP4_AUDIO - {"opus", "flac"} | _PCM | _MOV_PCM | {"adpcm_ima_qt", "amr_nb", "amr_wb", "mp1"},
    "mkv": _MP4_AUDIO
    | _PCM
    | _MKV_PCM
    | {"dts", "mlp", "mp1", "ra_144", "truehd", "tta", "vorbis", "wavpack"},
    "webm": {"opus", "vorbis"},
}
# What sound is coded anew with where the container cannot hold it as it is: without loss but in webm, which
# holds nothing of that kind.
SoundEncoder = Literal["flac", "alac", "libopus"]
_SOUND_ENCODERS: dict[Container, SoundEncoder] = {
    "mp4": "flac",
    "mov": "alac",
    "mkv": "flac",
    "webm": "libopus",
}
# Samples of integers with more than the 24 bits that these encoders keep, or of floating point.
_DEEP_AUDIO = {
    *("pcm_s32le", "pcm_s32be", "pcm_u32le", "pcm_u32be", "pcm_s64le", "pcm_s64be"),
    *("pcm_f16le", "pcm_f24le", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "wavpack", "tta"),
    *("mp4als", "ralf", "dsd_lsbf", "dsd_msbf", "dsd_lsbf_planar", "dsd_msbf_planar", "dst"),
}
_MKV_TEXT = {"subrip", "ass", "webvtt", "dvd_subtitle", "hdmv_pgs_subtitle", "dvb_subtitle"}
_SUBTITLES: dict[Container, set[str]] = {
    "mp4": {"mov_text"},
    "mov": {"mov_text", "eia_608"},
    "mkv": _MKV_TEXT,
    "webm": {"webvtt"},
}
_MP4_VIDEO = {"h264", "hevc", "mpeg4", "mjpeg", "mpeg1video", "mpeg2video"}
_MOV_VIDEO = {"prores", "dvvideo", "h263", "jpeg2000", "png", "qtrle", "cfhd", "cinepak", "svq1", "v210"}
_VIDEO: dict[Container, set[str]] = {
    "mp4": _MP4_VIDEO | {"av1", "vp9"},
    "mov": _MP4_VIDEO | _MOV_VIDEO,
    "mkv": _MP4_VIDEO | {"av1", "vp9", "vp8", "ffv1", "prores", "jpeg2000", "msmpeg4v3"},
    "webm": {"vp8", "vp9", "av1"},
}
_COVERS: dict[Container, set[str]] = {
    "mp4": {"mjpeg", "png"},
    "mov": set(),  # the muxer writes none
    "mkv": {"mjpeg", "png", "gif", "bmp", "tiff", "webp"},
    "webm": set(),
}


_LEAST_TRACK_TIMESCALE = 10_000  # the muxer doubles a clock until it has so many ticks a second
_MANY_OR_REGION = re.compile(r"[,-]")  # "eng,deu" in transport streams, "deu-AT" in Matroska
_ISO_639_2 = re.compile(r"[a-z]{3}")

INT32_MAX = (1 << 31) - 1  # the most ticks that the muxer of mp4 and mov lets a packet last


def output_name(relative_path: str, container: Container | Literal["auto"]) -> str:
    """Where the output of the source at `relative_path` lies: the same path with the container's suffix.

    Animated images are videos only where a container is asked for.

    Raises:
        SpecError: The suffix is none of `VIDEO_SUFFIXES`.
    """
    path = PurePosixPath(relative_path)
    if container != "auto" and path.suffix.lower() in _ANIMATIONS:
        return str(path.with_suffix(f".{container}"))
    family = _FAMILY.get(path.suffix.lower())
    if family is None:
        raise SpecError(
            "this is not a video that Framelift reads",
            where=relative_path,
            got=f"a name that ends in '{path.suffix}'",
            expected=", ".join(VIDEO_SUFFIXES),
        )
    return str(path.with_suffix(f".{family if container == 'auto' else container}"))


def suffixes_of(container: Container) -> tuple[str, ...]:
    """What the sources are called whose outputs are in `container`, unless another is asked for."""
    return _SUFFIXES[container]


def container_of(name: str) -> Container:
    """The container of an output that `output_name` named."""
    suffix = PurePosixPath(name).suffix.lower().removeprefix(".")
    for container in get_args(Container):
        if suffix == container:
            return container  # type: ignore[no-any-return]
    raise SpecError("this is no output name", where=name, expected="a name in .mp4, .mov, .mkv or .webm")


def carried_streams(info: SourceInfo, container: Container) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which of the source's other streams go into `container`, ascending, and what must be told of them.

    Sound that is coded anew is among them; see `sound_encoder`.
    """
    carried: list[int] = []
    told: list[str] = []
    chapter_track = _chapter_track(info)
    for stream in info.streams:
        if stream.index == info.video.stream_index:
            told += _of_language(stream, container)
            continue
        if stream.index == chapter_track:
            continue
        if _is_written_anew(info, stream, container):
            told.append(f"{_described(stream)} is written anew, with the same timecode, instead of copied")
        elif can_hold(container, stream):
            carried.append(stream.index)
            told += _of_carried(info, stream, container)
        elif stream.kind == "audio" and sound_encoder(container, stream.codec) is not None:
            carried.append(stream.index)
            told += [_of_coded_anew(stream, container), *_of_language(stream, container)]
        else:
            told.append(f"{_described(stream)} is dropped: {_why_not(stream, container)}")
    return tuple(carried), tuple(told)


def muxer_options(container: Container, time_base: Fraction) -> dict[str, str]:
    """What FFmpeg's muxer is told, so that it writes the times of a video in `time_base` as they are.

    The bytes then depend on the packets alone: no random identifiers, no dates, no versions.
    """
    options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
    if container in ("mp4", "mov"):
        # The clock of edit lists: with FFmpeg's own of 1 ms, streams that do not start at 0 would move.
        options["movie_timescale"] = str(min(track_timescale(time_base), INT32_MAX))
    return options


def track_timescale(time_base: Fraction) -> int:
    """Ticks a second of the clock that the muxer of mp4 and mov gives to a track in `time_base`."""
    timescale = time_base.denominator
    while timescale < _LEAST_TRACK_TIMESCALE:
        timescale *= 2
    return timescale


def can_hold(container: Container, stream: StreamInfo) -> bool:
    """Whether `stream` can be copied into `container`."""
    if stream.is_cover:
        return stream.codec in _COVERS[container]
    match stream.kind:
        case "audio":
            return stream.codec in _AUDIO[container]
        case "subtitle":
            return stream.codec in _SUBTITLES[container]
        case "video":
            return stream.codec in _VIDEO[container]
        case "attachment":
            return container == "mkv"
        case "data":
            return False


def language_in(container: Container, language: str) -> str:
    """How the streams of an output say that they are in `language`; empty where the container has no code.

    Matroska takes whatever there is, mp4 one code of ISO 639-2, mov one for which QuickTime has a number.
    """
    if container in ("mkv", "webm"):
        return iso_code(language)
    code = _MANY_OR_REGION.split(iso_code(language).lower())[0]
    if container == "mov":
        return quicktime_name(code) or ""
    return code if _ISO_639_2.fullmatch(code) else ""


def sound_encoder(container: Container, codec: str) -> SoundEncoder | None:
    """What sound of `codec` is coded anew with, as `container` cannot hold it; None where it is not."""
    return _SOUND_ENCODERS[container] if codec and codec not in _AUDIO[container] else None


def _chapter_track(info: SourceInfo) -> int | None:
    """The track that holds the chapters' titles in mp4 and mov: written anew with the chapters."""
    if "mov" not in info.format_name or not info.num_chapters:
        return None
    tracks = [s.index for s in info.streams if s.kind == "data" and s.codec in ("bin_data", "text")]
    return tracks[0] if tracks else None


def _is_written_anew(info: SourceInfo, stream: StreamInfo, container: Container) -> bool:
    """Whether it is the track of a timecode, which the muxer makes of the tag that goes with the video."""
    return bool(info.timecode) and stream.codec == "tmcd" and container in ("mp4", "mov")


def _of_carried(info: SourceInfo, stream: StreamInfo, container: Container) -> list[str]:
    told = []
    if stream.kind == "video" and not stream.is_cover:
        told.append(f"{_described(stream)} is copied as it is, not upscaled")
    if "mpegts" in info.format_name and stream.codec == "aac":
        told.append(
            f"{_described(stream)} loses its ADTS headers (filter aac_adtstoasc), as {container} asks"
        )
    if "mpegts" in info.format_name and stream.kind == "video":
        told.append(f"{_described(stream)} has its start codes rewritten, as {container} asks")
    return told + _of_language(stream, container)


def _of_language(stream: StreamInfo, container: Container) -> list[str]:
    written = language_in(container, stream.language)
    if is_same_language(iso_code(written), stream.language):
        return []
    becomes = f"is told to be in {written}" if written else "loses its language"
    return [f"{_described(stream)} {becomes}, as {container} has no code for what it is in"]


def _of_coded_anew(stream: StreamInfo, container: Container) -> str:
    encoder = _SOUND_ENCODERS[container]
    told = f"{_described(stream)} is coded anew as {encoder.removeprefix('lib')}"
    if encoder == "libopus":
        return f"{told}, which loses a little, as {container} can hold neither it nor anything without loss"
    depth = " with 24 bits" if stream.codec in _DEEP_AUDIO else ""
    return f"{told}{depth}, as {container} cannot hold it"


def _described(stream: StreamInfo) -> str:
    kind = "cover" if stream.is_cover else stream.kind
    details = " ".join(text for text in (stream.codec, stream.language) if text)
    return f"stream {stream.index} ({kind}{', ' if details else ''}{details})"


def _why_not(stream: StreamInfo, container: Container) -> str:
    if stream.kind == "data":
        return "data streams are not carried"
    if not stream.codec and stream.kind != "attachment":
        return "its codec is not known"
    return f"{container} cannot hold it"
