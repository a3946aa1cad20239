"""Pictures with their truth: from folders, pairs of folders and videos."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from cluster.frames import color_space_of, plane_format_of
from cluster.images.info import IMAGE_SUFFIXES, is_image
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.info import ColorTags, VideoInfo
from cluster.video.probe import probe
from cluster.video.tags import assume_color
from cluster.windows import windows
from jobs.load import refuse_s3
from jobs.pictures import read_picture
from sr_core.color import planes_to_rgb
from sr_core.errors import MediaError, SpecError
from sr_core.metrics.ssim import WINDOW_PX
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
    def told(self) -> tuple[str, ...]:
        """What must be known of the pictures: nothing, for those that are not plain are refused."""
        return ()

    @property
    def num_pictures(self) -> int:
        """How many there are."""
        return len(self.paths)

    def pictures(self) -> Iterator[Picture]:
        """The pictures, one at a time.

        Raises:
            MediaError: An image is damaged.
            SpecError: It is too small or not plain R'G'B' or grey, or HR and LR contradict each other.
            StorageError: An image cannot be read.
        """
        for hr_path, lr_path in self.paths:
            stored, lr_frame = self._read(hr_path, lr_path)
            hr_frame = _rgb(stored)
            if lr_frame is None:
                seed = zlib.crc32(hr_path.name.encode())
                lr_frame = degrade(hr_frame, self.scale, self.degradation, seed)
            yield Picture(hr_path.name, hr_frame, lr_frame, is_grey=stored.shape[1] == 1)

    def check(self) -> None:
        """Reads every image, so that none stops a measurement of hours; raises as `pictures` does."""
        for hr_path, lr_path in self.paths:
            self._read(hr_path, lr_path)

    def _read(self, hr_path: Path, lr_path: Path | None) -> tuple[Tensor, Tensor | None]:
        stored = _cropped(read_image(hr_path), self.scale, str(hr_path))
        if lr_path is None:
            return stored, None
        lr_frame = _rgb(read_image(lr_path))
        _check_pair(hr_path, stored, lr_path, lr_frame, self.scale)
        return stored, lr_frame


@dataclass(frozen=True)
class Video:
    """The frames of a video, as 8-bit R'G'B'.

    Attributes:
        name: For people.
        info: Of the file at `path`.
        num_pictures: Most frames that are taken, from the start; None takes all.
        context: Frames before and after each that models see with it.
    """

    name: str
    path: Path
    info: VideoInfo
    scale: int
    degradation: Degradation
    num_pictures: int | None
    context: tuple[int, int] = (0, 0)

    @property
    def is_paired(self) -> bool:
        """Whether LR frames are given."""
        return False

    @property
    def told(self) -> tuple[str, ...]:
        """What must be known of its pictures, a sentence each."""
        told = []
        if self.info.is_interlaced:
            told.append("it is interlaced and measured as it is stored, both fields being one picture")
        if self.info.display_matrix is not None:
            told.append("it is measured as it is stored, without the rotation that it asks for")
        return tuple(f"{self.name}: {sentence}" for sentence in told)

    def pictures(self) -> Iterator[Picture]:
        """The frames, one at a time.

        Their neighbours are those that models see in `framelift upscale`: of the same scene, and also behind
        the last frame that is taken.

        Raises:
            MediaError: The video cannot be read, changes its size, or a frame of it is damaged.
            SpecError: It is too small.
        """
        made = deque[tuple[DecodedFrame, Picture]](maxlen=sum(self.context) + 1)
        for window in windows(self._made(made), *self.context):
            pictures = {id(frame): picture for frame, picture in made}
            yield replace(
                pictures[id(window.frame)],
                before=tuple(pictures[id(frame)].lr_frame for frame in window.before),
                after=tuple(pictures[id(frame)].lr_frame for frame in window.after),
            )

    def _made(self, made: deque[tuple[DecodedFrame, Picture]]) -> Iterator[DecodedFrame]:
        """The frames that are taken and those that the last of them sees; the picture of each is put by."""
        num_all = None if self.num_pictures is None else self.num_pictures + self.context[1]
        for number, frame in enumerate(islice(_frames(self.path, self.info), num_all)):
            if made and made[-1][0].planes[0].shape != frame.planes[0].shape:
                raise MediaError("the video changes its size", where=f"{self.path} at pts {frame.pts}")
            is_context = self.num_pictures is not None and number >= self.num_pictures
            frame = replace(frame, is_context=is_context)
            made.append((frame, self._picture(frame, number)))
            yield frame

    def _picture(self, frame: DecodedFrame, number: int) -> Picture:
        """A frame without its neighbours."""
        stored = _rgb_of(frame, assume_color(self.info)[0], str(self.path))
        hr_frame = _cropped(stored, self.scale, str(self.path))
        lr_frame = degrade(hr_frame, self.scale, self.degradation, seed=number)
        time_s = float((frame.pts - self.info.start_pts) * self.info.time_base)
        return Picture(f"frame {number}", hr_frame, lr_frame, time_s=time_s)


Data = Stills | Video


def open_data(text: str, scale: int, degradation: Degradation, num_frames: int | None) -> Data:
    """The data that `text` names: a folder, an image, a video, or two folders as `HR:LR`.

    Raises:
        SpecError: Nothing is there, no image is among it, or HR and LR images do not pair up.
        MediaError: The video cannot be read.
    """
    refuse_s3(text, "data to evaluate on")
    path = Path(text)
    if path.is_dir():
        paths = tuple((each, None) for each in _images(path))
        return Stills(path.resolve().name, paths, scale, degradation)
    if path.exists():
        if is_image(path.name):
            return Stills(path.name, ((path, None),), scale, degradation)
        return Video(path.name, path, _info(path), scale, degradation, num_frames)
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
    hr_paths = _by_name(_images(hr_folder), lambda path: path.stem)
    lr_paths = _by_name(
        _images(lr_folder),
        # A whole name comes first: `box4` need not be `bo` at x4.
        lambda path: path.stem if path.stem in hr_paths else path.stem.removesuffix(f"x{scale}"),
    )
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


def _by_name(paths: Iterable[Path], name: Callable[[Path], str]) -> dict[str, Path]:
    """Paths by what `name` says of each, which must not be the same of two."""
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(name(path), path)
        if other != path:
            raise SpecError(
                "two images would be a half of the same pair",
                where=str(other),
                got=path.name,
                next_step="remove or rename one of them",
            )
    return found


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
        SpecError: There is no such image, or it is not plain R'G'B' or grey; see `read_picture`.
        MediaError: It is damaged.
        StorageError: It cannot be read.
    """
    return rounded(read_picture(path, "rgb", "refuse"))


def _rgb(frame: Tensor) -> Tensor:
    return frame.expand(-1, 3, -1, -1)


def _info(path: Path) -> VideoInfo:
    try:
        with path.open("rb") as file:
            info, _ = probe(file, str(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    return info.video


def _frames(path: Path, info: VideoInfo) -> Iterator[DecodedFrame]:
    try:
        with path.open("rb") as file, VideoReader(file, info, _DECODER_THREADS, str(path)) as reader:
            yield from reader.frames(None, None)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> MediaError:
    return MediaError("the video cannot be read", where=str(path), got=error.strerror or str(error))


def _rgb_of(frame: DecodedFrame, color: ColorTags, name: str) -> Tensor:
    if frame.is_corrupt:
        raise MediaError("a frame is damaged", where=f"{name} at pts {frame.pts}")
    planes = tuple(torch.from_numpy(plane.copy()) for plane in frame.planes)
    return rounded(planes_to_rgb(planes, plane_format_of(frame.pixels), color_space_of(frame.pixels, color)))


def _cropped(hr_frame: Tensor, scale: int, where: str) -> Tensor:
    height, width = hr_frame.shape[-2:]
    least = least_side_px(scale)
    if min(height, width) < least:
        raise SpecError(
            "the picture is too small to be measured",
            where=where,
            got=f"{width}x{height}",
            expected=f"sides of {least} px or more at scale {scale}",
            next_step="leave it out",
        )
    return mod_crop(hr_frame, scale)


def least_side_px(scale: int) -> int:
    """Of an HR picture that SSIM finds a window in once it is cropped and has lost its border."""
    return -(-WINDOW_PX // scale) * scale + 2 * scale


def _check_pair(hr_path: Path, hr_frame: Tensor, lr_path: Path, lr_frame: Tensor, scale: int) -> None:
    if hr_frame.shape[-2:] != tuple(scale * side for side in lr_frame.shape[-2:]):
        (height, width), (lr_height, lr_width) = hr_frame.shape[-2:], lr_frame.shape[-2:]
        raise SpecError(
            "the sizes of HR and LR contradict the scale",
            where=str(lr_path),
            got=f"{lr_width}x{lr_height} for {width}x{height} in {hr_path}",
            expected=f"{width // scale}x{height // scale} at scale {scale}",
        )
