"""Times that are missing, repeated, jump, or are merely not those of a steady film."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from cluster.video.corpus.case import Case
from cluster.video.corpus.clip_case import TICK_25, TICK_MS, clip_case, expected_of
from cluster.video.corpus.clips import X264, X264_B, Clip, Packet, Ticks, Tone
from cluster.video.corpus.joining import CLOCK, FRAME, joined_case, recording
from cluster.video.corpus.writing import write_clip

_VIDEO_PACKET = b"\0\0\1\xe0"  # start of a packetised elementary stream's packet, of the first video
_TIME_FLAGS_AT = 7
_SECOND = Fraction(1)


def _repeat(packets: list[Packet]) -> list[Packet]:
    """Shows the fifth and the sixth packet at one time."""
    packets[5].pts = packets[5].dts = packets[4].pts
    return packets


def _write_without_times(path: Path, clip: Clip) -> None:
    """A transport stream whose frames, but for the first, say nothing of times (ISO 13818-1, 2.4.3.7)."""
    write_clip(path, clip)
    content = bytearray(path.read_bytes())
    at = content.find(_VIDEO_PACKET)
    while (at := content.find(_VIDEO_PACKET, at + 1)) >= 0:
        content[at + _TIME_FLAGS_AT] &= 0x3F
    path.write_bytes(content)


def _without_times() -> Case:
    # In ticks of a frame, from which the encoder writes a rate into the stream.
    clip = Clip(options={**X264, "bf": "0"}, ticks=Ticks.every(1, 25, first=25))
    case = clip_case(
        "timing_missing.ts",
        "a transport stream in which only the first frame has a time, and the rate is 25",
        clip,
        told=("timestamp",),
    )
    return replace(case, make=partial(_write_without_times, clip=clip))


def _trimmed() -> Case:
    """An edit list leaves out what comes before 0."""
    clip = Clip(options=X264, ticks=Ticks.every(512, 12_800, num=15, first=-5 * 512), audio=(Tone(),))
    shown = replace(clip, ticks=Ticks.every(512, 12_800), first_number=6)
    case = clip_case("timing_edit_list.mp4", "an edit list that leaves out the first five frames", clip)
    return replace(case, expected=expected_of(shown))


CASES = (
    clip_case(
        "timing_ntsc.mp4",
        "24000/1001 frames a second",
        Clip(rate=Fraction(24_000, 1001), ticks=Ticks.every(1001, 24_000)),
    ),
    clip_case(
        "timing_vfr.mp4",
        "a rate that changes from frame to frame, with B-frames",
        Clip(
            options=X264_B,
            ticks=Ticks(
                Fraction(1, 90_000),
                tuple(number * 2800 + 900 * (number * number % 5) for number in range(20)),
            ),
        ),
    ),
    clip_case(
        "timing_gaps.mkv",
        "gaps of seconds between frames, as from screen recorders",
        Clip(ticks=Ticks(Fraction(1, 1000), (0, 40, 2040, 2080, 9000, 9040))),
    ),
    clip_case(
        "timing_long_still.mp4",
        "a picture that is shown for a minute, and another one",
        Clip(ticks=Ticks(Fraction(1, 1000), (0, 60_000))),
    ),
    clip_case(
        "timing_late_start.mkv",
        "a video that starts a second after its sound",
        Clip(
            ticks=Ticks.every(40, 1000, first=1000),
            audio=(Tone("pcm_s16le", rate=8000, seconds=Fraction(7, 5)),),
        ),
        starts_s=(-_SECOND,),
    ),
    _trimmed(),
    clip_case(
        "timing_audio_late.mp4",
        "sound that starts late",
        Clip(audio=(Tone("flac", start_s=Fraction(1, 5)),)),
        starts_s=(Fraction(1, 5),),
    ),
    clip_case(
        "timing_audio_longer.mkv",
        "sound that goes on behind the last frame",
        Clip(audio=(Tone("pcm_s16le", rate=8000, seconds=Fraction(2)),), ticks=TICK_MS),
        starts_s=(Fraction(0),),
    ),
    clip_case(
        "timing_decoding_order.avi",
        "AVI with B-frames, which has no times but those of decoding",
        Clip(options=X264_B, ticks=TICK_25),
        told=("timestamp",),
    ),
    _without_times(),
    clip_case(
        "timing_repeated.mkv",
        "two frames at one time",
        Clip(edit=_repeat, ticks=TICK_MS),
        told=("timestamp",),
        times_s=None,
    ),
    joined_case(
        "timing_jump_back.ts",
        "two recordings one behind the other, each of which starts at one second",
        (recording(), recording(first_number=11)),
        told=("timestamp",),
    ),
    joined_case(
        "timing_jump_ahead.ts",
        "a recording whose clock jumps ahead by ten hours",
        (recording(), recording(36_001 * CLOCK, first_number=11)),
        told=("timestamp",),
    ),
    clip_case(
        "timing_wrap.ts",
        "a transport stream whose clock of 33 bits begins anew",
        recording((1 << 33) - 5 * FRAME),
    ),
)
