"""Footage without a truth, made into pairs to learn from: the same task, one size below.

Frames of the footage, shrunk so that what their coding did to them is hidden, are taken as HR.
Shrunk by the scale and coded as the footage is, they are LR: what ZSSR does with one picture (Shocher et al.
2018, arXiv:1712.06087), on all footage at once, and with its codec. Whole clips are coded, as most frames of
a video are predicted from others.

How much they are shrunk was chosen on panned photographs coded with x264 at CRF 28, whose truth was known:
by 2, what was learnt did better at full size (ESPCN, half of the new weights: +0.02 dB) than by 1.5 (-0.01)
or where they are not (+0.01, at a coarser CRF; a larger network: -0.05, against -0.03 by 2).
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cluster.images.info import is_image
from cluster.images.jpeg import luma_steps
from cluster.images.read import open_image
from cluster.storage import open_storage
from cluster.training.coding import (
    Coding,
    JpegCoding,
    Measured,
    NoCoding,
    codes_of,
    is_lossless,
    video_coding,
)
from cluster.training.data import (
    Budget,
    DataSettings,
    LeftOut,
    SourceFile,
    TrainingData,
    files_of,
    image_found,
    rgb_codes,
    wrong_with_frame,
)
from cluster.training.split import Split, difference_hash
from cluster.training.stretches import Moment, Parts, parted
from cluster.video.cost import coded_bytes
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.info import ColorTags, VideoInfo
from cluster.video.probe import probe
from cluster.video.tags import assume_color
from cluster.video.timeline import Timeline
from sr_core.errors import MediaError
from sr_core.jpeg import nearest_quality
from sr_core.train.crops import Pictures, item_generator, unit_frames
from sr_core.train.degradations.bicubic import Bicubic

_CLIP_FRAMES = 8
_LEAST_STRIDE_FRAMES = 12  # about half a second
_NUM_MEASURED = 3
_DECODER_THREADS = 2
_HDR_TRANSFERS = (16, 18)  # ITU-T H.273: PQ and HLG
_MOST_BYTES = 1 << 30  # of one image


@dataclass(frozen=True)
class FootageSettings:
    """What is taken of footage.

    Attributes:
        sources: Images, videos, or folders of them; local or `s3://`.
        scale: Of the network.
        multiple: That sides of LR pictures are multiples of.
        least_lr_px: Footage that gives LR pictures with a smaller side is left out.
        most_lr_px: Of larger frames a part with sides up to this is taken, another one each time.
        num_pairs: About so many are made: of each image one, and videos share the others evenly.
        shrinking: What was coded with losses is shrunk by this to be HR.
        seed: Of the parts that are taken.
    """

    sources: tuple[str, ...]
    scale: int
    multiple: int = 1
    least_lr_px: int = 48
    most_lr_px: int = 320
    num_pairs: int = 160
    shrinking: float = 2.0
    seed: int = 0

    @property
    def data(self) -> DataSettings:
        """The same as what reads pictures for training asks it."""
        least_px = math.ceil(self.least_lr_px * self.scale * self.shrinking)
        return DataSettings(self.sources, least_side_px=least_px, most_bytes=_MOST_BYTES)


@dataclass(frozen=True)
class Footage:
    """Pairs that were made.

    Attributes:
        pairs: `packed_pair` of each, named by file and time.
        parts: What each is for.
        left_out: What gives none.
    """

    pairs: Pictures
    parts: Parts
    left_out: tuple[LeftOut, ...]

    @property
    def num_unused(self) -> int:
        """Pairs of no part."""
        parts = self.parts
        return len(self.pairs) - sum(map(len, (parts.training, parts.choosing, parts.confirming)))

    @property
    def data(self) -> TrainingData:
        """What a run trains on and validates by: all but what its result is confirmed on."""
        training, choosing = self.parts.training, self.parts.choosing
        first, end = len(training), len(training) + len(choosing)
        split = Split(tuple(range(first)), tuple(range(first, end)))
        return TrainingData(self.pairs.only((*training, *choosing)), self.left_out, split)


def packed_pair(lr_codes: Tensor, hr_codes: Tensor) -> Tensor:
    """A pair as one picture of the LR size, so that whatever is cut out of it is a pair.

    Args:
        lr_codes: (3, h, w) uint8.
        hr_codes: (3, scale * h, scale * w) uint8.

    Returns:
        (3 + 3 * scale**2, h, w): LR first.
    """
    return torch.cat([lr_codes, F.pixel_unshuffle(hr_codes, hr_codes.shape[-1] // lr_codes.shape[-1])])


def unpacked_pairs(packed: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """LR (B, 3, h, w) and HR (B, 3, scale * h, scale * w) of a batch of packed pairs."""
    return packed[:, :3], F.pixel_shuffle(packed[:, 3:], scale)


@dataclass(frozen=True)
class _Taken:
    """What one file gives: pairs in the order of time, or why not."""

    name: str
    coding: Coding | None = None
    pairs: tuple[Tensor, ...] = ()
    moments: tuple[Moment, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def sentences(self) -> Iterator[str]:
        """What to tell of it."""
        if self.pairs:
            yield f"{self.name}: {self.coding}; {len(self.pairs)} frames"
        yield from (f"left out: {self.name}: {reason}" for reason in self.left_out)

    @property
    def pair_names(self) -> Iterator[str]:
        """Of each pair."""
        for each in self.moments:
            yield f"{self.name}, at {each.seconds:.1f} s" if each.file_seconds else self.name


def read_footage(settings: FootageSettings, tell: Callable[[str], None]) -> Footage:
    """Makes pairs of footage, in three parts.

    What is damaged, interlaced, HDR, transparent, in CMYK or too small is left out.

    Args:
        settings: What is taken.
        tell: Gets a sentence for each file.

    Raises:
        SpecError: There is no such source, or too little in them.
        StorageError: A store fails.
        OutputError: An encoder fails.
    """
    files = list({each.name: each for source in settings.sources for each in files_of(source)}.values())
    if len(files) > settings.num_pairs:
        files = [files[at * len(files) // settings.num_pairs] for at in range(settings.num_pairs)]
    num_videos = sum(not is_image(file.info.key) for file in files)
    num_clips = max(1, (settings.num_pairs - len(files) + num_videos) // max(1, num_videos))
    taken = []
    for number, file in enumerate(files):
        taken.append(_taken(file, number, settings, num_clips))
        for sentence in taken[-1].sentences:
            tell(sentence)
    moments = [moment for each in taken for moment in each.moments]
    parts = parted(moments)
    pairs = Pictures.packed(
        [pair for each in taken for pair in each.pairs],
        [name for each in taken for name in each.pair_names],
        [moment.file for moment in moments],
    )
    left_out = tuple(LeftOut(each.name, reason) for each in taken for reason in each.left_out)
    return Footage(pairs, parts, left_out)


def _taken(file: SourceFile, number: int, settings: FootageSettings, num_clips: int) -> _Taken:
    read = _image if is_image(file.info.key) else _video
    try:
        with open_storage(file.store_url).open(file.info.key, file.info.version) as content:
            return read(file, number, content, settings, num_clips)
    except MediaError as error:
        return _Taken(file.name, left_out=(": ".join(filter(None, (error.what, error.got))),))


def _image(
    file: SourceFile, number: int, content: BinaryIO, settings: FootageSettings, num_clips: int
) -> _Taken:
    data = content.read()
    image = open_image(io.BytesIO(data), file.name)
    found = image_found(file, image, settings.data, Budget(_MOST_BYTES))
    if not found.pictures:
        return _Taken(file.name, left_out=found.left_out)
    (picture,) = found.pictures
    coding = _image_coding(image.info.format, data)
    return _Taken(
        file.name,
        coding,
        (_pair(picture[None], 0, coding, settings, number),),
        (Moment(number, look=difference_hash(picture)),),
    )


def _image_coding(name: str, data: bytes) -> Coding:
    if name == "jpeg":
        return JpegCoding(nearest_quality(luma_steps(data)))
    if name in ("webp", "avif"):
        return NoCoding(f"{name}, which is taken as it is", is_lossless=False)
    return NoCoding(f"{name}, without losses")


def _video(
    file: SourceFile, number: int, content: BinaryIO, settings: FootageSettings, num_clips: int
) -> _Taken:
    info, timeline = probe(content, file.name)
    reason = _wrong_with_video(info.video)
    if reason:
        return _Taken(file.name, left_out=(reason,))
    source = _Source(file.name, content, info.video, timeline, assume_color(info.video)[0])
    coding = source.coding()
    pairs: list[Tensor] = []
    moments = []
    reasons: Counter[str] = Counter()
    for at in clip_starts(timeline, num_clips, _CLIP_FRAMES):
        frames = source.frames(at)
        wrong = next(filter(None, (wrong_with_frame(each, settings.data) for each in frames)), "")
        wrong = wrong or ("" if len(frames) == _CLIP_FRAMES else "it does not decode")
        if wrong:
            reasons[wrong] += 1
            continue
        clip = source.codes(frames)
        # Most frames are predicted: the first of a clip is not.
        shown = 1 + len(pairs) % (_CLIP_FRAMES - 1)
        pairs.append(_pair(clip, shown, coding, settings, int(timeline.pts[at])))
        seconds, whole = (
            float((pts - info.video.start_pts) * info.video.time_base)
            for pts in (int(timeline.pts[at]), info.video.end_pts)
        )
        moments.append(Moment(number, seconds, whole, difference_hash(clip[shown])))
    left_out = [f"{count} of its clips: {reason}" for reason, count in reasons.items()]
    if not pairs and not left_out:
        left_out.append(f"it has fewer than {_CLIP_FRAMES} frames")
    return _Taken(file.name, coding, tuple(pairs), tuple(moments), tuple(left_out))


def _wrong_with_video(video: VideoInfo) -> str:
    """Why nothing of a video is taken; empty where something is."""
    if video.is_interlaced:
        return "it is interlaced"
    if video.color.transfer in _HDR_TRANSFERS:
        return "it is HDR"
    return f"its times are unclear: {video.timestamp_problem}" if video.timestamp_problem else ""


def clip_starts(timeline: Timeline, num_clips: int, num_frames: int) -> list[int]:
    """Numbers of frames at which clips begin, ascending and spread evenly over a video.

    Where a keyframe is near it is taken: there frames are sharpest, and nothing before is to be decoded.

    Args:
        timeline: Of the video.
        num_clips: At most so many, and fewer where they would lie less than half a second apart.
        num_frames: Of a clip.
    """
    last = len(timeline.pts) - num_frames
    if last < 0:
        return []
    num_clips = max(1, min(num_clips, len(timeline.pts) // _LEAST_STRIDE_FRAMES))
    spacing = last / num_clips
    keyframes = [at for at in _keyframes(timeline) if at <= last]
    starts = set()
    for number in range(num_clips):
        wanted = (number + 0.5) * spacing
        nearest = min(keyframes, key=lambda at: abs(at - wanted), default=-spacing)
        starts.add(int(nearest if abs(nearest - wanted) < spacing / 2 else wanted))
    return sorted(starts)


def _keyframes(timeline: Timeline) -> list[int]:
    """Numbers of the frames at which decoding can start."""
    numbers: list[int] = np.searchsorted(timeline.pts, timeline.keyframe_pts).tolist()
    return numbers


@dataclass(frozen=True)
class _Source:
    """A video that is read."""

    name: str
    content: BinaryIO
    video: VideoInfo
    timeline: Timeline
    color: ColorTags

    def coding(self) -> Coding:
        """How it was coded."""
        codec = self.video.codec
        if is_lossless(codec):
            return NoCoding(f"{codec}, without losses")
        keyframes = [at for at in _keyframes(self.timeline) if at + _CLIP_FRAMES <= len(self.timeline.pts)]
        few = (
            [keyframes[at * len(keyframes) // _NUM_MEASURED] for at in range(_NUM_MEASURED)]
            if keyframes
            else []
        )
        measured = []
        for at in dict.fromkeys(few):
            frames = self.frames(at)
            if len(frames) == _CLIP_FRAMES:
                measured.append(
                    Measured(
                        self.codes(frames), coded_bytes(self.content, self.video, *self._range(at), self.name)
                    )
                )
        if not measured:
            raise MediaError("none of its clips decodes whole, to tell how it is coded", where=self.name)
        return video_coding(codec, measured)

    def frames(self, at: int) -> list[DecodedFrame]:
        """Those of the clip that begins with that number, as far as they decode."""
        with VideoReader(self.content, self.video, _DECODER_THREADS, self.name) as reader:
            return list(islice(reader.frames(*self._range(at)), _CLIP_FRAMES))

    def codes(self, frames: Sequence[DecodedFrame]) -> Tensor:
        """(T, 3, H, W) uint8 R'G'B'."""
        return torch.stack([rgb_codes(frame, self.color) for frame in frames])

    def _range(self, at: int) -> tuple[int, int]:
        pts, end = self.timeline.pts, at + _CLIP_FRAMES
        return int(pts[at]), int(pts[end]) if end < len(pts) else self.timeline.end_pts


def _pair(clip: Tensor, shown: int, coding: Coding, settings: FootageSettings, number: int) -> Tensor:
    """What is learnt from a clip, as `packed_pair` has it.

    Args:
        clip: (T, 3, H, W) uint8 of the source.
        shown: Number of the frame that becomes the pair.
        coding: Of the source.
        settings: What is taken.
        number: Of the clip in its source, for what part of it is taken.
    """
    shrinking = 1.0 if coding.is_lossless else settings.shrinking
    unit = settings.scale * settings.multiple
    most = settings.most_lr_px // settings.multiple * unit
    sides = [min(int(side / shrinking) // unit * unit, most) for side in clip.shape[-2:]]
    hr_clip = _shrunk(
        _part(clip, [math.ceil(side * shrinking) for side in sides], settings.seed, number), sides
    )
    lr_clip = codes_of(Bicubic().shrunk(unit_frames(hr_clip), settings.scale))
    return packed_pair(coding.coded(lr_clip)[shown], hr_clip[shown])


def _part(clip: Tensor, sides: Sequence[int], seed: int, number: int) -> Tensor:
    """A part of a clip, of these sides and drawn from the seed and the number of the clip."""
    shares = torch.rand(2, generator=item_generator(seed, "footage", number, "part")).tolist()
    top, left = (
        int(share * (whole - side + 1))
        for share, whole, side in zip(shares, clip.shape[-2:], sides, strict=True)
    )
    return clip[..., top : top + sides[0], left : left + sides[1]]


def _shrunk(clip: Tensor, sides: Sequence[int]) -> Tensor:
    """The clip with these sides, by a bicubic kernel that is widened against aliases."""
    if list(clip.shape[-2:]) == list(sides):
        return clip
    made = F.interpolate(clip.float(), tuple(sides), mode="bicubic", antialias=True, align_corners=False)
    return made.round().clamp(0, 255).to(torch.uint8)
