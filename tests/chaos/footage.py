"""What the jobs work on: small clips in several containers, with and without sound, and a few images."""

from __future__ import annotations

import io
import json
import subprocess
from fractions import Fraction
from pathlib import Path

import av

from jobs.sample import SAMPLE

_SIZE = (640, 360)
_FRAME_RATE, _NUM_FRAMES, _SAMPLE_RATE = Fraction(24), 72, 48_000  # of the sample clip
_IMAGES = ("still/one.png", "still/two.jpg", "still/three.webp")


def make_footage(folder: Path) -> None:
    """Writes the sources below `folder`: 24 segments of half a second in three videos, and three images."""
    (folder / "still").mkdir(parents=True)
    long = folder / "long.mp4"
    _enlarge_twice(SAMPLE, long)
    _remux(long, folder / "quiet.mkv", until_s=3, kinds=("video",))
    _remux(long, folder / "other" / "broadcast.ts", until_s=3, kinds=("video", "audio"))
    with av.open(str(long)) as video:
        for name, frame in zip(_IMAGES, video.decode(video=0), strict=False):
            (folder / name).write_bytes(_still(frame, Path(name).suffix))


def frame_times(video: Path) -> list[float]:
    """When each frame of the first video is shown, in seconds after the first, as ffprobe finds them."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    command += ["-show_entries", "frame=best_effort_timestamp_time", str(video)]
    found = subprocess.run(command, capture_output=True, check=True, timeout=120)
    times = [float(frame["best_effort_timestamp_time"]) for frame in json.loads(found.stdout)["frames"]]
    return [time - times[0] for time in times]


def is_video(name: str) -> bool:
    """Whether a source or output of that name is one of the videos."""
    return not name.startswith("still/")


def _enlarge_twice(source: Path, target: Path) -> None:
    """The clip twice over, larger, so that upscaling it takes a while."""
    with av.open(str(target), "w") as output:
        stream = output.add_stream(
            "libx264", rate=_FRAME_RATE, options={"preset": "veryfast", "x264-params": "mbtree=0"}
        )
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        sound = output.add_stream("aac", rate=_SAMPLE_RATE, layout="mono")
        for turn in range(2):
            with av.open(str(source)) as clip:
                for number, frame in enumerate(clip.decode(video=0)):
                    larger = frame.reformat(*_SIZE)
                    larger.pts, larger.time_base = _NUM_FRAMES * turn + number, 1 / _FRAME_RATE
                    output.mux(stream.encode(larger))
            with av.open(str(source)) as clip:
                for block in clip.decode(audio=0):
                    block.pts = (block.pts or 0) + _SAMPLE_RATE * _NUM_FRAMES * turn // 24
                    output.mux(sound.encode(block))
        output.mux(stream.encode(None))
        output.mux(sound.encode(None))


def _remux(source: Path, target: Path, until_s: float, kinds: tuple[str, ...]) -> None:
    target.parent.mkdir(exist_ok=True)
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        taken = [stream for stream in given.streams if stream.type in kinds]
        streams = {stream.index: output.add_stream_from_template(stream) for stream in taken}
        for packet in given.demux(taken):
            if packet.size and (packet.dts or 0) * packet.time_base < until_s:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)


def _still(frame: av.VideoFrame, suffix: str) -> bytes:
    buffer = io.BytesIO()
    frame.to_image().save(  # type: ignore[no-untyped-call]
        buffer, format={".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[suffix]
    )
    return buffer.getvalue()
