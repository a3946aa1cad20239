"""The independent check of films that are not plain: it passes good outputs and names each built-in fault."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.end_to_end import independent
from tests.end_to_end.independent import Outcome, Span, Verdict, measure

pytestmark = pytest.mark.skipif(not independent.have_ffmpeg(), reason="ffmpeg and ffprobe are not installed")

DOUBLE = "scale=2*iw:2*ih:flags=bicubic"
TAGS = "setparams=range=tv:color_primaries=smpte170m:color_trc=smpte170m:colorspace=smpte170m"
EXACT_TIMES = (
    *("-fps_mode", "passthrough", "-enc_time_base", "-1"),
    *("-video_track_timescale", "90000", "-movie_timescale", "90000"),
)
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-threads", "1")
FFV1 = ("-c:v", "ffv1")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-crf", "12", "-b:v", "0")


def ffmpeg(*arguments: object) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def drawn(
    path: Path, chain: str, *options: object, seconds: float = 0.4, size: str = "96x64", tags: str = TAGS
) -> Path:
    """ffmpeg's test picture as a film; its lavfi device forgets colour tags, so they are set behind it."""
    filters = ("-vf", tags or "null", "-fps_mode", "passthrough", "-enc_time_base", "-1")
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={seconds},{chain}", *filters, *options, path)
    return path


def enlarged(source: Path, output: Path, *options: object, chain: str = "", decoder: str = "") -> Path:
    opened = ("-c:v", decoder) if decoder else ()
    filters = ",".join(filter(None, [chain, DOUBLE]))
    ffmpeg(*opened, "-noautorotate", "-copyts", "-i", source, "-vf", filters, *EXACT_TIMES, *options, output)
    return output


def keys(verdict: Verdict) -> set[str]:
    return {fault.key for fault in verdict.faults}


# Bit depth, chroma, RGB, alpha


def test_coarser_pixels_are_a_fault_unless_told(tmp_path: Path) -> None:
    source = drawn(tmp_path / "a.mkv", "format=yuv422p10le", *FFV1)
    made = {
        pix_fmt: enlarged(source, tmp_path / f"{pix_fmt}.mkv", *FFV1, "-pix_fmt", pix_fmt)
        for pix_fmt in ("yuv422p10le", "yuv444p12le", "yuv422p", "yuv420p10le", "gray10le")
    }
    told = Outcome(told=("pixels become 8 bit, as vp8 cannot hold more",))

    assert keys(measure(source, made["yuv422p10le"], 2)) == set()
    assert keys(measure(source, made["yuv444p12le"], 2)) == set()
    assert keys(measure(source, made["yuv422p"], 2)) == {"pix_fmt"}
    assert keys(measure(source, made["yuv420p10le"], 2)) == {"pix_fmt"}
    assert keys(measure(source, made["gray10le"], 2)) >= {"pix_fmt"}
    assert keys(measure(source, made["yuv422p"], 2, outcome=told)) == set()


def test_rgb_that_became_yuv_is_a_fault(tmp_path: Path) -> None:
    source = drawn(tmp_path / "a.mkv", "format=gbrp", *FFV1, tags="")
    rgb = enlarged(source, tmp_path / "rgb.mkv", *FFV1)
    yuv = enlarged(source, tmp_path / "yuv.mkv", *FFV1, "-pix_fmt", "yuv444p")
    swapped = enlarged(source, tmp_path / "swapped.mkv", *FFV1, chain="shuffleplanes=0:2:1")

    assert keys(measure(source, rgb, 2)) == set()
    assert keys(measure(source, yuv, 2)) >= {"pix_fmt"}
    assert "content" in keys(measure(source, swapped, 2))


HALF_CLEAR = "format=yuva420p,geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='255*lt(X+Y,80)'"


def test_lost_and_inverted_alpha_of_webm_are_faults(tmp_path: Path) -> None:
    source = drawn(tmp_path / "a.webm", HALF_CLEAR, *VP9, seconds=0.2)
    good = enlarged(source, tmp_path / "good.webm", *VP9, decoder="libvpx-vp9")
    lost = enlarged(source, tmp_path / "lost.webm", *VP9)
    invert = "format=yuva420p,lutyuv=a=negval"
    inverted = enlarged(source, tmp_path / "inverted.webm", *VP9, decoder="libvpx-vp9", chain=invert)

    assert keys(measure(source, good, 2)) == set()
    assert measure(source, good, 2).figures["max alpha MSE"] < 50
    # ffmpeg copies the tag that says that there is alpha, also where there is none.
    assert keys(measure(source, lost, 2)) & {"pix_fmt", "alpha"}
    assert keys(measure(source, inverted, 2)) >= {"alpha"}


def test_alpha_of_prores_is_compared(tmp_path: Path) -> None:
    prores = ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le")
    source = drawn(tmp_path / "a.mov", HALF_CLEAR, *prores, seconds=0.12)
    good = enlarged(source, tmp_path / "good.mov", *prores)
    opaque = enlarged(source, tmp_path / "opaque.mov", *prores, chain="format=yuva444p10le,lutyuv=a=1023")

    assert keys(measure(source, good, 2)) == set()
    assert keys(measure(source, opaque, 2)) >= {"alpha"}


# HDR


def test_hdr_metadata_that_differs_by_one_unit_is_a_fault(tmp_path: Path) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,{})"
    tags = "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc:range=tv"

    def made(name: str, least: int, brightest: int) -> Path:
        params = f"log-level=none:pools=none:master-display={display.format(least)}:max-cll={brightest},400"
        x265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", params)
        return drawn(tmp_path / name, "format=yuv420p10le", *x265, seconds=0.08, tags=tags)

    source = made("hdr.mp4", 50, 1000)

    assert keys(measure(source, made("good.mp4", 50, 1000), 1)) == set()
    assert keys(measure(source, made("darker.mp4", 51, 1000), 1)) == {"hdr"}
    assert keys(measure(source, made("brighter.mp4", 50, 1001), 1)) == {"hdr"}
    plain = drawn(tmp_path / "plain.mkv", "format=yuv420p10le", *FFV1, seconds=0.08, tags=tags)
    assert keys(measure(plain, source, 1)) >= {"hdr"}, "metadata out of nowhere"


# Damage


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A film of which the packets of frames 12 to 14 give no frame, and the times of these frames."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = drawn(folder / "whole.mkv", "format=yuv420p", *FFV1, "-g", "1", seconds=0.8)
    path = folder / "damaged.mkv"
    ffmpeg("-i", whole, "-c", "copy", "-bsf:v", r"noise=amount='between(n\,12\,14)'", path)
    return path, [n / 25 for n in (12, 13, 14)]


def without(source: Path, output: Path, frames: str) -> Path:
    ffmpeg("-copyts", "-i", source, "-vf", f"select='{frames}',{DOUBLE}", *EXACT_TIMES, *FFV1, output)
    return output


def test_missing_frames_must_be_told_as_they_are(damaged: tuple[Path, list[float]], tmp_path: Path) -> None:
    source, times = damaged
    report = {"state": "damaged", "reason": "frames do not decode"}
    good = enlarged(source, tmp_path / "good.mkv", *FFV1)
    probed = independent.read_film(source)
    num_lost = 20 - len(probed.pts)
    assert num_lost in (0, 3), "the decoder gives all of the damaged frames or none"
    span = Span(times[0], times[-1] + 0.04, 3)
    fewer = without(source, tmp_path / "fewer.mkv", f"not(between(t,{times[0] - 0.01},{times[-1] + 0.01}))")
    far = without(source, tmp_path / "far.mkv", f"not(between(t,{times[0] - 0.09},{times[-1] + 0.01}))")

    told = Outcome(missing=(span,), **report)
    assert keys(measure(source, fewer, 2, outcome=told)) == set()
    assert keys(measure(source, fewer, 2, outcome=Outcome(**report))) == {"missing"}
    assert keys(measure(source, fewer, 2, outcome=Outcome(missing=(Span(0.1, 0.2, 3),), **report))) == {
        "missing"
    }
    assert keys(measure(source, fewer, 2, outcome=Outcome(missing=(span,)))) == {"state"}
    assert keys(measure(source, far, 2, outcome=told)) >= {"frames", "missing"}
    invented = Outcome(missing=(span, Span(0.0, 0.08, 2)), **report)
    assert keys(measure(source, fewer, 2, outcome=invented)) == {"missing"}
    assert good.exists()


def test_sound_keeps_its_time_where_the_first_frames_are_missing(tmp_path: Path) -> None:
    whole, source = tmp_path / "whole.mkv", tmp_path / "source.mkv"
    sound = ("-f", "lavfi", "-i", "sine=f=440:d=0.4", "-c:a", "flac")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", *sound, "-c:v", "png", whole)
    ffmpeg("-i", whole, "-c", "copy", "-bsf:v", r"noise=amount='lt(n\,1)'", source)
    output, late = tmp_path / "output.mkv", tmp_path / "late.mkv"
    for path, offset in ((output, 0), (late, 0.05)):
        second = ("-itsoffset", offset, "-copyts", "-i", source, "-map", "0:v", "-map", "1:a")
        kept = ("-vf", DOUBLE, *EXACT_TIMES, "-c:v", "png", "-c:a", "copy")
        ffmpeg("-copyts", "-i", source, *second, *kept, path)
    told = Outcome(state="damaged", missing=(Span(0, 0.04, 1),))

    assert keys(measure(source, output, 2, outcome=told)) == set()
    assert keys(measure(source, late, 2, outcome=told)) == {"audio:0"}


def test_whole_source_that_is_called_damaged_is_a_fault(tmp_path: Path) -> None:
    source = drawn(tmp_path / "a.mkv", "format=yuv420p", *FFV1)
    good = enlarged(source, tmp_path / "good.mkv", *FFV1)
    shorter = without(source, tmp_path / "shorter.mkv", "not(between(n,4,5))")
    span = (Span(0.16, 0.24, 2),)

    assert keys(measure(source, good, 2, outcome=Outcome(state="damaged", reason="?"))) == {"state"}
    assert keys(measure(source, good, 2, outcome=Outcome(state="damaged", missing=span))) == {
        "missing",
        "state",
    }
    found = keys(measure(source, shorter, 2, outcome=Outcome(state="damaged", missing=span)))
    assert "frames" in found, "what decodes must not be called missing"


def test_cut_file_must_be_called_damaged(tmp_path: Path) -> None:
    whole = drawn(tmp_path / "whole.mp4", "format=yuv420p", *X264, "-movflags", "+faststart", seconds=1)
    source = tmp_path / "cut.mp4"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 5])
    good = enlarged(source, tmp_path / "good.mp4", *X264)

    assert "state" in keys(measure(source, good, 2, outcome=Outcome()))
    assert "state" not in keys(measure(source, good, 2, outcome=Outcome(state="damaged", reason="cut")))


# Interlaced


@pytest.fixture(scope="module")
def woven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interlaced, top field first: bars and a ball that move by some pixels per field."""
    path = tmp_path_factory.mktemp("woven") / "woven.mkv"
    weave = "testsrc2=s=160x120:r=50:d=0.6,interlace=lowpass=off,setfield=tff,format=yuv420p"
    mpeg2 = ("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-q:v", "2", "-g", "1")
    ffmpeg("-f", "lavfi", "-i", weave, "-vf", f"setfield=tff,{TAGS}", *mpeg2, path)
    return path


FRAME_TOLD = Outcome(told=("it is interlaced: bwdif makes one frame of each frame that says so",))
FIELD_TOLD = Outcome(
    told=("deinterlaced as asked: bwdif makes a frame of each field, at twice the frame rate",)
)
OFF_TOLD = Outcome(told=("it is interlaced and stays woven, as asked",))
ONE_FRAME, TWO_FRAMES = "bwdif=mode=send_frame", "bwdif=mode=send_field"


def test_deinterlaced_frames_are_compared_with_those_of_bwdif(woven: Path, tmp_path: Path) -> None:
    good = enlarged(woven, tmp_path / "good.mkv", *X264, chain=ONE_FRAME)
    combed = enlarged(woven, tmp_path / "combed.mkv", *X264, chain="setfield=prog")

    verdict = measure(woven, good, 2, outcome=FRAME_TOLD)

    assert verdict.faults == []
    assert verdict.figures["combed"] > 5, "the source must have something to lose"
    assert keys(measure(woven, combed, 2, outcome=FRAME_TOLD)) >= {"combs"}
    assert keys(measure(woven, combed, 2, outcome=OFF_TOLD)) == set()
    assert "told" in keys(measure(woven, good, 2, outcome=Outcome()))
    assert "told" in keys(measure(woven, good, 2, outcome=FRAME_TOLD, deinterlace="field"))


def test_frames_that_stay_flagged_are_a_fault(woven: Path, tmp_path: Path) -> None:
    x264 = (*X264, "-flags", "+ilme+ildct", "-x264-params", "tff=1")
    flagged = enlarged(woven, tmp_path / "flagged.mkv", *x264, chain=f"{ONE_FRAME},setfield=tff")

    assert keys(measure(woven, flagged, 2, outcome=FRAME_TOLD)) >= {"interlaced"}


def test_fields_become_frames_at_their_own_times(woven: Path, tmp_path: Path) -> None:
    good = enlarged(woven, tmp_path / "good.mp4", *X264, chain=TWO_FRAMES)
    late = enlarged(woven, tmp_path / "late.mp4", *X264, chain=f"{TWO_FRAMES},setpts='PTS+40*mod(N,2)'")
    swapped = enlarged(woven, tmp_path / "swapped.mp4", *X264, chain=f"{TWO_FRAMES},shuffleframes=1 0")
    single = enlarged(woven, tmp_path / "single.mp4", *X264, chain=ONE_FRAME)

    assert keys(measure(woven, good, 2, outcome=FIELD_TOLD)) == set()
    assert keys(measure(woven, late, 2, outcome=FIELD_TOLD)) == {"pts"}
    assert keys(measure(woven, swapped, 2, outcome=FIELD_TOLD)) >= {"order"}
    assert keys(measure(woven, single, 2, outcome=FIELD_TOLD)) >= {"frames"}


# Times and sizes


def test_repaired_times_keep_number_and_order(tmp_path: Path) -> None:
    source = drawn(tmp_path / "a.nut", "format=yuv420p,setpts='N-eq(N,5)'", *FFV1)
    repaired = "setpts=N/25/TB"
    good = enlarged(source, tmp_path / "good.mkv", *FFV1, chain=repaired)
    swapped = enlarged(source, tmp_path / "swapped.mkv", *FFV1, chain=f"shuffleframes=1 0,{repaired}")
    fewer = enlarged(source, tmp_path / "fewer.mkv", *FFV1, chain=f"select='not(eq(n,5))',{repaired}")
    told = Outcome(told=("its timestamps are repaired: frame 5 repeats a time", "limited range is assumed"))

    assert keys(measure(source, good, 2, outcome=told)) == set()
    assert "told" in keys(measure(source, good, 2, outcome=Outcome()))
    assert keys(measure(source, swapped, 2, outcome=told)) == {"order"}
    assert keys(measure(source, fewer, 2, outcome=told)) >= {"frames"}


def test_frames_that_change_their_size_become_one_size(tmp_path: Path) -> None:
    parts = [
        drawn(tmp_path / f"{size}.h264", "format=yuv420p", *X264, "-bf", "0", seconds=0.2, size=size)
        for size in ("96x64", "144x96")
    ]
    (tmp_path / "both.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    source = tmp_path / "both.ts"
    ffmpeg("-fflags", "+genpts", "-r", "25", "-i", tmp_path / "both.h264", "-c", "copy", source)
    fitted = ("-vf", "scale=192:128:flags=bicubic", *EXACT_TIMES, *X264, "-bsf:v", "h264_metadata")
    good, mirrored = tmp_path / "good.mp4", tmp_path / "mirrored.mp4"
    ffmpeg("-copyts", "-i", source, *fitted, good)
    fitted = ("-vf", "scale=192:128:flags=bicubic,hflip=enable='gte(n,3)'", *fitted[2:])
    ffmpeg("-copyts", "-i", source, *fitted, mirrored)

    verdict = measure(source, good, 2)

    assert keys(verdict) == set()
    assert "the size of the source's frames changes midway" in verdict.notes
    assert "content" in keys(measure(source, mirrored, 2))
    assert "size" in keys(measure(source, source, 1))


# Other streams


def test_second_video_must_be_the_same_bytes(tmp_path: Path) -> None:
    first = drawn(tmp_path / "first.mp4", "format=yuv420p", *X264)
    second = drawn(tmp_path / "second.mp4", "negate,format=yuv420p", *X264)
    source, good, bad = (tmp_path / name for name in ("both.mp4", "good.mp4", "bad.mp4"))
    ffmpeg("-i", first, "-i", second, "-map", 0, "-map", 1, "-c", "copy", *EXACT_TIMES, source)
    common = ("-i", source, "-map", "0", *X264, "-filter:v:0", DOUBLE, *EXACT_TIMES)
    ffmpeg(*common, "-c:v:1", "copy", good)
    ffmpeg(*common, bad)

    assert keys(measure(source, good, 2)) == set()
    assert keys(measure(source, bad, 2)) == {"video:0"}


def test_lost_stream_is_excused_only_by_its_number(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / "b.mkv"
    sounds = ("-f", "lavfi", "-i", "sine=f=440:d=0.4", "-f", "lavfi", "-i", "sine=f=880:d=0.4")
    pictures = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.4", "-vf", TAGS)
    ffmpeg(
        *pictures[:4], *sounds, *pictures[4:], "-map", 0, "-map", 1, "-map", 2, *FFV1, "-c:a", "flac", source
    )
    maps = ("-map", "0:v", "-map", "0:a:1", "-default_mode", "passthrough")
    ffmpeg("-copyts", "-i", source, *maps, "-vf", DOUBLE, *EXACT_TIMES, *FFV1, "-c:a", "copy", output)

    def told(index: int) -> Outcome:
        return Outcome(told=(f"stream {index} (audio, flac) is dropped: matroska cannot hold it",))

    assert keys(measure(source, output, 2, outcome=told(1))) == set()
    assert keys(measure(source, output, 2, outcome=told(2))) >= {"audio:0"}


def test_any_lost_tag_is_a_fault_unless_told(tmp_path: Path) -> None:
    tags = ("-metadata", "location=Paris", "-metadata", "episode_id=7", "-metadata:s:v", "title=Angle 1")
    source = drawn(tmp_path / "a.mkv", "format=yuv420p", *FFV1, *tags)
    good = enlarged(source, tmp_path / "good.mkv", *FFV1)
    lost = enlarged(source, tmp_path / "lost.mkv", *FFV1, "-metadata", "location=", "-metadata:s:v", "title=")
    told = Outcome(told=("the tag location cannot be held and is dropped",))

    assert keys(measure(source, good, 2)) == set()
    assert keys(measure(source, lost, 2)) == {"metadata:location", "video"}
    assert keys(measure(source, lost, 2, outcome=told)) == {"video"}


def test_colour_tags_out_of_nowhere_must_be_told(tmp_path: Path) -> None:
    source = drawn(tmp_path / "a.mp4", "format=yuv420p", *X264, tags="")
    tags = ("-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m")
    output = enlarged(source, tmp_path / "b.mp4", *X264, *tags)
    told = Outcome(told=("colour tags that the source does not set are written as assumed: BT.601",))

    assert keys(measure(source, output, 2, outcome=told)) == set()
    assert keys(measure(source, output, 2, outcome=Outcome())) == {"told"}


def test_number_of_frames_in_the_report_must_be_true(tmp_path: Path) -> None:
    source = drawn(tmp_path / "a.mkv", "format=yuv420p", *FFV1)
    output = enlarged(source, tmp_path / "b.mkv", *FFV1)

    assert keys(measure(source, output, 2, outcome=Outcome(num_frames=10))) == set()
    assert keys(measure(source, output, 2, outcome=Outcome(num_frames=11))) == {"report"}


def test_frames_behind_the_end_are_missing_as_the_container_promises(tmp_path: Path) -> None:
    whole, source = tmp_path / "whole.mp4", tmp_path / "source.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=0.8", "-c:v", "mjpeg", "-movflags", "faststart", whole
    )
    content = whole.read_bytes()
    source.write_bytes(content[: len(content) * 6 // 10])
    held = len(independent.read_film(source).packets[0])
    output = enlarged(source, tmp_path / "out.mkv", *FFV1)

    def judged(num_frames: int) -> set[str]:
        missing = (Span(held / 25, 0.8, num_frames),)
        return keys(
            measure(source, output, 2, outcome=Outcome(state="damaged", reason="cut", missing=missing))
        )

    assert "missing" not in judged(20 - held)
    assert "missing" in judged(20 - held + 1)
