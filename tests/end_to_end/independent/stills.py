"""The whole check of one image or animation against its source: Pillow, and ffmpeg for 16 bits a sample.

Frames of an animation are kept at the size of the source: its length is bounded by memory.
"""

import itertools
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageSequence, UnidentifiedImageError

from tests.end_to_end.independent.content import there_and_back_mse
from tests.end_to_end.independent.probing import UnreadableError, ffprobe, pixels_of
from tests.end_to_end.independent.report import Outcome, excuse_told
from tests.end_to_end.independent.verdict import Fault, Limits, Verdict

STILL_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif")
ORIENTATION = ExifTags.Base.Orientation
_MAY_BE_DEEP = ("PNG", "TIFF")  # Pillow reads their colour at 8 bits a sample
# What says where something lies in the file or how large the picture is, and so changes with it.
_OF_THE_FILE = frozenset(
    {
        *(
            ORIENTATION,
            ExifTags.Base.ExifOffset,
            ExifTags.Base.GPSInfo,
            ExifTags.Base.ExifInteroperabilityOffset,
        ),
        *(ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength, ExifTags.Base.ExifImageWidth),
        *(ExifTags.Base.ExifImageHeight, ExifTags.Base.JpegIFOffset, ExifTags.Base.JpegIFByteCount),
    }
)
_VISIBLE, _HIDDEN = 250.0, 8.0
_LEAST_HIDDEN_DIFFERENCE = 48.0  # code values: the hidden colour must differ from the visible one beside it
_SURE = 0.95  # a wrong version wins only with an error that is smaller by more than what an encoder makes


@dataclass
class Still:
    """One image file.

    Attributes:
        colors: `grey`, `rgb` or `cmyk`; a palette is what is in it.
        depth: Bits a sample of a full picture: a palette has 8, a bilevel picture 1.
        frames: Of shape (frames, channels, height, width), float32 in 8-bit code values; alpha is not in it.
        alpha: Of shape (frames, height, width), 255 where there is none.
        durations: In milliseconds.
        damage: What a strict reader says; empty if nothing.
    """

    path: Path
    format: str
    mode: str
    size: tuple[int, int]
    colors: str
    depth: int
    has_alpha: bool
    frames: np.ndarray
    alpha: np.ndarray
    durations: list[float]
    loop: int | None
    icc: bytes | None
    orientation: int
    exif: dict[int, Any] = field(default_factory=dict)
    damage: str = ""


def is_still(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in STILL_SUFFIXES


def measure_still(
    source: Path,
    output: Path,
    scale: Fraction | int,
    *,
    expect_missing: Collection[str] = (),
    limits: Limits | None = None,
    outcome: Outcome | None = None,
) -> Verdict:
    """Reads both and returns faults, notes and figures."""
    verdict = Verdict(source, output)
    try:
        mine, theirs = read_still(source), read_still(output)
    except UnreadableError as error:
        return Verdict(source, output, [Fault("unreadable", str(error))])
    _check_facts(mine, theirs, Fraction(scale), verdict)
    _check_metadata(mine, theirs, verdict)
    _check_animation(mine, theirs, verdict)
    _check_pictures(mine, theirs, limits or Limits(), verdict)
    if outcome is not None:
        if bool(mine.damage) != (outcome.state == "damaged"):
            verdict.fault(
                "state", f"is called {outcome.state}; of the source: {mine.damage or 'nothing is wrong'}"
            )
        excuse_told(None, outcome, verdict)
    verdict.notes += [f"as expected: {f.text}" for f in verdict.faults if f.key in expect_missing]
    verdict.faults = [fault for fault in verdict.faults if fault.key not in expect_missing]
    return verdict


# Reading


def read_still(path: Path) -> Still:
    """An image with all its frames as they are stored, not turned by their orientation.

    Raises:
        UnreadableError: Pillow cannot read it.
    """
    try:
        with Image.open(path) as image:
            damage = _damage(path)
            with _truncated_allowed():
                return _read(path, image, damage)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UnreadableError(f"{path}: {error}") from error


def _damage(path: Path) -> str:
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
    except (OSError, SyntaxError, ValueError) as error:
        return str(error)
    return ""


@contextmanager
def _truncated_allowed() -> Iterator[None]:
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _read(path: Path, image: Image.Image, damage: str) -> Still:
    mode, has_alpha = image.mode, image.has_transparency_data
    pictures, alphas, durations = [], [], []
    for frame in ImageSequence.Iterator(image):
        frame.load()
        durations.append(float(frame.info.get("duration", 0)))
        channels, alpha = _channels(frame)
        has_alpha = has_alpha or bool((alpha < 255).any())
        pictures.append(channels)
        alphas.append(alpha)
    depth = _depth(path, image)
    if depth > 8 and image.format in _MAY_BE_DEEP and len(pictures) == 1:
        deep, deep_alpha = _read_deep(path, image.size)
        pictures, alphas = [deep], [deep_alpha]
    most = max(len(channels) for channels in pictures)
    frames = np.stack([_widened(channels, most) for channels in pictures])
    exif = image.getexif()
    return Still(
        path=path,
        format=str(image.format),
        mode=mode,
        size=image.size,
        colors=_colors(mode, frames),
        depth=depth,
        has_alpha=has_alpha,
        frames=frames,
        alpha=np.stack(alphas),
        durations=durations if len(durations) > 1 else [],
        loop=image.info.get("loop") if len(durations) > 1 else None,
        icc=image.info.get("icc_profile"),
        orientation=int(exif.get(ORIENTATION, 1)),
        exif=_exif_values(exif) if image.format != "TIFF" else {},
        damage=damage,
    )


def _channels(frame: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Grey, RGB or CMYK in 8-bit code values as (channels, height, width), and alpha."""
    opaque = np.full((frame.height, frame.width), 255, np.float32)
    if frame.mode.startswith("I;16") or frame.mode == "I":
        return np.asarray(frame, np.float32)[None] / 257, opaque
    if frame.mode == "CMYK":
        return np.moveaxis(np.asarray(frame, np.float32), 2, 0), opaque
    if frame.mode in ("1", "L", "LA") and "transparency" not in frame.info:
        both = np.asarray(frame.convert("LA"), np.float32)
        return both[None, ..., 0], both[..., 1]
    rgba = np.asarray(frame.convert("RGBA"), np.float32)
    return np.moveaxis(rgba[..., :3], 2, 0), rgba[..., 3]


def _widened(channels: np.ndarray, count: int) -> np.ndarray:
    return channels if len(channels) == count else np.repeat(channels[:1], count, axis=0)


def _colors(mode: str, frames: np.ndarray) -> str:
    if mode == "CMYK":
        return "cmyk"
    if frames.shape[1] == 1:
        return "grey"
    is_grey = (frames == frames[:, :1]).all()
    return "grey" if is_grey and mode in ("P", "PA", "1", "L", "LA") else "rgb"


def _depth(path: Path, image: Image.Image) -> int:
    if image.mode == "1":
        return 1
    if image.format == "AVIF":
        return _avif_depth(path.read_bytes())
    if image.format not in _MAY_BE_DEEP:
        return 8
    streams = ffprobe(path, "-show_streams").get("streams", [])
    pix_fmt = next((stream.get("pix_fmt") for stream in streams), None)
    return max(8, pixels_of(pix_fmt).depth) if pix_fmt else 8


def _avif_depth(data: bytes) -> int:
    """The largest depth of its pictures, by their `av1C` boxes (AV1 in ISOBMFF, section 2.3.3)."""
    depths, start = [8], 0
    while (start := data.find(b"av1C", start) + 1) > 0:
        flags = data[start + 5]
        depths.append((12 if flags & 0x20 else 10) if flags & 0x40 else 8)
    return max(depths)


def _read_deep(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One picture with all its bits, by ffmpeg."""
    found = pixels_of(ffprobe(path, "-show_streams")["streams"][0]["pix_fmt"])
    names = {(1, False): "gray16le", (1, True): "ya16le", (3, False): "rgb48le", (3, True): "rgba64le"}
    pix_fmt = names[found.num_colors, found.has_alpha]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-noautorotate", "-i", str(path), "-frames:v", "1"]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", pix_fmt, "-"], capture_output=True, check=False
    )
    samples = np.frombuffer(done.stdout, "<u2").astype(np.float32) / 257
    width, height = size
    count = found.num_colors + found.has_alpha
    if samples.size != width * height * count:
        raise UnreadableError(f"{path}: {done.stderr.decode(errors='replace').strip() or 'no whole picture'}")
    planes = np.moveaxis(samples.reshape(height, width, count), 2, 0)
    opaque = np.full((height, width), 255, np.float32)
    return planes[: found.num_colors], planes[-1] if found.has_alpha else opaque


def _exif_values(exif: Image.Exif) -> dict[int, Any]:
    values = dict(exif)
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        values.update(exif.get_ifd(ifd))
    return {tag: value for tag, value in values.items() if tag not in _OF_THE_FILE}


# What is said of the picture


def _check_facts(source: Still, output: Still, scale: Fraction, verdict: Verdict) -> None:
    verdict.figures["size"] = (source.size, output.size)
    verdict.figures["mode"] = (f"{source.mode} {source.depth}", f"{output.mode} {output.depth}")
    for side, before, after in zip(("width", "height"), source.size, output.size, strict=True):
        if after not in (floor(before * scale), ceil(before * scale)):
            verdict.fault("size", f"{side} {after}, expected {before} x {scale} = {before * scale}")
    if source.path.suffix != output.path.suffix:
        verdict.fault("name", f"is called {output.path.name}, the source {source.path.name}")
    if source.format != output.format:
        verdict.fault("format", f"is {output.format}, the source {source.format}")
    if output.depth < source.depth:
        verdict.fault("mode", f"{output.depth} bits a sample instead of {source.depth}")
    if output.colors != source.colors and (source.colors, output.colors) != ("grey", "rgb"):
        verdict.fault("mode", f"{output.colors} instead of {source.colors}")
    if source.has_alpha and not output.has_alpha:
        # An alpha that hides nothing says nothing.
        is_used = bool((source.alpha < 255).any())
        verdict.fault("mode", "no alpha") if is_used else verdict.notes.append("an alpha without use is gone")
    if output.damage:
        verdict.fault("decode", f"output does not decode cleanly: {output.damage}")
    if source.damage:
        verdict.notes.append(f"source does not decode cleanly: {source.damage}")


def _check_metadata(source: Still, output: Still, verdict: Verdict) -> None:
    if source.orientation != output.orientation:
        verdict.fault("orientation", f"is {output.orientation}, source has {source.orientation}")
    if source.icc != output.icc:
        sizes = [len(icc) if icc else 0 for icc in (output.icc, source.icc)]
        verdict.fault("icc", f"profile of {sizes[0]} bytes is not the source's of {sizes[1]}")
    # As text, because 0/0, which stands for unknown, equals nothing.
    changed = [tag for tag, value in source.exif.items() if str(output.exif.get(tag)) != str(value)]
    if changed and output.format != "TIFF":
        names = ", ".join(ExifTags.TAGS.get(tag, str(tag)) for tag in changed[:5])
        verdict.fault("exif", f"{len(changed)} of {len(source.exif)} tags are lost or changed: {names}")


def _check_animation(source: Still, output: Still, verdict: Verdict) -> None:
    counted = len(source.frames), len(output.frames)
    verdict.figures["frames"] = counted
    if counted[0] != counted[1]:
        verdict.fault("frames", f"{counted[1]} frames, source has {counted[0]}")
    else:
        pairs = zip(source.durations, output.durations, strict=True)
        wrong = [f"frame {n} lasts {b} ms, in the source {a} ms" for n, (a, b) in enumerate(pairs) if a != b]
        verdict.fault_each("durations", wrong)
    if source.loop != output.loop:
        verdict.fault("loop", f"is {output.loop}, source has {source.loop}")


# What is in the picture


def _check_pictures(source: Still, output: Still, limits: Limits, verdict: Verdict) -> None:
    if "cmyk" in (source.colors, output.colors) and source.colors != output.colors:
        return  # told as a fault already; such pictures cannot be compared
    rows = _sound_rows(source)
    if rows < 2 and source.damage:
        verdict.notes.append("too little of the source decodes to compare pictures")
        return
    mine = _premultiplied(source)
    shrunk = np.stack([shrink(frame, source.size) for frame in _premultiplied(output)])
    alpha = np.stack([shrink(frame[None], source.size)[0] for frame in output.alpha])
    if shrunk.shape[1] != mine.shape[1]:
        most = max(shrunk.shape[1], mine.shape[1])
        mine, shrunk = (np.stack([_widened(f, most) for f in frames]) for frames in (mine, shrunk))
    mine, shrunk, alpha = mine[:, :, :rows], shrunk[:, :, :rows], alpha[:, :rows]
    for n, (a, b) in enumerate(zip(mine, shrunk, strict=False)):
        _check_likeness(n, a, b, limits, verdict)
        _check_versions(n, a, b, verdict)
        _check_alpha(n, source.alpha[n][:rows], alpha[n], limits, verdict)
        _check_neighbours(n, mine, b, verdict)
        if source.has_alpha:
            _check_bleeding(
                n, source.frames[n][:, :rows], source.alpha[n][:rows], b, alpha[n], limits, verdict
            )
    if rows == source.size[1]:
        _check_half_pixel(source, output, verdict)


def _seen(premultiplied: np.ndarray, alpha: np.ndarray, step: int, axis: int) -> np.ndarray:
    """Colours at edges: of both sides, as enlarged alpha reaches beyond an edge and takes colour along."""
    both = (premultiplied + np.roll(premultiplied, step, axis + 1)) * 255
    return both / np.maximum(alpha + np.roll(alpha, step, axis), 1)


def _there_and_back(channels: np.ndarray) -> np.ndarray:
    """(channels, height, width) enlarged with Lanczos and shrunk again, in the limits of 8-bit codes."""
    height, width = channels.shape[1:]
    large = [
        Image.fromarray(c.astype(np.float32)).resize((2 * width, 2 * height), Image.Resampling.LANCZOS)
        for c in channels
    ]
    return shrink(np.stack([np.asarray(image).clip(0, 255) for image in large]), (width, height))


def _sound_rows(source: Still) -> int:
    """How many rows from the top surely decode: what is cut off is of one colour."""
    if not source.damage:
        return source.size[1]
    picture = source.frames[0]
    is_flat = (picture == picture[:, :, :1]).all((0, 2))
    is_like_last = is_flat & (picture[:, :, 0] == picture[:, -1:, 0]).all(0)
    rows = len(is_like_last) - int(np.argmin(is_like_last[::-1])) if not is_like_last.all() else 0
    return max(0, rows - 16) // 16 * 16


def _premultiplied(still: Still) -> np.ndarray:
    return still.frames * (still.alpha[:, None] / 255) if still.has_alpha else still.frames


def shrink(channels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(channels, height, width) as means over areas, of the given width and height."""
    return np.stack([np.asarray(Image.fromarray(c).resize(size, Image.Resampling.BOX)) for c in channels])


def _mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - b) ** 2).mean(dtype=np.float64))


def _check_likeness(n: int, mine: np.ndarray, shrunk: np.ndarray, limits: Limits, verdict: Verdict) -> None:
    """Enlarging and shrinking loses some detail in any case: as much as Lanczos loses, and a little more."""
    usual = float(there_and_back_mse(mine).mean())
    mse, allowed = _mse(mine, shrunk), limits.frame_mse + 2 * usual
    verdict.figures["max luma MSE"] = max(round(mse, 3), verdict.figures.get("max luma MSE", 0))
    if mse > allowed:
        verdict.fault("content", f"frame {n} is unlike the source's: MSE {mse:.1f} > {allowed:.1f}")
    drift = (shrunk - mine).mean((1, 2))
    if float(np.abs(drift).max()) > 2 * limits.drift + usual**0.5:
        verdict.fault(
            "drift", f"frame {n}: means of the channels are off by {np.round(drift, 2).tolist()} of 255"
        )


def _versions(mine: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """What the source would be if something usual had gone wrong; (channels, height, width) as it is."""
    yield "flipped upside down", mine[:, ::-1]
    yield "mirrored", mine[:, :, ::-1]
    yield "turned by 180 degrees", mine[:, ::-1, ::-1]
    yield "inverted", 255 - mine
    if mine.shape[1] == mine.shape[2]:
        for turns in (1, 3):
            yield f"turned by {90 * turns} degrees", np.rot90(mine, turns, (1, 2))
        yield "transposed", mine.transpose(0, 2, 1)
    for order in itertools.permutations(range(len(mine))):
        if order != tuple(range(len(mine))):
            yield f"with channels in the order {order}", mine[list(order)]
    for axis, name in ((1, "down"), (2, "right")):
        for step in (-1, 1):
            if mine.shape[axis] > 2:
                yield f"shifted {name} by {step}", np.roll(mine, step, axis)


def _check_versions(n: int, mine: np.ndarray, shrunk: np.ndarray, verdict: Verdict) -> None:
    here = _mse(mine, shrunk)
    for name, version in _versions(mine):
        there = _mse(version, shrunk)
        if there < _SURE * here - 0.05 and _mse(version, mine) > 1:
            text = f"frame {n} is closer to the source {name} (MSE {there:.2f}) than to itself ({here:.2f})"
            verdict.fault("content", text)
            return


def _check_neighbours(n: int, mine: np.ndarray, shrunk: np.ndarray, verdict: Verdict) -> None:
    here = _mse(mine[n], shrunk)
    for other in range(max(0, n - 3), min(len(mine), n + 4)):
        there = _mse(mine[other], shrunk)
        if there < _SURE * here - 0.1:
            verdict.fault("order", f"frame {n} is closer to source frame {other} ({there:.2f} < {here:.2f})")
            return


def _check_half_pixel(source: Still, output: Still, verdict: Verdict) -> None:
    """No shift of the output by one of its own pixels brings it closer to the source."""
    mine, made = _premultiplied(source)[0], _premultiplied(output)[0]
    if len(mine) != len(made) or min(source.size) < 8:
        return
    inner = (slice(None), slice(2, -2), slice(2, -2))
    errors = {}
    for down, right in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
        moved = shrink(np.roll(made, (down, right), (1, 2)), source.size)
        errors[down, right] = _mse(mine[inner], moved[inner])
    here = errors.pop((0, 0))
    best = min(errors, key=lambda step: errors[step])
    verdict.figures["half pixel margin"] = round(errors[best] - here, 3)
    if errors[best] < 0.9 * here - 0.1:
        text = (
            f"moved by {best} of its pixels (down, right) it is closer: MSE {errors[best]:.2f} < {here:.2f}"
        )
        verdict.fault("content", text)


def _check_alpha(n: int, mine: np.ndarray, shrunk: np.ndarray, limits: Limits, verdict: Verdict) -> None:
    mse = _mse(mine, shrunk)
    allowed = limits.frame_mse + 0.1 * float(mine.var())
    if mse > allowed:
        verdict.fault("alpha", f"frame {n} has another alpha: MSE {mse:.1f} > {allowed:.1f}")


def _check_bleeding(
    n: int,
    mine: np.ndarray,
    alpha: np.ndarray,
    shrunk: np.ndarray,
    shrunk_alpha: np.ndarray,
    limits: Limits,
    verdict: Verdict,
) -> None:
    """Where a visible pixel touches one whose colour is hidden, it must not move towards that colour.

    What enlarging does to the edge in any case is seen from premultiplied colours, which know no hidden ones.

    Args:
        n: Number of the frame.
        mine: Colours as they are stored.
        alpha: Of the source.
        shrunk: The output's colours, premultiplied.
        shrunk_alpha: Of the output.
        limits: How far is too far.
        verdict: Gets the fault.
    """
    shares: list[float] = []
    mine = mine if len(mine) == len(shrunk) else _widened(mine, len(shrunk))
    usual, usual_alpha = _there_and_back(mine * (alpha / 255)), _there_and_back(alpha[None])[0]
    for axis, step in itertools.product((0, 1), (-1, 1)):
        hidden = np.roll(mine, step, axis + 1)
        is_edge = (alpha >= _VISIBLE) & (np.roll(alpha, step, axis) <= _HIDDEN)
        edge = [slice(None), slice(None)]
        edge[axis] = slice(0, 1) if step > 0 else slice(-1, None)
        is_edge[tuple(edge)] = False  # rolled in from the other side
        away = hidden - mine
        squared = (away**2).sum(0)
        is_edge &= squared > _LEAST_HIDDEN_DIFFERENCE**2
        moved = _seen(shrunk, shrunk_alpha, step, axis) - _seen(usual, usual_alpha, step, axis)
        along = (moved * away).sum(0)
        shares.extend((along[is_edge] / squared[is_edge]).tolist())
    if not shares:
        return
    mean, chance = float(np.mean(shares)), float(np.std(shares)) / len(shares) ** 0.5
    verdict.figures["bleed"] = max(round(mean, 3), verdict.figures.get("bleed", -1.0))
    if mean - 2 * chance > limits.bleed:
        verdict.fault("bleed", f"hidden colour shows at {len(shares)} edges of frame {n}: {mean:.3f} of it")
