from __future__ import annotations

import subprocess
import sys

import pytest

from cluster.images.info import IMAGE_SUFFIXES, image_output_name, is_image
from cluster.images.sniff import format_of_content
from sr_core.errors import MediaError, SpecError


@pytest.mark.parametrize("name", ["a/photo.JPG", "b.jpeg", "c.apng", "d.TIFF"])
def test_a_kept_format_keeps_the_very_name(name: str) -> None:
    assert image_output_name(name, "auto") == name


@pytest.mark.parametrize(
    ("name", "format_", "expected"),
    [
        ("a/photo.JPG", "png", "a/photo.png"),
        ("photo.JPG", "jpeg", "photo.JPG"),
        ("p.tif", "tiff", "p.tif"),
        ("p.v2.png", "avif", "p.v2.avif"),
    ],
)
def test_another_format_gets_its_usual_suffix(name: str, format_: str, expected: str) -> None:
    assert image_output_name(name, format_) == expected  # type: ignore[arg-type]


def test_names_of_no_image_are_refused() -> None:
    assert not is_image("film.mkv")
    assert all(is_image("a" + suffix.upper()) for suffix in IMAGE_SUFFIXES)
    with pytest.raises(SpecError, match=r"\.avif"):
        image_output_name("drawing.svg", "auto")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"this is no picture at all", "a file that begins with 'this is"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"%PDF-1.7 ", "a PDF document"),
        (b"\x00\x00\x00\x18ftypheic\0\0\0\0mif1heic", "a HEIC or HEIF image"),
        (b"\x00\x00\x00\x18ftypisom\0\0\x02\0isomiso2", "an MP4 or MOV video"),
        (b"\xff\x0a\x00\x10", "a JPEG XL image"),
        (b"\x1aE\xdf\xa3\x01", "a Matroska or WebM video"),
        (bytes(100), "zero bytes"),
        (b"\x01\x02\xfe\xff" * 8, "01 02 fe ff"),
        (b"BMxxxxyyyyzzzzwwwwqqqq", "'BMxxxx"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, words: str) -> None:
    with pytest.raises(MediaError) as caught:
        format_of_content(content, "holiday.jpg")
    assert words in str(caught.value)
    assert "holiday.jpg" in str(caught.value)


def test_planning_images_loads_no_heavy_library() -> None:
    code = "import sys, cluster.images.plan; print({'pyvips', 'torch', 'PIL'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"
