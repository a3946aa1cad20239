from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from cluster.images import ifd, webp
from cluster.images.plan import MAX_SOURCE_PX
from cluster.images.read import open_image, read_info
from sr_core.errors import MediaError, SpecError
from tests.cluster.images.pictures import (
    SRGB,
    Pixels,
    animation,
    apng,
    chunk,
    exif,
    frames_of,
    opened,
    pillow_file,
    planned,
    png_of,
    vips_image,
    waves,
)

RGB, RGBA, GREY = waves(3), waves(4), waves(1)
DEEP, DEEP_RGBA = waves(1, peak=65_535), waves(4, peak=65_535)


def gif_image(pixels: Pixels) -> bytes:
    return pillow_file(Image.fromarray(pixels).quantize(16), "GIF")


@pytest.mark.parametrize(
    ("data", "samples", "pixels"),
    [
        (pillow_file(Image.fromarray(RGB), "PNG"), "rgb 8 bit", RGB),
        (pillow_file(Image.fromarray(RGBA), "PNG"), "rgba 8 bit", RGBA),
        (pillow_file(Image.fromarray(GREY[..., 0]), "PNG"), "grey 8 bit", GREY),
        (pillow_file(Image.fromarray(waves(2)), "PNG"), "grey+alpha 8 bit", waves(2)),
        (pillow_file(Image.fromarray(DEEP[..., 0]), "PNG"), "grey 16 bit", DEEP),
        (vips_image(DEEP_RGBA, "rgb16").pngsave_buffer(interlace=True), "rgba 16 bit", DEEP_RGBA),
        (pillow_file(Image.fromarray(RGB), "BMP"), "rgb 8 bit", RGB),
        (pillow_file(Image.fromarray(GREY[..., 0]), "BMP"), "grey 8 bit", GREY),
        (pillow_file(Image.fromarray(RGB), "TIFF"), "rgb 8 bit", RGB),
        (pillow_file(Image.fromarray(RGBA), "TIFF", compression="tiff_lzw"), "rgba 8 bit", RGBA),
        (pillow_file(Image.fromarray(RGBA, "CMYK"), "TIFF"), "cmyk 8 bit", RGBA),
        (pillow_file(Image.fromarray(DEEP[..., 0]), "TIFF"), "grey 16 bit", DEEP),
        (vips_image(DEEP_RGBA, "rgb16").tiffsave_buffer(bigtiff=True), "rgba 16 bit", DEEP_RGBA),
        (pillow_file(Image.fromarray(RGB), "WEBP", lossless=True), "rgb 8 bit", RGB),
        (pillow_file(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True), "rgba 8 bit", RGBA),
    ],
)
def test_samples_are_read_as_they_are_stored(data: bytes, samples: str, pixels: Pixels) -> None:
    source = opened(data)
    assert source.info.samples == samples
    assert source.info.is_lossless
    (frame,) = frames_of(source)
    assert frame.dtype == pixels.dtype
    np.testing.assert_array_equal(frame, pixels)
    assert source.damage == ""


def test_deep_avif_has_its_codes_in_the_low_bits() -> None:
    codes = waves(3, peak=1023)
    data = vips_image(codes << 6, "rgb16").heifsave_buffer(compression="av1", bitdepth=10, lossless=True)
    source = opened(data)
    assert (source.info.bit_depth, source.info.is_lossless) == (10, True)
    np.testing.assert_array_equal(frames_of(source)[0], codes)


def test_ink_of_cmyk_jpegs_is_not_inverted() -> None:
    inks = np.full((16, 16, 4), (10, 60, 120, 200), np.uint8)
    data = pillow_file(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data  # which stores them inverted
    np.testing.assert_allclose(frames_of(opened(data))[0][8, 8], (10, 60, 120, 200), atol=2)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "GIF"])
def test_palettes_become_colours(format_: str) -> None:
    picture = Image.fromarray(RGB).quantize(16)
    source = opened(pillow_file(picture, format_))
    assert source.info.is_palette
    np.testing.assert_array_equal(frames_of(source)[0][..., :3], np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP"])
def test_bilevel_is_black_and_white(format_: str) -> None:
    bits = GREY[..., 0] > 120
    source = opened(pillow_file(Image.fromarray(bits), format_))
    assert source.info.is_bilevel
    np.testing.assert_array_equal(frames_of(source)[0][..., 0], np.where(bits, 255, 0))


def test_transparent_entries_of_a_palette_are_alpha() -> None:
    picture = Image.fromarray(RGB).quantize(8)
    source = opened(pillow_file(picture, "PNG", transparency=bytes([0, 128, *[255] * 6])))
    assert (source.info.is_palette, source.info.has_alpha) == (True, True)
    assert set(np.unique(frames_of(source)[0][..., 3])) == {0, 128, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_read_and_pixels_stay_stored(format_: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    info = opened(pillow_file(Image.fromarray(RGB), format_, exif=tags)).info
    assert (info.orientation, info.width, info.height) == (orientation, 23, 17)


def test_facts_of_jpegs_are_told() -> None:
    picture = Image.fromarray(RGB)
    fine = opened(pillow_file(picture, "JPEG", subsampling=0, icc_profile=SRGB))
    coarse = opened(pillow_file(picture, "JPEG", subsampling=2, progressive=True, comment=b"by hand"))
    assert (fine.info.subsampling, fine.info.has_icc, fine.metadata.icc) == ("4:4:4", True, SRGB)
    assert (coarse.info.subsampling, coarse.info.is_progressive) == ("4:2:0", True)
    assert coarse.metadata.comments == (b"by hand",)
    thumbnail = pillow_file(picture.resize((8, 6)), "JPEG")
    assert opened(pillow_file(picture, "JPEG", exif=b"Exif\0\0" + exif(1, thumbnail))).info.dropped == (
        "the EXIF thumbnail",
    )


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_animations_are_read_as_they_are_shown(format_: str) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = animation(format_, **options)
    source = opened(data)
    assert source.info.num_frames == 4
    assert source.info.delays_s == tuple(Fraction(ms, 1000) for ms in (40, 70, 100, 130))
    with Image.open(io.BytesIO(data)) as shown:
        for index, frame in enumerate(source.frames()):
            shown.seek(index)
            np.testing.assert_array_equal(np.stack(frame[:3], axis=-1), np.asarray(shown.convert("RGB")))


def test_frames_of_animated_png_are_disposed_and_blended() -> None:
    ground = np.full((4, 6, 4), (100, 0, 0, 255), np.uint8)
    half = np.full((2, 2, 4), (0, 200, 0, 128), np.uint8)
    tick = Fraction(1, 30)
    data = apng(
        (ground, (0, 0), tick, 0, 0),
        (half, (1, 1), tick, 2, 1),
        (half, (4, 2), tick, 1, 0),
        (half, (0, 0), tick, 0, 1),
        size=(6, 4),
    )
    source = opened(data)
    _, blended, replaced, cleared = frames_of(source)
    assert source.info.delays_s == (tick,) * 4
    assert tuple(blended[1, 1]) == (50, 100, 0, 255)
    assert tuple(replaced[1, 1]) == (100, 0, 0, 255)
    assert tuple(replaced[3, 5]) == (0, 200, 0, 128)
    assert tuple(cleared[3, 5]) == (0, 0, 0, 0)


def test_pages_of_different_size_are_each_read() -> None:
    small = Image.fromarray(waves(3, 9, 11))
    data = pillow_file(Image.fromarray(RGB), "TIFF", save_all=True, append_images=[small])
    source = opened(data)
    assert source.info.page_sizes == ((23, 17), (9, 11))
    assert [frame.shape for frame in frames_of(source)] == [(17, 23, 3), (11, 9, 3)]


def test_smaller_copies_in_a_tiff_are_dropped_and_told() -> None:
    tags = {254: 1}
    small = Image.fromarray(waves(3, 9, 11))
    small.encoderinfo = {"tiffinfo": tags}
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF", save_all=True, append_images=[small])
    source = opened(file.getvalue())
    assert (source.info.num_frames, source.info.page_sizes) == (1, ())
    assert "smaller copies" in " ".join(source.info.dropped)


def test_pages_of_different_kinds_are_refused() -> None:
    data = pillow_file(
        Image.fromarray(RGB), "TIFF", save_all=True, append_images=[Image.fromarray(GREY[..., 0])]
    )
    with pytest.raises(MediaError, match="different kinds"):
        opened(data)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.fromarray(GREY[..., 0].astype(np.float32)), "floating-point samples of 32 bit"),
        (Image.fromarray(GREY[..., 0].astype(np.int32)), "signed samples of 32 bit"),
        (Image.fromarray(RGB, "LAB"), "L*a*b*"),
    ],
)
def test_tiffs_that_are_not_supported_say_what_they_are(picture: Image.Image, words: str) -> None:
    with pytest.raises(MediaError) as caught:
        opened(pillow_file(picture, "TIFF"))
    assert words in caught.value.got


def test_ycbcr_tiff_is_read_as_colours() -> None:
    data = pillow_file(Image.fromarray(RGB), "TIFF", compression="jpeg", quality=100)
    source = opened(data)
    assert (source.info.layout, source.info.is_lossless, source.info.compression) == ("rgb", False, "jpeg")
    assert np.abs(frames_of(source)[0].astype(int) - RGB).mean() < 3


@pytest.mark.parametrize("peak", [255, 65_535])
def test_premultiplied_alpha_is_divided_out(peak: int) -> None:
    step = peak // 255
    pixels = (np.full((4, 4, 4), (50, 25, 100, 128), np.uint16) * step).astype(
        np.uint8 if step == 1 else np.uint16
    )
    data = bytearray(vips_image(pixels, "srgb" if step == 1 else "rgb16").tiffsave_buffer())
    entry = data.index(struct.pack("<HHI", 338, 3, 1))
    data[entry + 8] = 1  # ExtraSamples: associated
    source = opened(bytes(data))
    assert source.info.is_premultiplied
    expected = np.array((99.6, 49.8, 199.2, 128)) * step
    np.testing.assert_allclose(frames_of(source)[0][0, 0], expected, atol=step)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


LARGE = waves(3, 200, 150) ^ np.random.default_rng(5).integers(0, 32, (150, 200, 3), np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        pillow_file(Image.fromarray(LARGE), "PNG"),
        vips_image(LARGE, "srgb").pngsave_buffer(interlace=True),
        pillow_file(Image.fromarray(LARGE), "JPEG"),
        pillow_file(Image.fromarray(LARGE), "JPEG", progressive=True),
        pillow_file(Image.fromarray(LARGE), "BMP"),
        gif_image(LARGE),
        animation("PNG"),
        animation("GIF", num_frames=8),
    ],
    ids=["png", "png interlaced", "jpeg", "jpeg progressive", "bmp", "gif", "apng", "animated gif"],
)
def test_cut_off_images_keep_what_decodes_and_tell(data: bytes) -> None:
    whole = frames_of(opened(data))
    source = opened(cut(data, 0.6))
    frames = frames_of(source)
    assert frames[0].shape[:2] == whole[0].shape[:2]
    error = np.abs(frames[0][..., :3].astype(int) - whole[0][..., :3])
    first_rows = error[-2:] if source.info.format == "bmp" else error[:2]
    assert first_rows.mean() < 20
    assert source.damage


@pytest.mark.parametrize(
    "data",
    [
        pillow_file(Image.fromarray(LARGE), "WEBP"),
        vips_image(LARGE, "srgb").heifsave_buffer(compression="av1"),
        vips_image(LARGE, "srgb").tiffsave_buffer(compression="deflate"),
    ],
    ids=["webp", "avif", "tiff with its directory at the end"],
)
def test_what_cannot_be_decoded_in_part_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError):
        frames_of(opened(cut(data, 0.6)))


@pytest.mark.parametrize(
    "data",
    [
        pillow_file(Image.fromarray(LARGE), "PNG"),
        vips_image(LARGE, "srgb").tiffsave_buffer(compression="deflate"),
        pillow_file(Image.fromarray(LARGE), "JPEG", restart_marker_blocks=4),
    ],
    ids=["png", "tiff", "jpeg with restarts"],
)
def test_flipped_bytes_are_told(data: bytes) -> None:
    middle = len(data) // 2
    source = opened(
        data[:middle] + bytes(byte ^ 0x55 for byte in data[middle : middle + 40]) + data[middle + 40 :]
    )
    frames = frames_of(source)
    assert frames[0].shape == LARGE.shape
    assert source.damage


def test_harmless_oddities_of_jpegs_are_no_damage() -> None:
    data = pillow_file(Image.fromarray(RGB), "JPEG")
    scan = data.index(b"\xff\xda")
    odd = data[:scan] + b"xyz" + data[scan:] + b"after the end"
    source = opened(odd)
    np.testing.assert_array_equal(frames_of(source)[0], frames_of(opened(data))[0])
    assert source.damage == ""


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_garbage_after_the_first_bytes_is_a_media_error(kind: str) -> None:
    data = pillow_file(Image.fromarray(RGB), kind)
    noise = np.random.default_rng(7).integers(0, 256, 400, np.uint8).tobytes()
    for keep in (8, 12, 20):
        with pytest.raises(MediaError):
            frames_of(opened(data[:keep] + noise))


def test_the_content_decides_the_format_and_not_the_name() -> None:
    assert read_info(io.BytesIO(pillow_file(Image.fromarray(RGB), "PNG")), "photo.jpg").format == "png"


def test_a_tiny_file_that_claims_a_huge_picture_is_refused_without_decoding() -> None:
    info = opened(png_of((60_000, 60_000, 8, 2))).info
    assert info.num_pixels > MAX_SOURCE_PX
    with pytest.raises(MediaError, match="too large"):
        planned(info)


def test_a_gif_of_a_million_frames_is_refused() -> None:
    head = b"GIF89a" + struct.pack("<2H3B", 1, 1, 0x80, 0, 0) + bytes(6)
    frame = b"\x21\xf9\x04\0\0\0\0\0" + b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    with pytest.raises(MediaError, match="too large"):
        planned(opened(head + frame * 1_000_000 + b";").info)


def test_an_animation_in_avif_is_refused_by_name() -> None:
    frames = [Image.fromarray(waves(3) // (1 + index)) for index in range(2)]
    with pytest.raises(MediaError, match="animated AVIF"):
        opened(pillow_file(frames[0], "AVIF", save_all=True, append_images=frames[1:]))


def test_loaders_of_dangerous_formats_are_off() -> None:
    code = (
        "import cluster.images.vips, pyvips\n"
        "try:\n    pyvips.Image.svgload_buffer(b'<svg xmlns=\"http://www.w3.org/2000/svg\"/>')\n"
        "except pyvips.Error as error:\n    print('blocked' in str(error))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"


def test_colours_that_a_png_names_are_found() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in RGB)
    info = opened(png_of((23, 17, 8, 2), rows, chunk(b"gAMA", struct.pack(">I", 100_000)))).info
    assert info.color_chunks == ("gAMA",)
    info = opened(png_of((23, 17, 8, 2), rows, chunk(b"cICP", bytes((9, 16, 0, 1))))).info
    assert info.color_codes == (9, 16)


def test_a_lossy_webp_is_not_taken_for_lossless() -> None:
    assert not webp.is_lossless(pillow_file(Image.fromarray(RGB), "WEBP"))
    assert not webp.is_lossless(animation("WEBP", quality=80))


def test_an_animation_that_breaks_off_shows_its_last_frame() -> None:
    data = bytearray(animation("WEBP", lossless=True))
    last = data.rindex(b"VP8L")
    data[last + 16 : last + 40] = b"\xff" * 24
    source = opened(bytes(data))
    frames = frames_of(source)
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[3], frames[2])
    assert source.damage


def test_errors_that_quote_damaged_bytes_do_not_outlive_their_image() -> None:
    data = bytearray(vips_image(RGB, "srgb").heifsave_buffer(compression="av1", effort=0))
    pixi = data.index(b"pixi")
    data[pixi : pixi + 4] = b"\xff\xfe\xff\xfe"
    data[data.index(b"ispe") : data.index(b"ispe") + 4] = b"\xff\xfd\xff\xfd"
    with pytest.raises(MediaError):
        frames_of(opened(bytes(data)))
    whole = vips_image(RGB, "srgb").heifsave_buffer(compression="av1", effort=0)
    assert frames_of(opened(whole))[0].shape == RGB.shape


def test_random_damage_is_a_media_error_or_an_image() -> None:
    rng = np.random.default_rng(11)
    files = [
        pillow_file(Image.fromarray(RGB), kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF")
    ]
    for data in (*files, animation("GIF"), animation("PNG"), animation("WEBP")):
        for _ in range(40):
            damaged = bytearray(data)
            for place in rng.integers(2, min(len(data), 250), 4):
                damaged[place] = rng.choice([0, 255, rng.integers(256)])
            try:
                source = opened(bytes(damaged))
                planned(source.info)
                frames_of(source)
            except (MediaError, SpecError):
                continue


def test_pages_that_cannot_be_found_are_told() -> None:
    data = pillow_file(Image.fromarray(RGB), "TIFF", save_all=True, append_images=[Image.fromarray(RGB)])
    source = opened(data[: len(data) // 2 + 20])
    assert len(frames_of(source)) == 1
    assert "after number 1" in source.damage


def test_whole_gifs_of_other_programs_are_no_damage() -> None:
    palettes = animation("GIF", num_frames=3, optimize=False)
    for data in (palettes, gif_image(LARGE), vips_image(LARGE, "srgb").gifsave_buffer(interlace=True)):
        source = opened(data)
        frames_of(source)
        assert source.damage == ""


def aliasing(num_tags: int, num_bytes: int, order: str = "<") -> bytes:
    """A TIFF structure whose tags all refer to nearly the same, nearly all of its bytes."""
    start = 8 + 2 + 12 * num_tags + 4
    entries = b"".join(
        struct.pack(f"{order}HHII", 40_000 + n, 7, num_bytes - n, start + n) for n in range(num_tags)
    )
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, num_tags)
    return head + entries + bytes(4 + num_bytes)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_that_share_their_bytes_do_not_multiply_them(order: str) -> None:
    blob = aliasing(500, 1 << 18, order)
    tracemalloc.start()
    tags = ifd.read_exif(blob)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tags
    assert peak_bytes < 8 * len(blob)


def test_reading_pages_takes_time_in_proportion_to_their_number() -> None:
    pages = [Image.fromarray(np.full((2, 3), n % 251, np.uint8)) for n in range(2000)]
    data = pillow_file(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    start_s = time.process_time()
    source = opened(data)
    assert [frame[0, 0, 0] for frame in frames_of(source)] == [n % 251 for n in range(2000)]
    assert source.info.num_frames == 2000
    assert time.process_time() - start_s < 10


def test_pages_are_read_in_any_order_of_their_directories() -> None:
    pages = [Image.fromarray(waves(3) // (1 + n)) for n in range(3)]
    whole = pillow_file(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    data, (first, second, third) = bytearray(whole), ifd.read_tiff(whole, "pages").places
    for place, target in ((4, third[0]), (third[1], second[0]), (second[1], first[0]), (first[1], 0)):
        data[place : place + 4] = struct.pack("<I", target)
    for forwards, backwards in zip(
        frames_of(opened(whole)), frames_of(opened(bytes(data)))[::-1], strict=True
    ):
        np.testing.assert_array_equal(forwards, backwards)


def test_one_damaged_file_is_not_blamed_for_what_another_lacks() -> None:
    jpeg, png = io.BytesIO(), io.BytesIO()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    picture.save(jpeg, "jpeg")
    picture.save(png, "png")
    said = []
    for file in (jpeg, png):
        content = file.getvalue()
        source = open_image(io.BytesIO(content[: len(content) * 6 // 10]), "cut")
        list(source.frames())
        said.append(source.damage)
    assert "JPEG" in said[0]
    assert said[1]
    assert "JPEG" not in said[1]
