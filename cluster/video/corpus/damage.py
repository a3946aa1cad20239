"""Files that are broken, incomplete, locked, or no videos at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from cluster.video.corpus.case import Case, Expected
from cluster.video.corpus.clip_case import expected_of
from cluster.video.corpus.clips import X264, X265, X265_PARAMS, Clip, Ticks, Tone
from cluster.video.corpus.joining import CLOCK, FIRST, FRAME
from cluster.video.corpus.writing import edit_payloads, write_clip, write_tones

_NUM_FRAMES = 40
_COARSE = {**X264, "qp": "30", "g": "10"}
_COARSE_HEVC = {**X265, "crf": "30", "x265-params": f"{X265_PARAMS}:keyint=10:bframes=0"}
_TEXTURED = Clip(options=_COARSE, ticks=Ticks.every(512, 12_800, _NUM_FRAMES), is_textured=True)
_IN_FRONT = replace(_TEXTURED, muxer_options={"movflags": "+faststart"})
_FRAGMENTED = replace(_TEXTURED, muxer_options={"movflags": "+frag_keyframe+empty_moov"})
_MKV = replace(_TEXTURED, ticks=Ticks.every(40, 1000, _NUM_FRAMES))
_TS = replace(
    _TEXTURED,
    ticks=Ticks.every(FRAME, CLOCK, _NUM_FRAMES, FIRST),
)
_KEY = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "0123456789abcdef0123456789abcdef",
}
_PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
_UNREADABLE = "cannot be read"


def _write_changed(path: Path, clip: Clip, change: Callable[[bytes], bytes]) -> None:
    """Writes `clip`, and then what `change` makes of its bytes."""
    write_clip(path, clip)
    path.write_bytes(change(path.read_bytes()))


def _cut_off(content: bytes) -> bytes:
    return content[: len(content) * 6 // 10]


def _with_hole(content: bytes) -> bytes:
    """All bytes between 40 % and 50 % are zero, as after a bad sector."""
    first, last = len(content) * 4 // 10, len(content) // 2
    return content[:first] + bytes(last - first) + content[last:]


def _with_a_gap(content: bytes) -> bytes:
    """What lies between 40 % and 50 % is lost, as of a recording with bad reception."""
    packet = 188  # bytes of a transport stream's packets (ISO 13818-1, 2.4.3.2)
    num = len(content) // packet
    return content[: num * 4 // 10 * packet] + content[num // 2 * packet :]


def _scrambled(clip: Clip, *indexes: int, num_intact: int = 40) -> Clip:
    """Some packets, in decoding order, have other bytes behind their first ones."""

    def scramble(index: int, payload: bytes) -> bytes:
        intact = num_intact if index in indexes else len(payload)
        return payload[:intact] + bytes(byte ^ 0x5A for byte in payload[intact:])

    return replace(clip, edit=edit_payloads(scramble))


def _damaged(name: str, shows: str, clip: Clip, change: Callable[[bytes], bytes], least_frames: int) -> Case:
    """A file of which so many frames at least are whole, and must come out."""
    expected = replace(
        expected_of(clip),
        state="damaged",
        num_frames=None,
        least_frames=least_frames,
    )
    return Case(name, shows, partial(_write_changed, clip=clip, change=change), expected)


def _unchanged(content: bytes) -> bytes:
    return content


def _failed(name: str, shows: str, content: bytes, reason: str = _UNREADABLE) -> Case:
    expected = Expected(state="failed", reason=reason)
    return Case(name, shows, partial(_write_bytes, content=content), expected)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


CASES = (
    _failed("damage_empty.mp4", "an empty file", b"", "empty|cannot be read"),
    _failed("damage_text.mp4", "a text with a video's name", b"This is no video.\n" * 40),
    _failed("damage_playlist.mp4", "a playlist that wants another file read", _PLAYLIST),
    _failed("damage_zeros.mkv", "nothing but zeros, as after a crash", bytes(20_000)),
    Case(
        "damage_audio_only.mp4",
        "a sound without a video",
        partial(write_tones, tones=(Tone(),)),
        Expected(state="failed", reason="no video"),
    ),
    Case(
        "damage_encrypted.mp4",
        "a film that only who has its key can see",
        partial(write_clip, clip=replace(_TEXTURED, muxer_options=_KEY)),
        Expected(state="failed", reason="encrypt"),
    ),
    Case(
        "damage_no_index.mp4",
        "MP4 whose index behind the pictures was never written",
        partial(_write_changed, clip=_TEXTURED, change=_cut_off),
        Expected(state="failed", reason=_UNREADABLE),
    ),
    _damaged("damage_cut_index.mp4", "MP4 with its index in front that was cut off", _IN_FRONT, _cut_off, 23),
    _damaged("damage_cut_fragments.mp4", "MP4 in fragments that was cut off", _FRAGMENTED, _cut_off, 23),
    _damaged("damage_cut_mkv.mkv", "Matroska that was cut off", _MKV, _cut_off, 23),
    _damaged("damage_cut_ts.ts", "a transport stream that was cut off within a frame", _TS, _cut_off, 23),
    _damaged(
        "damage_packets.mp4",
        "H.264 of which three frames are not what was written",
        _scrambled(_TEXTURED, 12, 13, 25),
        _unchanged,
        30,
    ),
    _damaged(
        "damage_packets_hevc.mkv",
        "HEVC of which two frames do not even begin as they should",
        _scrambled(replace(_MKV, encoder="libx265", options=_COARSE_HEVC), 12, 25, num_intact=8),
        _unchanged,
        27,
    ),
    _damaged(
        "damage_hole.mkv", "Matroska with zeros in the middle, as after a bad sector", _MKV, _with_hole, 35
    ),
    _damaged("damage_reception.ts", "a transport stream with a gap", _TS, _with_a_gap, 36),
)
