"""The independent check of still images: it passes good outputs and names each fault that is built in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageCms, ImageSequence

from tests.end_to_end import independent
from tests.end_to_end.conftest import SHARED
from tests.end_to_end.independent import Outcome, Verdict, measure_still

pytestmark = pytest.mark.skipif(not independent.have_ffmpeg(), reason="ffmpeg and ffprobe are not installed")

WIDTH, HEIGHT = 48, 40
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
IMAGES = SHARED / "data" / "images_misc"


def picture(seed: int = 0) -> Image.Image:
    """Coloured blobs: smooth, without any symmetry."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(20, 235, (10, 12, 3), np.uint8))
    return small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def disc() -> Image.Image:
    """Soft alpha that is neither symmetric nor full."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    far = np.hypot(x - 18, y - 22)
    return Image.fromarray(np.clip(255 - 12 * np.maximum(far - 10, 0), 0, 255).astype(np.uint8))


def enlarged(image: Image.Image, size: tuple[int, int] | None = None) -> Image.Image:
    return image.resize(size or (2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)


def turned(image: Image.Image) -> Image.Image:
    return enlarged(image).transpose(Image.Transpose.ROTATE_270)


def exif_of(orientation: int, artist: str = "somebody") -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = orientation, artist
    return exif


def judged(
    folder: Path, source: Image.Image, make: Callable[[Image.Image], Image.Image], suffix: str, **options: Any
) -> Verdict:
    """The verdict on a source and what `make` makes of it as it decodes, written under the same name.

    Options are those of Pillow; where they differ, they are given as `{"in": ..., "out": ...}`.
    """
    paths = [folder / name / f"image{suffix}" for name in ("in", "out")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        image = source if path is paths[0] else make(_decoded(paths[0]))
        image.info.clear()
        own = {k: v[path.parent.name] if isinstance(v, dict) else v for k, v in options.items()}
        image.save(path, **{k: v for k, v in own.items() if v is not None})
    return measure_still(*paths, 2)


def _decoded(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image.convert("L" if image.mode == "1" else "RGB") if image.mode in "1P" else image.copy()


def keys(verdict: Verdict) -> set[str]:
    return {fault.key for fault in verdict.faults}


LOSSY: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 92},
    ".webp": {"quality": 92},
    ".avif": {"quality": 92},
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tiff", ".bmp"])
def test_good_image_has_no_faults(suffix: str, tmp_path: Path) -> None:
    verdict = judged(tmp_path, picture(), enlarged, suffix, **LOSSY.get(suffix, {}))

    assert verdict.faults == []
    assert verdict.figures["size"] == ((WIDTH, HEIGHT), (2 * WIDTH, 2 * HEIGHT))


@pytest.mark.parametrize(
    ("convert", "suffix"),
    [
        (lambda image: image.convert("L"), ".png"),
        (lambda image: image.convert("1"), ".png"),
        (lambda image: image.quantize(16), ".png"),
        (lambda image: image.convert("CMYK"), ".jpg"),
        (lambda image: image.convert("L").convert("LA"), ".png"),
    ],
)
def test_other_modes_may_become_full_pictures(
    convert: Callable[[Image.Image], Image.Image], suffix: str, tmp_path: Path
) -> None:
    source = convert(picture())

    assert judged(tmp_path, source, enlarged, suffix).faults == []


SPOILT: dict[str, tuple[Callable[[Image.Image], Image.Image], set[str]]] = {
    "flipped": (lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), {"content"}),
    "mirrored": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {"content"}),
    "channels swapped": (lambda image: Image.merge("RGB", image.split()[::-1]), {"content"}),
    "inverted": (ImageChops.invert, {"content"}),
    "shifted by a source pixel": (lambda image: ImageChops.offset(image, 2, 0), {"content"}),
    "shifted by an output pixel": (lambda image: ImageChops.offset(image, 0, 1), {"content"}),
    "black": (lambda image: Image.new("RGB", image.size), {"content"}),
    "brighter": (lambda image: image.point(lambda v: min(255, v + 4)), {"drift"}),
    "grey": (lambda image: image.convert("L"), {"mode"}),
    "too large": (lambda image: enlarged(image, (2 * WIDTH + 1, 2 * HEIGHT)), {"size"}),
    "turned": (lambda image: image.transpose(Image.Transpose.ROTATE_180), {"content"}),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_image_is_a_fault(name: str, tmp_path: Path) -> None:
    spoil, expected = SPOILT[name]

    assert keys(judged(tmp_path, picture(), lambda image: spoil(enlarged(image)), ".png")) >= expected


def test_lost_profile_and_orientation_are_faults(tmp_path: Path) -> None:
    exif = {"in": exif_of(6), "out": exif_of(6)}
    good = judged(tmp_path, picture(), enlarged, ".jpg", exif=exif, icc_profile=ICC, quality=92)
    profiles = {"in": ICC, "out": None}
    without_profile = judged(tmp_path, picture(), enlarged, ".jpg", exif=exif, icc_profile=profiles)
    baked = judged(tmp_path, picture(), turned, ".jpg", exif={"in": exif_of(6), "out": exif_of(1)})
    nameless = {"in": exif_of(6), "out": exif_of(6, "")}
    other_artist = judged(tmp_path, picture(), enlarged, ".jpg", exif=nameless, quality=92)

    assert good.faults == []
    assert keys(without_profile) == {"icc"}
    assert keys(baked) >= {"orientation", "size"}
    assert keys(other_artist) == {"exif"}


def test_alpha_that_is_lost_or_inverted_is_a_fault(tmp_path: Path) -> None:
    source = picture()
    source.putalpha(disc())
    good = enlarged(source)
    inverted = good.copy()
    inverted.putalpha(ImageChops.invert(good.getchannel("A")))

    assert keys(judged(tmp_path, source, lambda _: good.convert("RGB"), ".png")) >= {"mode"}
    assert keys(judged(tmp_path, source, lambda _: inverted, ".png")) >= {"alpha"}
    assert keys(judged(tmp_path, source, lambda _: good, ".png")) <= {"bleed"}


def test_hidden_colour_that_bleeds_is_a_fault(tmp_path: Path) -> None:
    """Red shapes with green hidden beside them: enlarged with and without regard to alpha."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[8:30, 10:36], mask[14:20, 20:28] = True, False
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[mask], rgba[~mask] = (220, 40, 40, 255), (0, 255, 0, 0)
    source = Image.fromarray(rgba)
    heedless = Image.merge("RGBA", [enlarged(channel) for channel in source.split()])
    clean = rgba.copy()
    clean[~mask, :3] = (220, 40, 40)
    heedful = Image.merge("RGBA", [enlarged(channel) for channel in Image.fromarray(clean).split()])

    good = judged(tmp_path, source, lambda _: heedful, ".png")
    bad = judged(tmp_path, source, lambda _: heedless, ".png")

    assert good.faults == []
    assert keys(bad) == {"bleed"}


def test_sixteen_bits_that_became_eight_are_a_fault(tmp_path: Path) -> None:
    deep = np.asarray(picture().convert("L"), np.uint16) * 257 + 100
    source = Image.fromarray(deep)
    enlarged_deep = Image.fromarray(np.kron(deep, np.ones((2, 2), np.uint16)))

    good = judged(tmp_path, source, lambda _: enlarged_deep, ".png")
    flat = judged(tmp_path, source, lambda _: enlarged(picture().convert("L")), ".png")

    assert good.faults == []
    assert good.figures["mode"] == ("I;16 16", "I;16 16")
    assert keys(flat) == {"mode"}


def test_sixteen_bits_of_colour_and_alpha_are_read_whole(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("in.png", "out.png", "flat.png")]
    drawn = f"testsrc2=s={WIDTH}x{HEIGHT}:d=0.04,format=rgba,colorchannelmixer=aa=0.5"
    sizes = [
        "format=rgba64be",
        "scale=2*iw:2*ih:flags=bicubic,format=rgba64be",
        "scale=2*iw:2*ih,format=rgba",
    ]
    for path, size in zip(paths, sizes, strict=True):
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            f"{drawn},{size}",
            "-frames:v",
            "1",
            str(path),
        ]
        subprocess.run(command, check=True)

    good, flat = (measure_still(paths[0], path, 2) for path in paths[1:])

    assert good.figures["mode"] == ("RGBA 16", "RGBA 16")
    assert good.faults == []
    assert keys(flat) == {"mode"}


def test_cmyk_that_became_rgb_is_a_fault(tmp_path: Path) -> None:
    source = picture().convert("CMYK")

    assert keys(judged(tmp_path, source, lambda image: enlarged(image.convert("RGB")), ".jpg")) == {"mode"}


def test_another_name_or_format_is_a_fault(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg")
    made = enlarged(_decoded(tmp_path / "a.jpg"))
    made.save(tmp_path / "b.jpeg", quality=92)
    made.save(tmp_path / "c.png")

    assert keys(measure_still(tmp_path / "a.jpg", tmp_path / "b.jpeg", 2)) == {"name"}
    assert keys(measure_still(tmp_path / "a.jpg", tmp_path / "c.png", 2)) == {"name", "format"}


def save_animation(path: Path, frames: list[Image.Image], durations: list[int], loop: int) -> None:
    first, *rest = [frame.quantize(256) if path.suffix == ".gif" else frame for frame in frames]
    quality = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=loop, **quality)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animation_keeps_its_frames_delays_and_loop(suffix: str, tmp_path: Path) -> None:
    times, source, output = [40, 80, 120, 60], tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    save_animation(source, [picture(seed) for seed in range(4)], times, 3)
    with Image.open(source) as image:
        frames = [enlarged(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]

    def verdict(chosen: list[int], durations: list[int], loop: int) -> set[str]:
        save_animation(output, [frames[n] for n in chosen], durations, loop)
        return keys(measure_still(source, output, 2)) - {"name"}

    assert verdict([0, 1, 2, 3], times, 3) == set()
    assert verdict([0, 1, 2], times[:3], 3) == {"frames"}
    assert verdict([0, 1, 2, 3], [40, 80, 130, 60], 3) == {"durations"}
    assert verdict([0, 1, 2, 3], times, 2) == {"loop"}
    assert verdict([0, 2, 1, 3], times, 3) >= {"order"}


def test_damaged_image_is_compared_as_far_as_it_decodes(tmp_path: Path) -> None:
    big = enlarged(picture(), (160, 160))
    path, output = tmp_path / "in.jpg", tmp_path / "out.jpg"
    big.save(path, quality=92)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    enlarged(big).save(output, quality=92)
    enlarged(big).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.jpg")

    damaged, done = Outcome(state="damaged"), Outcome(state="done")

    assert keys(measure_still(path, output, 2, outcome=damaged)) == set()
    assert keys(measure_still(path, output, 2, outcome=done)) == {"state"}
    assert "content" in keys(measure_still(path, tmp_path / "mirrored.jpg", 2, outcome=damaged))


def test_what_is_told_is_excused(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.webp", icc_profile=ICC, quality=92)
    made = enlarged(_decoded(tmp_path / "a.webp"))
    made.info.clear()
    made.save(tmp_path / "b.webp", quality=92)
    told = Outcome(told=("the ICC profile is dropped, as it cannot be read",))

    assert keys(measure_still(tmp_path / "a.webp", tmp_path / "b.webp", 2)) == {"icc"}
    assert keys(measure_still(tmp_path / "a.webp", tmp_path / "b.webp", 2, outcome=told)) == set()


@pytest.mark.skipif(not IMAGES.exists(), reason="needs the shared data")
@pytest.mark.parametrize("name", ["bilevel.png", "tiny_1x1.png", "tiny_3x5.png", "strip_1500x2.png"])
def test_odd_images_enlarged_by_lanczos_have_no_faults(name: str, tmp_path: Path) -> None:
    with Image.open(IMAGES / name) as image:
        full = {"1": "L", "P": "RGBA"}.get(image.mode, image.mode)
        enlarged(image.convert(full)).save(tmp_path / name)

    assert measure_still(IMAGES / name, tmp_path / name, 2).faults == []
