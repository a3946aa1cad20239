"""Pictures with their truth: from folders, pairs of folders and videos."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cluster.frames import color_space_of, plane_format_of
from cluster.images.info import IMAGE_SUFFIXES, is_image
from cluster.images.read import open_image
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.info import ColorTags
from cluster.video.probe import probe
from cluster.video.tags import assume_color
from jobs.load import refuse_s3
from sr_core.color import planes_to_rgb
from sr_core.errors import MediaError, SpecError
from sr_core.shrink import Degradation, degrade, mod_crop, rounded

_DECODER_THREADS = 2


@dataclass(frozen=True)
class Picture:
    """One picture with its truth; frames are (1, 3, H, W) float32 R'G'B' of 8-bit values, 0..1.

    Attributes:
        name: For people.
        hr_frame: The truth; its sides are the scale times those of `lr_frame`.
        lr_frame: What models are given.
        before: The LR frames before it in a video, the nearest last; for models that see several at once.
        after: Those after it.
        time_s: When a video shows it; None for still pictures.
        is_grey: The truth is stored without colours.
    """

    name: str
    hr_frame: Tensor
    lr_frame: Tensor
    before: tuple[Tensor, ...] = ()
    after: tuple[Tensor, ...] = ()
    time_s: float | None = None
    is_grey: bool = False


@dataclass(frozen=True)
class Stills:
    """Still pictures, in the order of their names.

    Attributes:
        name: For people.
        paths: HR images, each with its LR image, or with None where that is made.
    """

    name: str
    paths: tuple[tuple[Path, Path | None], ...]
    scale: int
    degradation: Degradation

    @property
    def is_paired(self) -> bool:
        """Whether LR images are given."""
        return self.paths[0][1] is not None

    @property
    def num_pictures(self) -> int:
        """How many there are."""
        return len(self.paths)

    def pictures(self) -> Iterator[Picture]:
        """The pictures, one at a time.

        Raises:
            MediaError: An image cannot be read, is damaged, or is not plain R'G'B' or grey.
            SpecError: It is too small, or HR and LR contradict each other.
        """
        for hr_path, lr_path in self.paths:
            stored = _cropped(read_image(hr_path), self.scale, str(hr_path))
            hr_frame = _rgb(stored)
            if lr_path is None:
                seed = zlib.crc32(hr_path.name.encode())
                lr_frame = degrade(hr_frame, self.scale, self.degradation, seed)
            else:
                lr_frame = _rgb(read_image(lr_path))
                _check_pair(hr_path, hr_frame, lr_path, lr_frame, self.scale)
            yield Picture(hr_path.name, hr_frame, lr_frame, is_grey=stored.shape[1] == 1)


@dataclass(frozen=True)
class Video:
    """The frames of a video, as 8-bit R'G'B'.

    Attributes:
        name: For people.
        num_pictures: Most frames that are taken, from the start; None takes all.
        context: Frames before and after each that are kept with it.
    """

    name: str
    path: Path
    scale: int
    degradation: Degradation
    num_pictures: int | None
    context: tuple[int, int] = (0, 0)

    @property
    def is_paired(self) -> bool:
        """Whether LR frames are given."""
        return False

    def pictures(self) -> Iterator[Picture]:
        """The frames, one at a time.

        Raises:
            MediaError: The video cannot be read, or a frame of it is damaged.
            SpecError: It is too small.
        """
        num_before, num_after = self.context
        kept: deque[Picture] = deque(maxlen=num_before + 1 + num_after)
        num_read = num_given = 0
        for picture in self._plain():
            kept.append(picture)
            num_read += 1
            if num_read > num_after:
                yield _among(kept, num_read - num_given, num_before)
                num_given += 1
        while num_given < num_read:
            yield _among(kept, num_read - num_given, num_before)
            num_given += 1

    def _plain(self) -> Iterator[Picture]:
        for number, (frame, time_s) in enumerate(islice(_frames(self.path), self.num_pictures)):
            hr_frame = _cropped(frame, self.scale, str(self.path))
            lr_frame = degrade(hr_frame, self.scale, self.degradation, seed=number)
            yield Picture(f"frame {number}", hr_frame, lr_frame, time_s=time_s)


Data = Stills | Video


def open_data(text: str, scale: int, degradation: Degradation, num_frames: int | None) -> Data:
    """The data that `text` names: a folder, an image, a video, or two folders as `HR:LR`.

    Raises:
        SpecError: Nothing is there, no image is among it, or HR and LR images do not pair up.
    """
    refuse_s3(text, "data to evaluate on")
    path = Path(text)
    if path.is_dir():
        paths = tuple((each, None) for each in _images(path))
        return Stills(path.resolve().name, paths, scale, degradation)
    if path.exists():
        if is_image(path.name):
            return Stills(path.name, ((path, None),), scale, degradation)
        return Video(path.name, path, scale, degradation, num_frames)
    hr_text, colon, lr_text = text.rpartition(":")
    if not colon:
        raise SpecError(
            "there is no such data", where=text, expected="a folder of images, HR:LR folders, or a video"
        )
    return _paired(Path(hr_text), Path(lr_text), scale, degradation)


def _paired(hr_folder: Path, lr_folder: Path, scale: int, degradation: Degradation) -> Stills:
    """Images of the same name, but for the suffix and an `x4` after it, as DIV2K has."""
    for folder in (hr_folder, lr_folder):
        if not folder.is_dir():
            raise SpecError("there is no such folder", where=str(folder), expected="HR:LR, two folders")
    hr_paths = {path.stem: path for path in _images(hr_folder)}
    lr_paths = {path.stem.removesuffix(f"x{scale}"): path for path in _images(lr_folder)}
    alone = sorted(hr_paths.keys() ^ lr_paths.keys())
    if alone:
        stem = alone[0]
        has_hr = stem in hr_paths
        raise SpecError(
            f"{len(alone)} images have no partner",
            where=str(hr_paths[stem] if has_hr else lr_paths[stem]),
            expected=f"an image of the same name in {lr_folder if has_hr else hr_folder}",
        )
    pairs = tuple((path, lr_paths[stem]) for stem, path in hr_paths.items())
    return Stills(hr_folder.resolve().name, pairs, scale, degradation)


def _images(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if is_image(path.name) and not path.name.startswith(".")]
    if not found:
        raise SpecError(
            "there is no image in the folder", where=str(folder), expected=", ".join(IMAGE_SUFFIXES)
        )
    return sorted(found)


def read_image(path: Path) -> Tensor:
    """(1, 3, H, W) float32 R'G'B' 0..1 of an image, or (1, 1, H, W) grey; more than 8 bits are rounded.

    Raises:
        MediaError: It cannot be read, is damaged, has several frames, or is not plain R'G'B' or grey.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            image = open_image(file, name)
            planes = list(image.frames())
    except OSError as error:
        raise MediaError("the image cannot be read", where=name, got=str(error)) from error
    if image.damage:
        raise MediaError("the image is damaged", where=name, got=image.damage)
    peak = 2**image.info.bit_depth - 1
    is_hidden = image.info.has_alpha and bool((planes[0][-1] < peak).any())
    if len(planes) != 1 or image.info.layout == "cmyk" or is_hidden:
        raise MediaError(
            "the image has no truth to compare with",
            where=name,
            got=image.info.samples,
            expected="one picture in grey or RGB, with nothing transparent",
        )
    colors = np.stack(planes[0][: 1 if image.info.layout == "grey" else 3]).astype(np.float32)
    return rounded(torch.from_numpy(colors) / peak)[None]


def _rgb(frame: Tensor) -> Tensor:
    return frame.expand(-1, 3, -1, -1)


def _frames(path: Path) -> Iterator[tuple[Tensor, float]]:
    """The frames of a video as `read_image` gives images, with their times in seconds from the first."""
    name = str(path)
    try:
        with path.open("rb") as file:
            info, _ = probe(file, name)
            color, _ = assume_color(info.video)
            with VideoReader(file, info.video, _DECODER_THREADS, name) as reader:
                for frame in reader.frames(None, None):
                    time_s = float((frame.pts - info.video.start_pts) * info.video.time_base)
                    yield _rgb_of(frame, color, name), time_s
    except OSError as error:
        raise MediaError("the video cannot be read", where=name, got=str(error)) from error


def _rgb_of(frame: DecodedFrame, color: ColorTags, name: str) -> Tensor:
    if frame.is_corrupt:
        raise MediaError("a frame is damaged", where=f"{name} at pts {frame.pts}")
    planes = tuple(torch.from_numpy(plane.copy()) for plane in frame.planes)
    return rounded(planes_to_rgb(planes, plane_format_of(frame.pixels), color_space_of(frame.pixels, color)))


def _among(kept: deque[Picture], from_end: int, num_before: int) -> Picture:
    """The picture that many from the end, the last being 1, with its neighbours."""
    pictures = list(kept)
    place = len(pictures) - from_end
    picture = pictures[place]
    before = tuple(each.lr_frame for each in pictures[max(0, place - num_before) : place])
    after = tuple(each.lr_frame for each in pictures[place + 1 :])
    return replace(picture, before=before, after=after)


def _cropped(hr_frame: Tensor, scale: int, where: str) -> Tensor:
    height, width = hr_frame.shape[-2:]
    if min(height, width) < scale:
        raise SpecError("the picture is smaller than the scale", where=where, got=f"{width}x{height}")
    return mod_crop(hr_frame, scale)


def _check_pair(hr_path: Path, hr_frame: Tensor, lr_path: Path, lr_frame: Tensor, scale: int) -> None:
    if hr_frame.shape[-2:] != tuple(scale * side for side in lr_frame.shape[-2:]):
        (height, width), (lr_height, lr_width) = hr_frame.shape[-2:], lr_frame.shape[-2:]
        raise SpecError(
            "the sizes of HR and LR contradict the scale",
            where=str(lr_path),
            got=f"{lr_width}x{lr_height} for {width}x{height} in {hr_path}",
            expected=f"{width // scale}x{height // scale} at scale {scale}",
        )
