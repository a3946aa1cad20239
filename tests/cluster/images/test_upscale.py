from __future__ import annotations

import io
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from cluster.images import ifd
from cluster.images.upscale import upscale_image
from cluster.images.vips import VipsError, readable_errors
from cluster.images.write import ImageWriter
from sr_core.errors import OutputError, WorkerError
from sr_core.model import load_model
from sr_core.upscale import Upscaler
from tests.cluster.images.pictures import (
    SHARED,
    SRGB,
    animation,
    apng,
    chunk,
    exif,
    finished,
    frames_of,
    opened,
    pillow_file,
    planned,
    png_of,
    upscaled,
    vips_image,
    waves,
)

RGB, RGBA, GREY = waves(3), waves(4), waves(1)
# The one takes long to encode, the other is a text.
NOT_HERE = ("photo_8bit.avif", "not_an_image.png")
FORMATS = ("png", "jpeg", "webp", "avif", "tiff", "bmp", "gif")
XMP = b"<?xpacket begin='' id='W5M0'?><x:xmpmeta xmlns:x='adobe:ns:meta/'/><?xpacket end='w'?>"


def rgb_file(format_: str, **options: Any) -> bytes:
    return pillow_file(Image.fromarray(RGB), format_, **options)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_stays_itself(format_: str, tmp_path: Path) -> None:
    output, treatment, result = upscaled(rgb_file(format_), tmp_path)
    assert (output.info.format, output.info.width, output.info.height) == (format_, 46, 34)
    assert (result.num_frames, result.damage) == (1, "")
    assert result.psnr_db is not None
    assert result.psnr_db > 30
    with Image.open(tmp_path / "output") as seen:
        assert seen.size == (46, 34)
        shown = np.asarray(seen.convert("RGB")).astype(int)
    assert np.abs(shown - frames_of(output)[0][..., :3]).max() <= (0 if treatment.is_lossless else 12)


@pytest.mark.parametrize(
    ("pixels", "interpretation", "saver"),
    [
        (waves(1, peak=65_535), "grey16", "pngsave_buffer"),
        (waves(2, peak=65_535), "grey16", "pngsave_buffer"),
        (waves(3, peak=65_535), "rgb16", "pngsave_buffer"),
        (waves(4, peak=65_535), "rgb16", "pngsave_buffer"),
        (GREY, "b-w", "pngsave_buffer"),
        (waves(2), "b-w", "pngsave_buffer"),
        (RGBA, "srgb", "pngsave_buffer"),
        (waves(1, peak=65_535), "grey16", "tiffsave_buffer"),
        (waves(4, peak=65_535), "rgb16", "tiffsave_buffer"),
        (waves(4, peak=65_535), "cmyk", "tiffsave_buffer"),
        (RGBA, "cmyk", "tiffsave_buffer"),
        (waves(5), "cmyk", "tiffsave_buffer"),
        (waves(2), "b-w", "tiffsave_buffer"),
        (RGBA, "cmyk", "jpegsave_buffer"),
        (GREY, "b-w", "jpegsave_buffer"),
        (RGBA, "srgb", "webpsave_buffer"),
        (RGBA, "srgb", "heifsave_buffer"),
        (RGBA, "srgb", "gifsave_buffer"),
    ],
)
def test_samples_keep_their_kind(pixels: np.ndarray, interpretation: str, saver: str, tmp_path: Path) -> None:
    options = {"compression": "av1"} if saver == "heifsave_buffer" else {}
    data = getattr(vips_image(pixels, interpretation), saver)(**options)
    output, _, result = upscaled(data, tmp_path)
    assert output.info.samples == opened(data).info.samples
    assert result.psnr_db is not None
    assert result.psnr_db > 25


@pytest.mark.parametrize("bit_depth", [10, 12])
def test_deep_avif_stays_deep(bit_depth: int, tmp_path: Path) -> None:
    codes = waves(3, peak=(1 << bit_depth) - 1) << (16 - bit_depth)
    data = vips_image(codes, "rgb16").heifsave_buffer(compression="av1", bitdepth=bit_depth, lossless=True)
    output, treatment, _ = upscaled(data, tmp_path)
    assert (output.info.bit_depth, treatment.is_lossless) == (bit_depth, True)
    output, _, _ = upscaled(data, tmp_path, "png")
    assert output.info.bit_depth == 16
    assert frames_of(output)[0].max() > 65_000


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1500, 2), (2, 300)])
@pytest.mark.parametrize("format_", FORMATS)
def test_any_size_is_upscaled(format_: str, size: tuple[int, int], tmp_path: Path) -> None:
    data = pillow_file(Image.fromarray(waves(3, *size)), format_)
    output, _, _ = upscaled(data, tmp_path, scale=3)
    assert (output.info.width, output.info.height) == (3 * size[0], 3 * size[1])


@pytest.mark.parametrize("before", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("after", FORMATS)
def test_any_format_becomes_any_other(before: str, after: str, tmp_path: Path) -> None:
    output, treatment, result = upscaled(rgb_file(before), tmp_path, after)
    assert output.info.format == after == treatment.format
    assert result.psnr_db is not None
    assert result.psnr_db > 25


@pytest.mark.parametrize(
    ("data", "format_"),
    [
        *((rgb_file(format_), "auto") for format_ in FORMATS),
        (animation("GIF"), "auto"),
        (animation("WEBP"), "auto"),
        (animation("PNG"), "auto"),
    ],
)
def test_equal_work_gives_equal_bytes(data: bytes, format_: str, tmp_path: Path) -> None:
    upscaled(data, tmp_path, format_)
    first = (tmp_path / "output").read_bytes()
    upscaled(data, tmp_path, format_)
    assert (tmp_path / "output").read_bytes() == first


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_carried_and_exif_says_the_new_size(
    format_: str, orientation: int, tmp_path: Path
) -> None:
    prefix = b"Exif\0\0" if format_ == "JPEG" else b""
    thumbnail = pillow_file(Image.fromarray(waves(3, 8, 6)), "JPEG")
    data = rgb_file(format_, exif=prefix + exif(orientation, thumbnail))
    output, _, _ = upscaled(data, tmp_path)
    assert output.info.orientation == orientation
    with Image.open(tmp_path / "output") as seen:
        tags = seen.getexif()
        inner = tags.get_ifd(0x8769)
        assert tags[274] == orientation
        assert tags[271].rstrip("\0") == "Framelift Camera"
        assert (inner[40962], inner[40963]) == (46, 34)
        assert inner[37500] == b"NOTE" * 5
        assert not tags.get_ifd(1)
    assert thumbnail[20:60] not in (tmp_path / "output").read_bytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_becomes_a_turn_in_avif(orientation: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    data = pillow_file(Image.fromarray(RGB), "PNG", exif=tags)
    output, _, _ = upscaled(data, tmp_path, "avif")
    turned = pyvips.Image.pngload_buffer(data).autorot()
    assert (output.info.width, output.info.height) == (2 * turned.width, 2 * turned.height)
    large = np.stack(next(output.frames()), axis=-1)
    small = large.reshape(turned.height, 2, turned.width, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - turned.numpy()).max() < 12


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("after", ["auto", "png", "jpeg", "webp", "avif", "tiff"])
def test_profile_and_xmp_are_carried(format_: str, after: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"icc_profile": SRGB}
    data = (
        rgb_file(format_, **options) if format_ in ("PNG", "TIFF") else rgb_file(format_, xmp=XMP, **options)
    )
    output, _, _ = upscaled(data, tmp_path, after)
    assert output.metadata.icc == SRGB
    assert output.metadata.xmp == (b"" if format_ in ("PNG", "TIFF") else XMP)


def test_profile_is_carried_into_bmp(tmp_path: Path) -> None:
    output, _, _ = upscaled(rgb_file("PNG", icc_profile=SRGB), tmp_path, "bmp")
    assert output.metadata.icc == SRGB


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "BMP"])
def test_resolution_is_carried_or_stays_unknown(format_: str, tmp_path: Path) -> None:
    upscaled(rgb_file(format_, dpi=(300, 300)), tmp_path)
    with Image.open(tmp_path / "output") as seen:
        assert seen.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    output, _, _ = upscaled(rgb_file("PNG"), tmp_path, format_.lower())
    assert output.metadata.per_mm is None


def test_texts_comments_and_colour_codes_are_carried(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    codes, text = chunk(b"cICP", bytes((9, 16, 0, 1))), chunk(b"tEXt", b"Author\0Ada")
    output, _, _ = upscaled(png_of((23, 17, 8, 2), rows, codes, text), tmp_path)
    assert output.metadata.png_chunks == ((b"cICP", bytes((9, 16, 0, 1))), (b"tEXt", b"Author\0Ada"))
    output, _, _ = upscaled(rgb_file("JPEG", comment=b"by hand"), tmp_path)
    assert output.metadata.comments == (b"by hand",)


@pytest.mark.parametrize("after", ["auto", "avif"])
def test_colour_codes_of_avif_are_carried(after: str, tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    deep = png_of((23, 17, 8, 2), rows, chunk(b"cICP", bytes((9, 16, 0, 1))))
    output, _, _ = upscaled(deep, tmp_path, "avif", 90)
    assert output.info.color_codes == (9, 16)
    output, _, result = upscaled((tmp_path / "output").read_bytes(), tmp_path, after)
    assert output.info.color_codes == (9, 16)
    assert result.psnr_db is not None
    assert result.psnr_db > 30


@pytest.mark.parametrize(("before", "bands"), [("GIF", 3), ("WEBP", 3), ("WEBP", 4), ("PNG", 3), ("PNG", 4)])
@pytest.mark.parametrize("after", ["gif", "webp", "png"])
def test_animations_keep_frames_times_and_plays(before: str, bands: int, after: str, tmp_path: Path) -> None:
    data = animation(before, bands=bands, **({"lossless": True} if before == "WEBP" else {}))
    source = opened(data)
    output, _, result = upscaled(data, tmp_path, after)
    assert output.info.delays_s == source.info.delays_s
    assert (output.info.loop, result.num_frames) == (source.info.loop, 4)
    assert result.psnr_db is not None
    assert result.psnr_db > 15
    with Image.open(tmp_path / "output") as seen:
        assert seen.n_frames == 4
        for index, frame in enumerate(frames_of(source)):
            seen.seek(index)
            large = np.asarray(seen.convert("RGB")).astype(float)
            small = large.reshape(16, 2, 24, 2, 3).mean(axis=(1, 3))
            alpha = frame[..., 3:] / 255 if bands == 4 else 1
            assert np.abs(small * alpha - frame[..., :3] * alpha).mean() < 6


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_frames_that_do_not_change_stay_frames(format_: str, tmp_path: Path) -> None:
    tick = Fraction(1, 10)
    still = np.full((6, 8, 4), (200, 30, 30, 255), np.uint8)
    data = apng(*((still, (0, 0), tick, 0, 0) for _ in range(3)), size=(8, 6))
    output, _, _ = upscaled(data, tmp_path, format_.lower())
    assert output.info.delays_s == (tick,) * 3


def test_deep_animated_png_stays_deep(tmp_path: Path) -> None:
    pixels = waves(4, 12, 9, peak=65_535)
    data = apng(*((pixels // (1 + n), (0, 0), Fraction(1, 30), 0, 0) for n in range(2)), size=(12, 9))
    output, _, _ = upscaled(data, tmp_path)
    assert (output.info.bit_depth, output.info.delays_s) == (16, (Fraction(1, 30),) * 2)


def test_pages_of_a_tiff_stay_pages_of_their_sizes(tmp_path: Path) -> None:
    small = Image.fromarray(waves(3, 9, 11))
    data = rgb_file("TIFF", save_all=True, append_images=[small], compression="tiff_lzw")
    output, _, result = upscaled(data, tmp_path)
    assert (output.info.page_sizes, result.num_frames) == (((46, 34), (18, 22)), 2)
    assert output.info.compression == "lzw"
    with Image.open(tmp_path / "output") as seen:
        seen.seek(1)
        assert seen.size == (18, 22)


def test_hidden_colours_do_not_bleed(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 4), np.uint8)
    pixels[:, :8] = (255, 0, 0, 255)
    pixels[:, 8:] = (0, 255, 0, 0)
    output, _, _ = upscaled(pillow_file(Image.fromarray(pixels), "PNG"), tmp_path)
    frame = frames_of(output)[0]
    seen = frame[frame[..., 3] > 8]
    assert seen[:, 1].max() < 40
    assert seen[:, 0].min() > 200


def test_cmyk_keeps_its_separation(tmp_path: Path) -> None:
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[..., 3] = 255  # text in black ink alone: no other ink may appear
    inks[2:6, 2:6, 3] = 0
    data = vips_image(inks, "cmyk").tiffsave_buffer()
    output, _, _ = upscaled(data, tmp_path)
    assert frames_of(output)[0][..., :3].max() == 0
    assert frames_of(output)[0][0, 0, 3] == 255


def test_progressive_stays_progressive_and_chroma_as_fine(tmp_path: Path) -> None:
    for subsampling, expected in ((0, "4:4:4"), (2, "4:2:0")):
        data = rgb_file("JPEG", subsampling=subsampling, progressive=subsampling == 2)
        info = upscaled(data, tmp_path)[0].info
        assert (info.subsampling, info.is_progressive) == (expected, subsampling == 2)


def test_a_damaged_source_gives_an_output_and_tells(tmp_path: Path) -> None:
    data = pillow_file(Image.fromarray(waves(3, 200, 150)), "JPEG", quality=95)
    output, _, result = upscaled(data[: len(data) // 2], tmp_path)
    assert (output.info.width, output.damage) == (400, "")
    assert "premature end" in result.damage


def test_an_output_that_differs_from_the_plan_is_refused(tmp_path: Path) -> None:
    data = rgb_file("PNG")
    treatment = replace(planned(opened(data).info), loop=7)
    upscaler = Upscaler(load_model("lanczos", 2), "cpu", "fp32", 256, 1)
    with pytest.raises(OutputError, match="plays"):
        finished(upscale_image(io.BytesIO(data), "a.png", treatment, upscaler, tmp_path / "output"))


def test_an_output_without_frames_is_refused(tmp_path: Path) -> None:
    treatment = planned(opened(rgb_file("PNG")).info)
    metadata = opened(rgb_file("PNG")).metadata
    writer = ImageWriter(tmp_path / "output", treatment, metadata)
    with writer, pytest.raises(OutputError, match="no frame"):
        writer.end()


def test_exif_of_another_byte_order_is_updated_in_place() -> None:
    tags = Image.Exif()
    tags.endian = ">"
    tags[256], tags[274], tags[271] = 23, 6, "Big End"
    blob = tags.tobytes().removeprefix(b"Exif\0\0")
    new = ifd.updated_exif(blob, 460, 340, 6)
    assert len(new) == len(blob)
    read = ifd.read_exif(new)
    assert (read[256].numbers, read[274].numbers, read[271].data) == ((460,), (6,), b"Big End\0")


def test_exif_that_cannot_be_read_is_not_carried() -> None:
    assert ifd.updated_exif(b"II*\0\xff\xff\xff\0", 1, 1, 1) == b""
    assert ifd.updated_exif(b"", 1, 1, 1) == b""


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared images")
@pytest.mark.parametrize("name", sorted(path.name for path in SHARED.glob("*") if path.name not in NOT_HERE))
def test_shared_images_are_upscaled(name: str, tmp_path: Path) -> None:
    data = (SHARED / name).read_bytes()
    output, _, result = upscaled(data, tmp_path)
    assert output.info.samples == opened(data).info.samples
    assert bool(result.damage) == ("truncated" in name)


@pytest.mark.parametrize("plays", [0, 1, 2, 300])
@pytest.mark.parametrize("after", ["gif", "webp", "png"])
def test_any_number_of_plays_is_kept(plays: int, after: str, tmp_path: Path) -> None:
    data = animation("WEBP", loop=plays)
    assert upscaled(data, tmp_path, after)[0].info.loop == plays


@pytest.mark.parametrize(
    ("before", "after"), [("TIFF", "jpeg"), ("JPEG", "tiff"), ("TIFF", "webp"), ("PNG", "avif")]
)
def test_exif_is_carried_between_formats(before: str, after: str, tmp_path: Path) -> None:
    prefix = b"Exif\0\0" if before == "JPEG" else b""
    upscaled(rgb_file(before, exif=prefix + exif(1)), tmp_path, after)
    with Image.open(tmp_path / "output") as seen:
        tags = seen.getexif()
        assert tags[271].rstrip("\0") == "Framelift Camera"
        assert tags.get_ifd(0x8769)[37500] == b"NOTE" * 5


def test_what_a_format_has_no_place_for_is_told(tmp_path: Path) -> None:
    data = rgb_file("JPEG", comment=b"by hand", xmp=XMP, dpi=(300, 300))
    _, _, result = upscaled(data, tmp_path, "gif")
    told = " ".join(result.told)
    assert all(what in told for what in ("XMP", "comments", "resolution"))
    assert upscaled(data, tmp_path)[2].told == ()


def test_a_profile_for_grey_is_not_given_to_colours(tmp_path: Path) -> None:
    grey = bytearray(SRGB)
    grey[16:20] = b"GRAY"
    data = pillow_file(Image.fromarray(GREY[..., 0]), "PNG", icc_profile=bytes(grey))
    assert upscaled(data, tmp_path)[0].metadata.icc == bytes(grey)
    output, _, result = upscaled(data, tmp_path, "webp")
    assert output.metadata.icc == b""
    assert "for grey" in " ".join(result.told)


def test_a_profile_that_makes_no_sense_is_carried_as_it_is(tmp_path: Path) -> None:
    data = rgb_file("JPEG", icc_profile=b"no profile" * 20)
    for after in ("auto", "png", "tiff", "webp", "bmp"):
        assert upscaled(data, tmp_path, after)[0].metadata.icc == b"no profile" * 20


@pytest.mark.parametrize("orientation", range(2, 9))
def test_no_psnr_is_made_up_where_the_output_is_turned(orientation: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    square = pillow_file(Image.fromarray(waves(3, 16, 16)), "PNG", exif=tags)
    assert upscaled(square, tmp_path, "avif")[2].psnr_db is None
    png_db = upscaled(square, tmp_path, "png")[2].psnr_db
    assert png_db is not None
    assert png_db > 30


@pytest.mark.parametrize(
    ("data", "num_frames"),
    [
        (animation("GIF"), 4),
        (animation("WEBP"), 4),
        (rgb_file("TIFF", save_all=True, append_images=[Image.fromarray(RGB)] * 2), 3),
        (rgb_file("JPEG"), 1),
    ],
)
def test_signs_of_life_come_between_the_steps_of_every_frame(
    data: bytes, num_frames: int, tmp_path: Path
) -> None:
    treatment = planned(opened(data).info)
    upscaler = Upscaler(load_model("lanczos", 2), "cpu", "fp32", 256, 1)
    path = tmp_path / "output"
    signs = sum(1 for _ in upscale_image(io.BytesIO(data), "picture", treatment, upscaler, path))
    # Read, upscaled, written and verified; and twice for the whole file.
    assert signs == 4 * num_frames + 2


class FullDevice(Upscaler):
    def upscale(self, *args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("the device has 4 MiB left")


class FullMachine(io.BytesIO):
    def read(self, *size: Any) -> bytes:
        if not size:
            raise MemoryError
        return super().read(*size)


@pytest.mark.parametrize(("engine", "file"), [(FullDevice, io.BytesIO), (Upscaler, FullMachine)])
def test_memory_that_runs_out_is_the_machines_fault(
    engine: type[Upscaler], file: type[io.BytesIO], tmp_path: Path
) -> None:
    data = rgb_file("PNG")
    upscaler = engine(load_model("lanczos", 2), "cpu", "fp32", 256, 1)
    work = upscale_image(file(data), "a.png", planned(opened(data).info), upscaler, tmp_path / "output")
    with pytest.raises(WorkerError, match="46x34"):
        finished(work)


def test_memory_that_libvips_lacks_is_no_damage() -> None:
    with pytest.raises(MemoryError, match="size == 12MB"), readable_errors():
        raise VipsError("unable to call write_to_memory", "vips_tracked: out of memory --- size == 12MB")


@pytest.mark.parametrize(("start", "length"), [(0, 20), (8, 40), (30, 60), (90, 40)])
def test_a_thumbnail_that_lies_over_the_tags_does_not_erase_them(start: int, length: int) -> None:
    blob = bytearray(exif(6, b"\xff\xd8 thumbnail"))
    at = blob.index(struct.pack("<HHI", 513, 4, 1))
    blob[at + 8 : at + 12] = struct.pack("<I", start)
    blob[at + 20 : at + 24] = struct.pack("<I", length)
    updated = ifd.updated_exif(bytes(blob), 46, 34, 6)
    tags = ifd.read_exif(updated)
    assert tags[271].data == b"Framelift Camera\0\0"
    assert tags[34665].directory is not None
    assert tags[34665].directory[37500].data == b"NOTE" * 5
    assert not ifd.has_thumbnail(updated)


def test_pages_that_share_a_profile_each_have_it_and_the_output_once(tmp_path: Path) -> None:
    pages = [Image.fromarray(waves(3, 3, 2)) for _ in range(40)]
    data = bytearray(pillow_file(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    shared = len(data)
    data += SRGB
    for offset, pointer in ifd.read_tiff(bytes(data), "pages").places:
        entry = next(at for at in range(offset + 2, pointer, 12) if data[at : at + 2] == b"\x1c\x01")
        data[entry : entry + 12] = struct.pack("<HHII", 34675, 7, len(SRGB), shared)
    assert {tags[34675].data for tags in opened(bytes(data)).metadata.tiff_tags} == {SRGB}
    output, _, _ = upscaled(bytes(data), tmp_path)
    assert [tags[34675].data for tags in output.metadata.tiff_tags] == [SRGB] * 40
    assert (tmp_path / "output").read_bytes().count(SRGB) == 1
