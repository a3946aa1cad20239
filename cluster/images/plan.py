"""From an image and what is asked to what will be written. Pure; no pixel is touched here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from fractions import Fraction

from pydantic.dataclasses import dataclass

from cluster.images.info import ImageFormat, ImageInfo, Layout, described_samples
from cluster.job import ImageSettings
from cluster.output_size import output_size
from sr_core.errors import MediaError, SpecError

MAX_SOURCE_PX = 1 << 28
MAX_SOURCE_EDGE_PX = 65_535
MAX_FRAMES = 1 << 16
# An output frame is in memory as floats: above this, 16 GB for those alone.
MAX_OUTPUT_FRAME_PX = 1 << 30
_MAX_TIFF_BYTES = (1 << 32) - (1 << 24)
_MAX_PLAYS = 65_535

# High enough that coding is not what one sees, at a size that is still the format's point.
_QUALITIES: dict[ImageFormat, int] = {"jpeg": 95, "webp": 90, "avif": 90}
_LOSSLESS_CHOICE: tuple[ImageFormat, ...] = ("webp", "avif")
_KEPT_COMPRESSIONS = ("none", "lzw", "deflate")


@plain_dataclass(frozen=True)
class _Abilities:
    """What a format can hold, at its best."""

    layouts: tuple[Layout, ...]
    bit_depths: tuple[int, ...]
    max_edge_px: int
    has_alpha: bool = True
    has_animation: bool = False
    has_pages: bool = False
    has_orientation: bool = True
    has_icc: bool = True


_ABILITIES: dict[ImageFormat, _Abilities] = {
    "png": _Abilities(("grey", "rgb"), (8, 16), 1_000_000, has_animation=True),
    "jpeg": _Abilities(("grey", "rgb", "cmyk"), (8,), 65_500, has_alpha=False),  # libjpeg's own limit
    "webp": _Abilities(("rgb",), (8,), 16_383, has_animation=True),
    "avif": _Abilities(("rgb",), (8, 10, 12), 16_384),  # the encoder's limit
    "tiff": _Abilities(("grey", "rgb", "cmyk"), (8, 16), 10_000_000, has_pages=True),
    "bmp": _Abilities(("grey", "rgb"), (8,), 1_000_000, has_orientation=False),
    "gif": _Abilities(("rgb",), (8,), 65_535, has_animation=True, has_orientation=False, has_icc=False),
}


@dataclass(frozen=True)
class ImageTreatment:
    """What will be done with one image.

    Attributes:
        width: Of the output's first frame, as the height.
        page_sizes: (width, height) of the output's pages where they differ, else empty.
        layout: Of the output's samples; what is grey goes through the engine as such.
        quality: 1 to 100; None where the format has none or the output is lossless.
        subsampling: `4:2:0` or `4:4:4` for lossy formats, else empty.
        compression: `none`, `lzw` or `deflate` for TIFF, else empty.
        delays_s: For how long each frame of an animation is shown, as exactly as the format can say.
        color_codes: Primaries and transfer of ITU-T H.273 that an AVIF must name; None where it need not.
        told: What the user must know before and after.
    """

    format: ImageFormat
    width: int
    height: int
    model_scale: int
    layout: Layout
    bit_depth: int
    has_alpha: bool
    num_frames: int = 1
    page_sizes: tuple[tuple[int, int], ...] = ()
    orientation: int = 1
    is_lossless: bool = True
    is_progressive: bool = False
    quality: int | None = None
    subsampling: str = ""
    compression: str = ""
    delays_s: tuple[Fraction, ...] = ()
    loop: int = 0
    color_codes: tuple[int, int] | None = None
    told: tuple[str, ...] = ()

    @property
    def samples(self) -> str:
        """The output's samples in a few words, as `rgba 8 bit`."""
        return described_samples(self.layout, self.has_alpha, self.bit_depth, self.num_frames)

    def size_of(self, index: int) -> tuple[int, int]:
        """(height, width) of a frame or page."""
        width, height = self.page_sizes[index] if self.page_sizes else (self.width, self.height)
        return height, width


def image_quality_misfit(settings: ImageSettings) -> str | None:
    """Why no image can be written with these settings, whatever the source is; None where some can."""
    quality, format_ = settings.quality, settings.format
    if isinstance(quality, int) and not 1 <= quality <= 100:
        return f"got {quality}, expected 1 to 100, auto or lossless"
    if isinstance(quality, int) and format_ not in ("auto", *_QUALITIES):
        return f"got {quality}, expected auto for {format_}, which has no such choice"
    if quality == "lossless" and format_ in ("jpeg", "gif"):
        return f"got 'lossless', expected {'1 to 100 or auto' if format_ == 'jpeg' else 'auto'} for {format_}"
    return None


def plan_image(
    info: ImageInfo,
    settings: ImageSettings,
    scale: int | None,
    height: int | None,
    model_scale: int | None,
    name: str,
) -> ImageTreatment:
    """What will be done with one image.

    Args:
        info: What the image is.
        settings: How images are written.
        scale: HR size / LR size; None takes the model's own.
        height: Of the stored pixels of the output, in place of a scale.
        model_scale: Of the model's weights; None for models that take any scale.
        name: Of the source, for errors.

    Raises:
        MediaError: It is larger than images may be.
        SpecError: What is asked for cannot be done with this image.
    """
    _refuse_large_source(info, name)
    format_ = info.format if settings.format == "auto" else settings.format
    out_height, out_width = output_size((info.height, info.width), scale, height, model_scale, name)
    size = (out_width, out_height)
    treatment = ImageTreatment(
        format=format_,
        width=size[0],
        height=size[1],
        model_scale=model_scale or -(-size[1] // info.height),
        layout=_layout(info, format_),
        bit_depth=_bit_depth(info, format_),
        has_alpha=info.has_alpha,
        num_frames=info.num_frames,
        page_sizes=tuple(_scaled(each, info, size) for each in info.page_sizes),
        orientation=info.orientation,
        loop=min(info.loop, _MAX_PLAYS) if format_ in ("gif", "webp") else info.loop,
        color_codes=info.color_codes if format_ == "avif" else None,
        delays_s=tuple(_nearest_delay(delay, format_) for delay in info.delays_s),
    )
    _refuse_losses(info, format_, name)
    _refuse_large_output(treatment, name)
    coded = _with_coding(treatment, info, settings, name)
    return replace(coded, told=tuple(_told(info, coded, settings)))


def _refuse_large_source(info: ImageInfo, name: str) -> None:
    sizes = info.page_sizes or ((info.width, info.height),)
    edge = max(max(size) for size in sizes)
    if info.num_pixels <= MAX_SOURCE_PX and edge <= MAX_SOURCE_EDGE_PX and info.num_frames <= MAX_FRAMES:
        return
    raise MediaError(
        "the image is too large",
        where=name,
        got=f"{info.num_frames} of {info.width}x{info.height}",
        expected=f"at most {MAX_SOURCE_PX:,} pixels in {MAX_FRAMES:,} frames, "
        f"and no edge above {MAX_SOURCE_EDGE_PX:,}",
        next_step="cut it into parts first",
    )


def _scaled(page: tuple[int, int], info: ImageInfo, size: tuple[int, int]) -> tuple[int, int]:
    """The size of another page, as much larger as the first is."""
    times = Fraction(size[1], info.height)
    return max(1, round(page[0] * times)), max(1, round(page[1] * times))


def _layout(info: ImageInfo, format_: ImageFormat) -> Layout:
    has_grey = "grey" in _ABILITIES[format_].layouts
    return "rgb" if info.layout == "grey" and not has_grey else info.layout


def _bit_depth(info: ImageInfo, format_: ImageFormat) -> int:
    """The least depth of the format that holds the source's; its highest where none does."""
    depths = _ABILITIES[format_].bit_depths
    return next((depth for depth in depths if depth >= info.bit_depth), depths[-1])


def _needs(info: ImageInfo) -> Iterator[tuple[str, tuple[ImageFormat, ...]]]:
    """What of the image not every format holds, with those that do."""

    def of(test: str) -> tuple[ImageFormat, ...]:
        return tuple(name for name, each in _ABILITIES.items() if getattr(each, test))

    if info.layout == "cmyk":
        yield "CMYK", tuple(name for name, each in _ABILITIES.items() if "cmyk" in each.layouts)
    if info.bit_depth > 8:
        deep = tuple(name for name, each in _ABILITIES.items() if max(each.bit_depths) >= info.bit_depth)
        yield f"{info.bit_depth} bit samples", deep
    if info.has_alpha:
        yield "transparency", of("has_alpha")
    if info.is_animation:
        yield "animation", of("has_animation")
    elif info.num_frames > 1:
        yield "several pages", of("has_pages")
    if info.orientation != 1:
        yield "an EXIF orientation", of("has_orientation")


def _refuse_losses(info: ImageInfo, format_: ImageFormat, name: str) -> None:
    lost = [(what, formats) for what, formats in _needs(info) if format_ not in formats]
    if not lost:
        return
    fitting = [each for each in _ABILITIES if all(each in formats for _, formats in _needs(info))]
    raise SpecError(
        f"{format_} cannot hold {' and '.join(what for what, _ in lost)}",
        where=name,
        got=info.samples,
        expected=f"one of {', '.join(fitting)}" if fitting else "",
        next_step="leave out the format to keep the source's, or choose one that holds it",
    )


def _refuse_large_output(treatment: ImageTreatment, name: str) -> None:
    sizes = treatment.page_sizes or ((treatment.width, treatment.height),)
    edge, frame_px = max(max(size) for size in sizes), max(w * h for w, h in sizes)
    num_bytes = treatment.num_frames * frame_px * (2 if treatment.bit_depth > 8 else 1) * 5
    if frame_px > MAX_OUTPUT_FRAME_PX:
        got, expected = f"{frame_px:,} pixels", f"at most {MAX_OUTPUT_FRAME_PX:,}"
    elif edge > _ABILITIES[treatment.format].max_edge_px:
        others = [each for each, ability in _ABILITIES.items() if ability.max_edge_px >= edge]
        got = f"an edge of {edge:,} pixels"
        expected = f"at most {_ABILITIES[treatment.format].max_edge_px:,}, or one of {', '.join(others)}"
    elif treatment.format in ("tiff", "bmp") and num_bytes > _MAX_TIFF_BYTES:
        got, expected = f"up to {num_bytes:,} bytes", "less than 4 GiB, or png"
    else:
        return
    raise SpecError(
        f"the output would be larger than {treatment.format} holds",
        where=name,
        got=got,
        expected=expected,
        next_step="choose a smaller scale or another format",
    )


def _with_coding(
    treatment: ImageTreatment, info: ImageInfo, settings: ImageSettings, name: str
) -> ImageTreatment:
    misfit = image_quality_misfit(replace(settings, format=treatment.format))
    if misfit and settings.format != "auto":
        raise SpecError("this quality cannot be written", where=name, got=misfit)
    format_ = treatment.format
    if format_ == "tiff":
        kept = info.compression in _KEPT_COMPRESSIONS
        return replace(treatment, compression=info.compression if kept else "deflate")
    if format_ not in _QUALITIES:
        keeps = info.is_progressive and info.format == format_ and not info.is_animation
        return replace(treatment, is_progressive=keeps, is_lossless=format_ != "gif")
    if format_ in _LOSSLESS_CHOICE and (
        settings.quality == "lossless" or (settings.quality == "auto" and info.is_lossless)
    ):
        return replace(treatment, subsampling="4:4:4" if format_ == "avif" else "")
    return replace(
        treatment,
        is_lossless=False,
        is_progressive=info.is_progressive and format_ == info.format,
        quality=settings.quality if isinstance(settings.quality, int) else _QUALITIES[format_],
        subsampling="4:2:0" if format_ == "webp" or info.subsampling == "4:2:0" else "4:4:4",
    )


def _nearest_delay(delay_s: Fraction, format_: ImageFormat) -> Fraction:
    """The delay that the format can say: hundredths in GIF, thousandths in WebP, any fraction in PNG."""
    match format_:
        case "gif":
            return Fraction(min(round(delay_s * 100), 65_535), 100)
        case "webp":
            return Fraction(min(round(delay_s * 1000), (1 << 24) - 1), 1000)
        case _:
            return min(delay_s, Fraction(65_535)).limit_denominator(
                max(1, int(65_535 / max(delay_s, Fraction(1))))
            )


def _told(info: ImageInfo, treatment: ImageTreatment, settings: ImageSettings) -> Iterator[str]:
    if settings.quality == "lossless" and not treatment.is_lossless:
        yield f"not lossless, as {treatment.format} cannot be"
    yield from _samples_told(info, treatment)
    yield from _coding_told(info, treatment)
    yield from (f"dropped: {what}" for what in info.dropped)
    yield from _color_told(info, treatment)
    if info.orientation != 1:
        yield f"the EXIF orientation {info.orientation} is carried: the pixels stay as they are stored"
    if treatment.delays_s != info.delays_s:
        clock = {"gif": "1/100 s", "webp": "1/1000 s"}.get(treatment.format, "what PNG can say")
        yield f"times of frames are rounded to {clock}"
    times = treatment.model_scale
    if (treatment.width, treatment.height) != (info.width * times, info.height * times):
        size = f"{treatment.width}x{treatment.height}"
        yield f"the model's x{times} result is resized to {size} with Lanczos"


def _samples_told(info: ImageInfo, treatment: ImageTreatment) -> Iterator[str]:
    if info.is_palette and treatment.format != "gif":
        yield "the palette becomes full colour"
    elif info.is_bilevel:
        yield "black and white becomes 8 bit grey"
    elif info.stored_bits < 8 and not info.is_palette:
        yield f"{info.stored_bits} bit grey becomes 8 bit"
    if treatment.bit_depth != info.bit_depth:
        yield f"{info.bit_depth} bit become {treatment.bit_depth} bit"
    if treatment.layout != info.layout and treatment.format != "gif":
        yield f"grey is stored as colour, as {treatment.format} has no grey"
    if info.is_premultiplied:
        yield "colours that were multiplied by alpha are stored as they are"


def _coding_told(info: ImageInfo, treatment: ImageTreatment) -> Iterator[str]:
    if treatment.format == "gif":
        yield "GIF holds 256 colours a frame, and transparency that is on or off"
    if info.is_lossless and not treatment.is_lossless and treatment.format != "gif":
        yield f"lossless becomes {treatment.format} of quality {treatment.quality}"
    if treatment.format == "jpeg" == info.format and info.subsampling not in ("", treatment.subsampling):
        yield f"chroma is stored as {treatment.subsampling} in place of {info.subsampling}"
    if treatment.format == "tiff" == info.format and info.compression != treatment.compression:
        yield f"the TIFF's compression is {treatment.compression} in place of {info.compression}"


def _color_told(info: ImageInfo, treatment: ImageTreatment) -> Iterator[str]:
    if info.has_icc and not _ABILITIES[treatment.format].has_icc:
        yield f"dropped: the ICC profile, as {treatment.format} holds none"
    if info.color_chunks and treatment.format != "png":
        yield f"dropped: what the PNG says of its colours in {', '.join(info.color_chunks)}"
    if info.color_codes and treatment.format not in ("png", "avif"):
        primaries, transfer = info.color_codes
        yield f"dropped: the colour codes {primaries} and {transfer} of ITU-T H.273"
