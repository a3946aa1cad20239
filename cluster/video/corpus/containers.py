"""A clip with sound in every container that is read."""

from __future__ import annotations

from fractions import Fraction

from cluster.video.corpus.clip_case import TICK_25, TICK_MS, clip_case
from cluster.video.corpus.clips import QSCALE, VP9, X264, X264_B, Clip, Ticks, Tone

_MPEG2 = {**QSCALE, "g": "5"}
_TICK_90K = Ticks.every(3600, 90_000, first=90_000)

CASES = (
    clip_case(
        "container_mp4.mp4",
        "MP4 with H.264 and AAC, with B-frames",
        Clip(options=X264_B, audio=(Tone(),)),
        suffixes=(".mp4",),
    ),
    clip_case(
        "container_m4v.m4v",
        "MP4 under its other name, the index in front",
        Clip(muxer="mp4", muxer_options={"movflags": "+faststart"}, audio=(Tone(),)),
        suffixes=(".mp4",),
    ),
    clip_case(
        "container_mov.mov",
        "QuickTime with H.264 and PCM",
        Clip(audio=(Tone("pcm_s16le"),)),
        suffixes=(".mov",),
    ),
    clip_case(
        "container_mkv.mkv",
        "Matroska with H.264 and FLAC",
        Clip(options=X264_B, audio=(Tone("flac"),), ticks=TICK_MS),
        suffixes=(".mkv",),
    ),
    clip_case(
        "container_webm.webm",
        "WebM with VP9 and Opus",
        Clip(encoder="libvpx-vp9", options=VP9, audio=(Tone("libopus"),), ticks=TICK_MS),
        suffixes=(".webm",),
    ),
    clip_case(
        "container_ts.ts",
        "a transport stream with H.264 and MP2 that starts at one second",
        Clip(options=X264_B, audio=(Tone("mp2", start_s=Fraction(1)),), ticks=_TICK_90K),
        streams=("audio mp3 eng",),  # MP4 has one name for the layers of MPEG-1
        suffixes=(".mp4",),
    ),
    clip_case(
        "container_ts_aac.mts",
        "a transport stream with AAC, whose headers MP4 does not have",
        Clip(muxer="mpegts", audio=(Tone(start_s=Fraction(1)),), ticks=_TICK_90K),
        suffixes=(".mp4",),
        told=("adts",),
    ),
    clip_case(
        "container_mpg.mpg",
        "a program stream with MPEG-2 and MP2",
        Clip(
            encoder="mpeg2video",
            options=_MPEG2,
            muxer="vob",
            audio=(Tone("mp2", language=""),),
            ticks=TICK_25,
        ),
        suffixes=(".mkv",),
    ),
    clip_case(
        "container_avi.avi",
        "AVI with MPEG-4 and MP3",
        Clip(encoder="mpeg4", options=QSCALE, audio=(Tone("libmp3lame", language=""),), ticks=TICK_25),
        suffixes=(".mkv",),
    ),
    clip_case(
        "container_flv.flv",
        "Flash video with Sorenson's codec and MP3",
        Clip(
            encoder="flv",
            options=QSCALE,
            audio=(Tone("libmp3lame", language="", rate=44_100),),
            muxer_options={"avoid_negative_ts": "make_non_negative"},  # FLV has no times before 0
            ticks=TICK_MS,
        ),
        suffixes=(".mp4",),
    ),
    clip_case(
        "container_wmv.wmv",
        "Windows Media with its own codecs, of which the sound becomes FLAC",
        Clip(
            encoder="wmv2",
            options=QSCALE,
            audio=(Tone("wmav2", language="", options={"b": "64k"}),),
            ticks=TICK_MS,
        ),
        streams=("audio flac",),
        told=("wmav2.* is coded anew as flac",),
    ),
    clip_case(
        "container_mxf.mxf",
        "MXF with MPEG-2 and PCM",
        Clip(
            encoder="mpeg2video",
            options=_MPEG2,
            pixel_format="yuv422p",
            audio=(Tone("pcm_s16le", language=""),),
            ticks=TICK_25,
        ),
    ),
    clip_case(
        "container_ogv.ogv",
        "Ogg with VP8 and Opus; its usual codec, Theora, has no encoder here",
        Clip(
            encoder="libvpx",
            options={"deadline": "realtime", "crf": "10", "b": "1M"},
            muxer="ogg",
            audio=(Tone("libopus"),),
            ticks=TICK_25,
        ),
    ),
    clip_case(
        "container_3gp.3gp",
        "3GP with H.263 and AAC",
        Clip(encoder="h263", options=QSCALE, size=(128, 96), audio=(Tone(),), ticks=TICK_25),
        suffixes=(".mov",),
    ),
    clip_case(
        "container_gif.gif",
        "an animated GIF of a few colours",
        Clip(encoder="gif", options={}, pixel_format="pal8", ticks=TICK_25),
        pixel_formats=(),
        alpha=False,
    ),
    clip_case(
        "container_fragmented.mp4",
        "MP4 in fragments, as from a live stream",
        Clip(
            options=X264,
            muxer_options={"movflags": "+frag_keyframe+delay_moov", "frag_duration": "100000"},
            audio=(Tone(),),
        ),
        suffixes=(".mp4",),
    ),
)
