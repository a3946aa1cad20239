"""From a clip to an output and back, with what a worker does in between left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.job import VideoSettings
from cluster.video.codecs import EncodeSettings, choose_encode
from cluster.video.concat import JoinResult, JoinSettings, join
from cluster.video.containers import Container, carried_streams, container_of, output_name
from cluster.video.decode import VideoReader
from cluster.video.encode import PartWriter
from cluster.video.info import SourceInfo, VideoInfo
from cluster.video.probe import probe
from cluster.video.tags import assume_color
from cluster.video.timeline import PtsArray

FASTEST = {"h264": "ultrafast", "hevc": "ultrafast", "av1": "12", "vp9": "8", "ffv1": None, "prores": None}


@dataclass(frozen=True)
class Joined:
    """An output and all that led to it."""

    path: Path
    info: SourceInfo
    settings: JoinSettings
    parts: list[Path]
    packet_pts: list[PtsArray]
    result: JoinResult

    @property
    def video(self) -> VideoInfo:
        return self.settings.video

    @property
    def encode(self) -> EncodeSettings:
        return self.settings.encode

    @property
    def pts(self) -> PtsArray:
        return np.concatenate(self.packet_pts)


def settings_for(
    video: VideoInfo, container: Container, codec: str = "auto", **wishes: object
) -> EncodeSettings:
    """How a copy of `video` in its own size is encoded, in a hurry."""
    color, _ = assume_color(video)
    asked = VideoSettings(codec=codec, **wishes)
    name = choose_encode(video, color, asked, container, video.width, video.height, 2).codec
    asked = VideoSettings(codec=name, preset=FASTEST[name], **wishes)
    return choose_encode(video, color, asked, container, video.width, video.height, 2)


def write_part(
    path: Path, settings: EncodeSettings, frames: list[tuple[int, tuple[np.ndarray, ...]]]
) -> PtsArray:
    """Writes a part and gives its packets' pts."""
    with PartWriter(path, settings) as writer:
        for pts, planes in frames:
            writer.write(planes, pts)
        return writer.close().packet_pts


def split_and_join(
    source: Path,
    folder: Path,
    container: Container | str = "auto",
    codec: str = "auto",
    num_parts: int = 3,
    **wishes: object,
) -> Joined:
    """`source` decoded, encoded in parts and joined again."""
    with source.open("rb") as file:
        info, timeline = probe(file, source.name)
        name = output_name(source.name, container)  # type: ignore[arg-type]
        settings = settings_for(info.video, container_of(name), codec, **wishes)
        cuts = [int(timeline.pts[len(timeline.pts) * part // num_parts]) for part in range(1, num_parts)]
        parts, packet_pts = [], []
        with VideoReader(file, info.video, 2) as reader:
            for number, (start, end) in enumerate(zip([None, *cuts], [*cuts, None], strict=True)):
                path = folder / f"part{number}.{settings.part_container}"
                frames = [(frame.pts, frame.planes) for frame in reader.frames(start, end)]
                packet_pts.append(write_part(path, settings, frames))
                parts.append(path)
        carried, _ = carried_streams(info, container_of(name))
        how = JoinSettings(info.video, settings, container_of(name), carried)
        path = folder / f"joined-{name}"
        result = join(iter(parts), packet_pts, how, file, source.name, path)
    return Joined(path, info, how, parts, packet_pts, result)
