"""Pictures to train on: read from folders or buckets of images and videos, and kept as 8-bit R'G'B' codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import Lock
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from cluster.frames import color_space_of, plane_format_of
from cluster.images.info import IMAGE_SUFFIXES, is_image
from cluster.images.read import open_image
from cluster.images.source import SourceImage
from cluster.images.vips import Planes
from cluster.places import place_of
from cluster.storage import ObjectInfo, open_storage
from cluster.training.split import Split
from cluster.video.containers import VIDEO_SUFFIXES
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.info import ColorTags
from cluster.video.probe import probe
from cluster.video.tags import assume_color
from cluster.windows import windows
from sr_core.color import planes_to_rgb
from sr_core.errors import MediaError, SpecError
from sr_core.train.crops import Ahead, Pictures

_READERS = 4  # threads; libvips decodes without Python
_DECODER_THREADS = 1
_MAX_LISTED = 20
_MIB = 1 << 20


@dataclass(frozen=True)
class DataSettings:
    """What is read.

    Attributes:
        sources: Images, videos, or folders of them with all that lies below; local or `s3://`.
        least_side_px: Pictures with a smaller side hold no crop, and are left out.
        frame_stride: Every so many frames of a video are taken, from the first on; of clips, one begins.
        most_bytes: That all pictures may take in memory, 3 bytes a pixel and frame.
    """

    sources: tuple[str, ...]
    least_side_px: int
    frame_stride: int = 24
    most_bytes: int = 4096 * _MIB

    def __post_init__(self) -> None:
        if not self.sources:
            raise SpecError("there is nothing to train on", where="sources", expected="one folder at least")
        for name in ("least_side_px", "frame_stride", "most_bytes"):
            if getattr(self, name) < 1:
                raise SpecError("this must be positive", where=name, got=str(getattr(self, name)))


@dataclass(frozen=True)
class LeftOut:
    """What is not trained on.

    Attributes:
        name: Of the file, with its folder.
        reason: In words.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class TrainingData:
    """What was found.

    Attributes:
        pictures: In the order of sources and names.
        left_out: In the same order.
        parts: What of the pictures is set aside, where that is known already; else their content decides.
    """

    pictures: Pictures
    left_out: tuple[LeftOut, ...]
    parts: Split | None = None


@dataclass(frozen=True)
class SourceFile:
    """A file of a source."""

    store_url: str
    info: ObjectInfo

    @property
    def name(self) -> str:
        """With its folder."""
        return f"{self.store_url.rstrip('/')}/{self.info.key}"


@dataclass(frozen=True)
class Found:
    """What a file gives: pictures, and in words what it does not."""

    file: SourceFile
    pictures: tuple[Tensor, ...] = ()
    left_out: tuple[str, ...] = ()


class Budget:
    """What pictures take in memory, over all threads; what is more than that is only counted."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = Lock()
        self.num_bytes = 0

    @property
    def is_exceeded(self) -> bool:
        """Whether nothing may be kept any more."""
        return self.num_bytes > self._most_bytes

    def holds(self, num_bytes: int) -> bool:
        """Counts a picture; whether it may be kept."""
        with self._lock:
            self.num_bytes += num_bytes
        return not self.is_exceeded


def read_pictures(settings: DataSettings, num_frames: int = 1) -> TrainingData:
    """Reads all pictures that can be trained on.

    Args:
        settings: What is read.
        num_frames: Of videos, clips of so many frames in a row are taken, an odd number; they are of one
            scene, as `cluster.windows` tells scenes apart. Each is a picture of 3 * num_frames channels.

    Of images with several frames or pages the first is taken; grey becomes R'G'B', and more than 8 bits are
    rounded. What is damaged, transparent somewhere, in CMYK, interlaced or too small is left out, and told.

    Raises:
        SpecError: There is no such source, nothing in them can be trained on, or it is more than memory may
            hold.
        StorageError: A store fails.
    """

    def read(file: SourceFile, content: BinaryIO, budget: Budget) -> Found:
        if is_image(file.info.key):
            return image_found(file, open_image(content, file.name), settings, budget)
        return _clips(file, content, settings, num_frames, budget)

    return read_files(settings, read)


Read = Callable[[SourceFile, BinaryIO, Budget], Found]
"""What a file gives; it may raise MediaError."""


def read_files(settings: DataSettings, read: Read) -> TrainingData:
    """Reads all images and videos by `read`, which several threads call.

    Raises:
        SpecError: There is no such source, nothing in them can be trained on, or it is more than memory may
            hold.
        StorageError: A store fails.
    """
    files, budget = _files(settings.sources), Budget(settings.most_bytes)
    pictures: list[Tensor] = []
    names: list[str] = []
    sources: list[int] = []
    left_out: list[LeftOut] = []
    for number, found in enumerate(_found(files, read, budget)):
        left_out += [LeftOut(found.file.name, reason) for reason in found.left_out]
        pictures += found.pictures
        names += _names_of(found)
        sources += [number] * len(found.pictures)
        if budget.is_exceeded:
            pictures.clear()
    if budget.is_exceeded:
        raise _too_much(budget.num_bytes, settings)
    if not pictures:
        raise _nothing(settings, left_out)
    return TrainingData(Pictures.packed(pictures, names, sources), tuple(left_out))


def _names_of(found: Found) -> list[str]:
    if is_image(found.file.info.key):
        return [found.file.name] * len(found.pictures)
    return [f"{found.file.name}, picture {number}" for number in range(len(found.pictures))]


def file_names(source: str) -> list[str]:
    """Of all images and videos of a source, in their order; the names of what is read begin with them.

    Raises:
        SpecError: There is none.
        StorageError: The store fails.
    """
    return [file.name for file in files_of(source)]


def _files(sources: Sequence[str]) -> list[SourceFile]:
    found: dict[tuple[str, str], SourceFile] = {}
    for source in sources:
        for file in files_of(source):
            found.setdefault((file.store_url, file.info.key), file)
    return list(found.values())


def files_of(source: str) -> Iterator[SourceFile]:
    """Images and videos by their names, in the order of these.

    Raises:
        SpecError: There is none.
    """
    place = place_of(source)
    if place.is_file:
        store = open_storage(place.parent.url)
        info = store.head(place.name)
        objects = [] if info is None else [info]
    else:
        store = open_storage(place.url)
        objects = list(store.list()) if place.is_folder else []
    wanted = [each for each in objects if _is_wanted(each.key)]
    if not wanted:
        raise SpecError(
            "there is neither an image nor a video here",
            where=source,
            got=f"{len(objects)} other files" if objects else "nothing",
            expected=f"names that end in {' '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}",
        )
    yield from (SourceFile(store.url, each) for each in wanted)


def _is_wanted(key: str) -> bool:
    path = PurePosixPath(key)
    is_hidden = any(part.startswith(".") for part in path.parts)
    return not is_hidden and (is_image(key) or path.suffix.lower() in VIDEO_SUFFIXES)


def _found(files: Sequence[SourceFile], read: Read, budget: Budget) -> Iterator[Found]:
    """What each file gives, in their order."""

    def found_in(number: int) -> Found | None:
        if number >= len(files):
            return None
        file = files[number]
        try:
            with open_storage(file.store_url).open(file.info.key, file.info.version) as content:
                return read(file, content, budget)
        except MediaError as error:
            return Found(file, left_out=(": ".join(filter(None, (error.what, error.got))),))

    with Ahead(found_in, num_threads=_READERS, depth=2 * _READERS) as coming:
        for found in coming:
            if found is None:
                return
            yield found


def image_found(file: SourceFile, image: SourceImage, settings: DataSettings, budget: Budget) -> Found:
    """The first frame of an image as R'G'B' codes, or why it cannot be trained on.

    Raises:
        MediaError: It cannot be decoded.
    """
    width, height = image.info.width, image.info.height
    if min(width, height) < settings.least_side_px:
        return Found(file, left_out=(f"{_small(width, height)} than {settings.least_side_px}",))
    if budget.is_exceeded:
        budget.holds(3 * width * height)
        return Found(file)
    planes = next(iter(image.frames()))
    reason = _wrong_with_image(image, planes)
    if reason:
        return Found(file, left_out=(reason,))
    is_grey = image.info.layout == "grey"
    picture = _codes(planes[:1] * 3 if is_grey else planes[:3], (1 << image.info.bit_depth) - 1)
    return Found(file, (picture,) if budget.holds(picture.numel()) else ())


def _wrong_with_image(image: SourceImage, planes: Planes) -> str:
    """Why an image cannot be trained on; empty where it can."""
    peak = (1 << image.info.bit_depth) - 1
    if image.damage:
        return f"it is damaged: {image.damage}"
    if image.info.layout == "cmyk":
        return "it is in CMYK"
    if image.info.has_alpha and bool((planes[-1] < peak).any()):
        return "it is transparent in places, where its colours mean nothing"
    return ""


def _small(width: int, height: int) -> str:
    return f"it is {width}x{height}, and has fewer pixels on a side"


def _codes(planes: Planes, peak: int) -> Tensor:
    """(3, H, W) uint8 of R, G and B up to `peak`."""
    codes = np.stack([np.asarray(plane) for plane in planes])
    if peak != 255:
        codes = ((codes.astype(np.uint32) * 255 + peak // 2) // peak).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(codes))


def _clips(
    file: SourceFile, content: BinaryIO, settings: DataSettings, num_frames: int, budget: Budget
) -> Found:
    info, _ = probe(content, file.name)
    color, _ = assume_color(info.video)
    pictures: list[Tensor] = []
    reasons: Counter[str] = Counter()
    with VideoReader(content, info.video, _DECODER_THREADS, file.name) as reader:
        for clip in _runs(reader.frames(None, None), num_frames, settings.frame_stride):
            reason = next(filter(None, (wrong_with_frame(frame, settings) for frame in clip)), "")
            if reason:
                reasons[reason] += 1
            elif budget.holds(3 * sum(frame.planes[0].size for frame in clip)):
                pictures.append(torch.cat([rgb_codes(frame, color) for frame in clip]))
    what = "frames" if num_frames == 1 else "clips"
    left_out = [f"{count} of its {what}: {reason}" for reason, count in reasons.items()]
    if not pictures and not reasons:
        left_out.append("no scene in it is long enough")
    return Found(file, tuple(pictures), tuple(left_out))


def _runs(
    decoded: Iterable[DecodedFrame], num_frames: int, stride: int
) -> Iterator[tuple[DecodedFrame, ...]]:
    """So many frames of one scene in a row: the first ones, and again after `stride` frames or more."""
    reach, due = num_frames // 2, 0
    for number, window in enumerate(windows(decoded, reach, reach)):
        run = (*window.before, window.frame, *window.after)
        if number >= due and len(run) == num_frames:
            yield run
            due = number + stride


def wrong_with_frame(frame: DecodedFrame, settings: DataSettings) -> str:
    """Why a frame cannot be trained on; empty where it can."""
    height, width = frame.planes[0].shape
    if min(height, width) < settings.least_side_px:
        return f"{_small(width, height)} than {settings.least_side_px}"
    if frame.is_corrupt:
        return "it is damaged"
    return "it is interlaced" if frame.is_interlaced else ""


def rgb_codes(frame: DecodedFrame, color: ColorTags) -> Tensor:
    """(3, H, W) uint8 R'G'B' of a frame, whose colours are tagged with nothing left open."""
    planes = tuple(torch.from_numpy(plane.copy()) for plane in frame.planes)
    rgb = planes_to_rgb(planes, plane_format_of(frame.pixels), color_space_of(frame.pixels, color))
    return (rgb[0] * 255).round_().clamp_(0, 255).byte()


def _too_much(num_bytes: int, settings: DataSettings) -> SpecError:
    return SpecError(
        "the pictures are more than memory may hold",
        where=", ".join(settings.sources),
        got=f"{num_bytes / _MIB:,.0f} MiB as 8-bit R'G'B'",
        expected=f"{settings.most_bytes / _MIB:,.0f} MiB at most",
        next_step="allow more, take fewer pictures, or a larger stride of video frames",
    )


def _nothing(settings: DataSettings, left_out: Sequence[LeftOut]) -> SpecError:
    listed = "; ".join(f"{each.name}: {each.reason}" for each in left_out[:_MAX_LISTED])
    more = f"; and {len(left_out) - _MAX_LISTED} more" if len(left_out) > _MAX_LISTED else ""
    return SpecError("no picture can be trained on", where=", ".join(settings.sources), got=f"{listed}{more}")
