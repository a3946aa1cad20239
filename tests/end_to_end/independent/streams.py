"""All but the picture: sound, subtitles, further videos, covers, attachments, chapters and metadata."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any

from tests.end_to_end.independent.probing import UNSET, Film, hash_of_stream, kind_of, tags_of
from tests.end_to_end.independent.verdict import Verdict

# What a file says of itself, of its writer or of its bytes, which is not true of another one.
TECHNICAL_TAGS = frozenset(
    {
        *("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "vendor_id", "bps"),
        *("alpha_mode", "rotate"),
    }
)
_STATISTICS = re.compile(r"number_of_\w+|_statistics_\w+")
MILLISECOND = Fraction(1, 1000)
_EMPTY_TEXT_BYTES = 2  # the length field of a sample without text, which MP4 needs to fill gaps


def check_other_streams(source: Film, output: Film, dropped: Collection[int], verdict: Verdict) -> None:
    """Every other stream of the source is in the output, in the order of its kind, with the same packets.

    Those with an index in `dropped` are said to be gone, and count as lost without being looked for.
    """
    totals = Counter[str]()
    for kind in sorted({*source.others, *output.others}):
        numbered = list(enumerate(source.others.get(kind, [])))
        for n, mine in numbered:
            if mine["index"] in dropped:
                verdict.fault(f"{kind}:{n}", f"{mine.get('codec_name', '?')} stream is lost")
        kept = [(n, mine) for n, mine in numbered if mine["index"] not in dropped]
        there = output.others.get(kind, [])
        for (n, mine), theirs in zip(kept, there, strict=False):
            _check_stream(f"{kind}:{n}", (source, mine), (output, theirs), verdict)
            totals[kind] += len(output.packets.get(theirs["index"], []))
        for n, mine in kept[len(there) :]:
            verdict.fault(f"{kind}:{n}", f"{mine.get('codec_name', '?')} stream is lost")
        for n, theirs in enumerate(there[len(kept) :], len(numbered)):
            verdict.fault(f"{kind}:{n}", f"{theirs.get('codec_name', '?')} stream is not in the source")
    verdict.figures["packets"] = dict(totals)
    same_family = source.family == output.family
    _check_stream_tags("video", source.main, output.main, same_family, verdict)


def _check_stream(
    key: str, before: tuple[Film, dict[str, Any]], after: tuple[Film, dict[str, Any]], verdict: Verdict
) -> None:
    (source, mine), (output, theirs) = before, after
    # MP4 has one code for the layers of MPEG-1 audio, of which ffprobe says one or the other.
    layers = {"mp2", "mp3"} if output.family == "mp4" else set[str]()
    for name in ("codec_name", "sample_rate", "channels", "width", "height"):
        if mine.get(name) != theirs.get(name) and not {mine.get(name), theirs.get(name)} <= layers:
            verdict.fault(key, f"{name} is {theirs.get(name)}, source has {mine.get(name)}")
    same_family = source.family == output.family
    _check_header(key, mine, theirs, same_family, verdict)
    _check_stream_tags(key, mine, theirs, same_family, verdict)
    if _same_payload(key, before, after, verdict) and kind_of(mine) in ("audio", "subtitle", "video"):
        _check_stream_times(key, before, after, verdict)
        if same_family:
            _check_trimming(key, _packets(*before), _packets(*after), verdict)


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


def _same_payload(
    key: str, before: tuple[Film, dict[str, Any]], after: tuple[Film, dict[str, Any]], verdict: Verdict
) -> bool:
    """Whether both have as many packets with the same bytes; otherwise tells what differs.

    Where containers keep the same payload in another form, the payload is compared in one form, and False
    comes back without a fault: single packets cannot be compared further.
    """
    ours, out = (_packets(*side) for side in (before, after))
    hashes = [[packet["data_hash"] for packet in packets] for packets in (ours, out)]
    if hashes[0] == hashes[1]:
        return True
    if (form := _common_form(before[1])) and _hashes_in(form, before) == _hashes_in(form, after):
        verdict.notes.append(f"{key}: the same payload in another form")
    elif len(ours) != len(out):
        verdict.fault(key, f"{len(out)} packets, source has {len(ours)}")
    else:
        differing = [n for n, (mine, theirs) in enumerate(zip(*hashes, strict=True)) if mine != theirs]
        verdict.fault_each(key, [f"payload of packet {n} differs" for n in differing])
    return False


def _packets(film: Film, stream: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = film.packets.get(stream["index"], [])
    if stream.get("codec_name") != "mov_text":
        return listed
    return [packet for packet in listed if int(packet["size"]) > _EMPTY_TEXT_BYTES]


def _common_form(stream: Mapping[str, Any]) -> tuple[str, ...]:
    """Options of ffmpeg that give a payload in a form that does not depend on the container; () for none."""
    codec = stream.get("codec_name", "")
    if codec.startswith("pcm_"):
        return ("-c", "copy", "-f", "hash", "-hash", "sha256")  # cut into packets at will
    if codec == "aac":
        return ("-c", "copy", "-bsf:a", "aac_adtstoasc", "-f", "framehash", "-hash", "sha256")
    if kind_of(stream) == "video":
        return ("-fps_mode", "passthrough", "-f", "framehash", "-hash", "sha256")  # decoded: start codes go
    return ()


def _hashes_in(form: tuple[str, ...], side: tuple[Film, dict[str, Any]]) -> str:
    film, stream = side
    return hash_of_stream(film.path, stream["index"], *form)


def _check_stream_tags(
    key: str, mine: Mapping[str, Any], theirs: Mapping[str, Any], same_family: bool, verdict: Verdict
) -> None:
    before, after = tags_of(mine), tags_of(theirs)
    for name in sorted(before):
        want, got = before[name], after.get(name)
        # Names of handlers exist in MP4 alone, where one date holds for all tracks.
        is_foreign = name == "handler_name" and not same_family
        if _is_technical(name) or is_foreign or want in UNSET or got == want:
            continue
        text = f"{name} is {got!r}, source has {want!r}"
        verdict.notes.append(f"{key}: {text}") if name == "creation_time" else verdict.fault(key, text)
    flags, flags_now = _dispositions(mine), _dispositions(theirs)
    if flags != flags_now:
        text = f"dispositions {sorted(flags_now)}, source has {sorted(flags)}"
        # MP4 makes the first track of each kind the default where none is.
        is_default_alone = flags ^ flags_now == {"default"} and not same_family
        verdict.notes.append(f"{key}: {text}") if is_default_alone else verdict.fault(key, text)


def _is_technical(name: str) -> bool:
    return name in TECHNICAL_TAGS or bool(_STATISTICS.fullmatch(name))


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
        verdict.figures.setdefault("av_offset_change_ms", {})[key] = round(ms(moved[0]), 4)
    if abs(moved[0]) > MILLISECOND:
        text = f"starts {ms(moved[0]):+.3f} ms off against the picture"
        verdict.fault(key, f"{text} ({ms(pairs[0][1]):.3f} ms, source {ms(pairs[0][0]):.3f} ms)")
    else:
        late = [n for n, shift in enumerate(moved) if abs(shift) > MILLISECOND]
        verdict.fault_each(key, [f"packet {n} is {ms(moved[n]):+.3f} ms off" for n in late])
    if key.startswith("subtitle"):
        _check_durations(key, before, after, verdict)


def _times_s(film: Film, stream: Mapping[str, Any]) -> list[Fraction | None]:
    clock = Fraction(stream["time_base"])
    return [p["pts"] * clock - film.start_s if "pts" in p else None for p in _packets(film, stream)]


def _check_durations(
    key: str, before: tuple[Film, dict[str, Any]], after: tuple[Film, dict[str, Any]], verdict: Verdict
) -> None:
    lasting = [
        [p.get("duration", 0) * Fraction(stream["time_base"]) for p in _packets(film, stream)]
        for film, stream in (before, after)
    ]
    verdict.fault_each(
        key,
        [
            f"packet {n} lasts {ms(b):.0f} ms, in the source {ms(a):.0f} ms"
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
    before, after = tags_of(source.format), tags_of(output.format)
    for name in sorted(name for name in before if not _is_technical(name)):
        want, got = (_plain_date(name, tags.get(name)) for tags in (before, after))
        if want not in (None, got):
            verdict.fault(f"metadata:{name}", f"is {after.get(name)!r}, source has {before[name]!r}")


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
    want, got = tags_of(mine).get("title"), tags_of(theirs).get("title")
    if want != got:
        faults.append(f"chapter {n}: title is {got!r}, source has {want!r}")
    return faults


def _plain_date(name: str, value: str | None) -> str | None:
    """Old QuickTime files write `2016-05-31 17:01:35`, others ISO 8601; a clock at zero was never set."""
    if name != "creation_time" or value is None:
        return value
    plain = re.sub(r"\.0+Z?$|Z$", "", value.replace(" ", "T"))
    return None if plain.startswith(("1970-01-01T00:00:00", "1904-01-01T00:00:00")) else plain


def ms(seconds: Fraction) -> float:
    """For printing."""
    return float(seconds * 1000)
