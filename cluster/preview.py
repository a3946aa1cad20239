"""A few seconds of a video through several models, side by side, made as a job would make them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.frames import FramePlanes, Upscaled, known_format, upscaled_frames
from cluster.images.label import label
from cluster.job import EngineSettings, Job, ModelRef, VideoSettings
from cluster.plan import DeviceClass, FixedSettings, Input, JobPlan, Treatment, fix_settings
from cluster.plan_video import plan_video
from cluster.segments import CONTEXT_FRAMES, around
from cluster.storage import open_storage
from cluster.video.codecs import EncodeSettings, choose_encode
from cluster.video.decode import DecodedFrame, VideoReader
from cluster.video.encode import PartWriter, check_encoder
from cluster.video.info import DeinterlaceMode
from cluster.video.pixels import PixelFormat
from cluster.video.probe import probe
from cluster.video.timeline import Timeline
from cluster.video.verify import check_part
from cluster.weights import model_at
from sr_core.errors import MediaError, SpecError
from sr_core.kernels import Kernel
from sr_core.model import Model, ModelFacts
from sr_core.upscale import PRECISIONS, Upscaler

_DEFAULT_SCALE = 2
_LABEL_PART = 20  # a label is as high as this part of the picture
_LEAST_LABEL_PX = 24
_LABEL_WHITE = 0.75  # of the range of codes: all of it would dazzle in HDR
_EVEN_PX = 2  # what chroma samples share, on each axis, in all that an mp4 gets
_DECODER_THREADS = 1  # with which damage gives the same frames every time

Plane = npt.NDArray[Any]


@dataclass(frozen=True)
class PreviewRequest:
    """What to show.

    Attributes:
        clip: A video.
        models: Names, paths or S3 URLs of weights, from left to right.
        start_s: Since the video's first frame.
        seconds: Length of what is shown.
        scale: Of models that go by name, and of weights that do not tell theirs, while others must have it;
            None takes the largest of the weights.
        engine: How networks run.
    """

    clip: Input
    models: tuple[str, ...]
    start_s: float
    seconds: float
    scale: int | None = None
    engine: EngineSettings = field(default_factory=EngineSettings)


@dataclass(frozen=True)
class Shown:
    """One model's part of a preview.

    Attributes:
        label: What stands above its picture.
        frame_s: Seconds that the engine takes for a frame, without decoding and encoding; the median.
    """

    model: str
    label: str
    facts: ModelFacts
    precision: str
    frame_s: float


@dataclass(frozen=True)
class Preview:
    """What was written.

    Attributes:
        width: Of the whole, in px.
        height: Of the whole, in px.
        start_s: Since the video's first frame.
        end_s: Where the last frame ends.
        panels: From left to right.
        told: What the user must know.
    """

    width: int
    height: int
    codec: str
    num_frames: int
    start_s: float
    end_s: float
    panels: tuple[Shown, ...]
    told: tuple[str, ...]


@dataclass(frozen=True)
class _Scene:
    """What is shown of the clip, and how: the half-open range of frames by their numbers.

    Attributes:
        treatment: Its encode has the size of one picture, and the samples of the whole.
    """

    treatment: Treatment
    timeline: Timeline
    first: int
    last: int

    @property
    def start_pts(self) -> int:
        return int(self.timeline.pts[self.first])

    @property
    def seconds(self) -> tuple[float, float]:
        """From where to where, since the video's first frame."""
        pts, time_base = self.timeline.pts, self.treatment.video.time_base
        end_pts = pts[self.last] if self.last < len(pts) else self.timeline.end_pts
        return (
            float((self.start_pts - int(pts[0])) * time_base),
            float((int(end_pts) - int(pts[0])) * time_base),
        )

    @contextmanager
    def decoded(self, facts: ModelFacts) -> Iterator[Iterator[DecodedFrame]]:
        """Its frames, and those around it that the model sees, marked; by a decoder of their own."""
        source, treatment = self.treatment.input.source, self.treatment
        first, last = self.first - facts.frames_before, self.last + facts.frames_after
        num_context = 0 if treatment.deinterlace == "off" else CONTEXT_FRAMES
        with (
            open_storage(source.store_url).open(source.key, source.version) as file,
            VideoReader(file, treatment.video, _DECODER_THREADS, source.key, treatment.deinterlace) as reader,
        ):
            yield reader.frames(
                *around(self.timeline, self.first, self.last),
                context=around(self.timeline, first - num_context, last + num_context),
                window=around(self.timeline, first, last),
            )


@dataclass
class _Panel:
    """A model at work, and how long it took for each frame."""

    model: str
    label: str
    upscaler: Upscaler
    precision: str
    seconds: list[float] = field(default_factory=list)
    decode_s: float = 0.0

    @property
    def shown(self) -> Shown:
        facts = self.upscaler.model.facts
        return Shown(self.model, self.label, facts, self.precision, median(self.seconds))


def render(
    request: PreviewRequest, path: Path, device_class: DeviceClass, on_frame: Callable[[int, int], None]
) -> Preview:
    """Writes the preview to `path`: an mp4 without sound, which is complete only when this returns.

    Args:
        request: What to show.
        path: Of the file.
        device_class: Of this machine.
        on_frame: Told after each frame how many are done, and of how many.

    Raises:
        ModelError: A model cannot be used.
        MediaError: The clip cannot be read, or nothing of the range decodes.
        SpecError: The clip is shorter, or no codec holds so many pictures side by side.
        OutputError: What was encoded is not what it must be.
    """
    models = _models(request)
    scale = max(model.facts.scale for model in models)
    job = Job(ModelRef(Kernel.BICUBIC), scale=scale, engine=request.engine)
    plan = JobPlan(job, fix_settings(job, device_class))
    scene, whole = _planned(request, plan, len(models))
    scene = _deinterlaced(scene, models)
    panels = [
        _panel(f"{number} {Path(name).name} x{model.facts.scale}", name, model, plan.fixed)
        for number, (name, model) in enumerate(zip(request.models, models, strict=True), 1)
    ]
    num_frames = 0
    with ExitStack() as stack:
        streams = [_upscaled(stack, panel, scene) for panel in panels]
        writer = stack.enter_context(PartWriter(path, whole))
        for pts, planes in _side_by_side(panels, streams, whole, scene.treatment.encode):
            writer.write(planes, pts - scene.start_pts)
            num_frames += 1
            on_frame(num_frames, scene.last - scene.first)
        if not num_frames:
            raise MediaError("nothing of this range decodes", where=request.clip.source.key)
        writer.close()
    check_part(path, whole, num_frames)
    size = (whole.width, whole.height)
    shown = tuple(panel.shown for panel in panels)
    return Preview(*size, whole.codec, num_frames, *scene.seconds, shown, tuple(_told(scene, panels)))


def _models(request: PreviewRequest) -> list[Model]:
    """The models; those that take any scale get the largest of the others."""
    of_weights = {name: model_at(name, request.scale) for name in request.models if name not in set(Kernel)}
    largest = max((model.facts.scale for model in of_weights.values()), default=_DEFAULT_SCALE)
    return [of_weights.get(name) or model_at(name, request.scale or largest) for name in request.models]


def _planned(request: PreviewRequest, plan: JobPlan, num_panels: int) -> tuple[_Scene, EncodeSettings]:
    """What is shown, and how the whole is encoded, of which each panel is a part."""
    source, scale = request.clip.source, plan.job.scale
    with open_storage(source.store_url).open(source.key, source.version) as file:
        info, timeline = probe(file, source.key)
    first, last = _frames_of(request, timeline, info.video.time_base)
    treatment = plan_video(plan, request.clip, info, timeline, scale).treatment
    panel = treatment.encode
    shown = replace(info.video, time_base=panel.time_base, frame_rate=panel.frame_rate)
    width = num_panels * _even(panel.width)
    height = _label_px(panel.height) + _even(panel.height)
    color, num_threads = treatment.assumed_color, plan.fixed.encoder_threads
    try:
        whole = choose_encode(shown, color, VideoSettings(), "mp4", width, height, num_threads)
    except SpecError as error:
        raise _too_large(source.key, width, height) from error
    if whole.part_container != "mp4":  # which only the largest sizes ask for
        raise _too_large(source.key, width, height)
    check_encoder(whole)
    encode = replace(whole, width=panel.width, height=panel.height)
    return _Scene(replace(treatment, encode=encode), timeline, first, last), whole


def _deinterlaced(scene: _Scene, models: Sequence[Model]) -> _Scene:
    """`scene`, deinterlaced too where the clip is interlaced only in places and one of its frames says so."""
    if scene.treatment.deinterlace != "off":
        return scene
    seeing_most = max(
        (model.facts for model in models), key=lambda each: each.frames_before + each.frames_after
    )
    with scene.decoded(seeing_most) as frames:
        is_interlaced = any(frame.is_interlaced for frame in frames)
    deinterlace: DeinterlaceMode = "flagged" if is_interlaced else "off"
    return replace(scene, treatment=replace(scene.treatment, deinterlace=deinterlace))


def _too_large(where: str, width: int, height: int) -> SpecError:
    return SpecError(
        "no usual codec of mp4 holds so many pictures side by side",
        where=where,
        got=f"{width}x{height}",
        next_step="choose fewer models, or smaller scales",
    )


def _frames_of(request: PreviewRequest, timeline: Timeline, time_base: Fraction) -> tuple[int, int]:
    """The half-open range of frames that are shown: at least one."""
    start_pts = int(timeline.pts[0]) + round(Fraction(request.start_s) / time_base)
    end_pts = start_pts + round(Fraction(request.seconds) / time_base)
    if start_pts >= timeline.end_pts:
        raise SpecError(
            "the clip ends before the preview begins",
            where=request.clip.source.key,
            got=f"a start at {request.start_s:g} s",
            expected=f"below {float((timeline.end_pts - int(timeline.pts[0])) * time_base):.3f} s",
        )
    # The frame that is on display at the start comes first.
    first = max(0, int(np.searchsorted(timeline.pts, start_pts, side="right")) - 1)
    return first, max(first + 1, int(np.searchsorted(timeline.pts, end_pts)))


def _panel(text: str, name: str, model: Model, fixed: FixedSettings) -> _Panel:
    precision = fixed.precision if PRECISIONS[fixed.precision] in model.facts.dtypes else "fp32"
    device = fixed.device_class.kind
    upscaler = Upscaler(model, device, precision, fixed.tile_px, fixed.batch_size)
    return _Panel(name, text, upscaler, precision)


def _upscaled(stack: ExitStack, panel: _Panel, scene: _Scene) -> Iterator[Upscaled]:
    """The frames through one model, which has a decoder of its own, as it may look ahead."""
    decoded = stack.enter_context(scene.decoded(panel.upscaler.model.facts))
    return _timed(panel, upscaled_frames(_decoded(panel, decoded), scene.treatment, panel.upscaler))


def _decoded(panel: _Panel, frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    while True:
        start_s = time.perf_counter()
        frame = next(frames, None)
        panel.decode_s += time.perf_counter() - start_s
        if frame is None:
            return
        yield frame


def _timed(panel: _Panel, frames: Iterator[Upscaled]) -> Iterator[Upscaled]:
    while True:
        start_s, decode_s = time.perf_counter(), panel.decode_s
        frame = next(frames, None)
        if frame is None:
            return
        panel.seconds.append(time.perf_counter() - start_s - (panel.decode_s - decode_s))
        yield frame


def _side_by_side(
    panels: Sequence[_Panel],
    streams: Sequence[Iterator[Upscaled]],
    whole: EncodeSettings,
    panel: EncodeSettings,
) -> Iterator[tuple[int, FramePlanes]]:
    """(pts, planes) of every frame: the pictures in a row, each below its label."""
    pixels, width = known_format(whole.pixel_format), _even(panel.width)
    label_px = _label_px(panel.height)
    labels = [
        _label_planes(label(each.label, width, label_px), pixels, full_range=bool(whole.color.full_range))
        for each in panels
    ]
    size = (_even(panel.height), width)
    for frames in zip(*streams, strict=True):
        columns = [
            [np.concatenate(pair) for pair in zip(above, _filled(planes, pixels, size), strict=True)]
            for above, (_, planes) in zip(labels, frames, strict=True)
        ]
        lr_frame = frames[0][0]
        yield lr_frame.pts, tuple(np.concatenate(parts, axis=1) for parts in zip(*columns, strict=True))


def _label_planes(coverage: npt.NDArray[np.uint8], pixels: PixelFormat, *, full_range: bool) -> list[Plane]:
    """The planes of a label, light grey on black. Of RGB no mp4 is made, nor of what has alpha."""
    unit, peak = 1 << (pixels.bit_depth - 8), (1 << pixels.bit_depth) - 1
    black, white = (0, peak) if full_range else (16 * unit, 235 * unit)
    dtype = np.uint8 if pixels.bit_depth == 8 else np.uint16
    luma = np.rint(black + _LABEL_WHITE * (white - black) * coverage.astype(np.float32) / 255).astype(dtype)
    _, *chroma_sizes = pixels.plane_sizes(coverage.shape[1], coverage.shape[0])
    return [luma, *(np.full(size, 128 * unit, dtype) for size in chroma_sizes)]


def _filled(planes: FramePlanes, pixels: PixelFormat, size: tuple[int, int]) -> Iterator[Plane]:
    """Planes of an odd picture with their last row and column once more, so that chroma meets luma."""
    height, width = size
    for plane, (rows, columns) in zip(planes, pixels.plane_sizes(width, height), strict=True):
        yield np.pad(plane, ((0, rows - plane.shape[0]), (0, columns - plane.shape[1])), mode="edge")


def _label_px(height: int) -> int:
    return _even(max(_LEAST_LABEL_PX, height // _LABEL_PART))


def _even(length_px: int) -> int:
    return -(-length_px // _EVEN_PX) * _EVEN_PX


def _told(scene: _Scene, panels: Sequence[_Panel]) -> Iterator[str]:
    if scene.treatment.video.display_matrix is not None:
        yield "its pixels are shown as they are stored, without the rotation that the clip asks for"
    height, width = scene.treatment.encode.height, scene.treatment.encode.width
    largest = max(panel.upscaler.model.facts.scale for panel in panels)
    for panel in panels:
        yield from (f"{panel.label}: {text}" for text in panel.upscaler.shrunk)
        if panel.upscaler.model.facts.scale < largest:
            yield f"{panel.label}: its result is resized to {width}x{height} with Lanczos"
