"""What a file is by its first bytes, never by its name. Pure."""

from __future__ import annotations

from cluster.images.info import ImageFormat
from sr_core.errors import MediaError

NUM_BYTES = 4096

_MAGIC: tuple[tuple[bytes, ImageFormat], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"BM", "bmp"),
)
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_OTHERS = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance image"),
    (b"DDS ", "a DirectDraw texture"),
    (b"qoif", "a QOI image"),
    (b"\x00\x00\x01\x00", "a Windows icon"),
    (b"\x8aMNG", "an MNG animation"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"OggS", "an Ogg file"),
    (b"FLV\x01", "a Flash video"),
    (b"\x00\x00\x01\xba", "an MPEG video"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
)


def format_of_content(head: bytes, name: str) -> ImageFormat:
    """The format of the file that begins with `head`, of which `NUM_BYTES` are enough.

    Raises:
        MediaError: It is none that is read.
    """
    for magic, format_ in _MAGIC:
        if head.startswith(magic) and not (format_ == "bmp" and not _is_bmp(head)):
            return format_
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and any(brand in _brands(head) for brand in _AVIF_BRANDS):
        return "avif"
    raise MediaError(
        "the file is empty" if not head else "the content is not that of an image that Framelift reads",
        where=name,
        got=_described(head),
        expected="PNG, JPEG, WebP, AVIF, TIFF, BMP or GIF",
    )


def _is_bmp(head: bytes) -> bool:
    """Whether `BM` begins a bitmap: the size of its second header is one of those that exist."""
    return int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)


def _brands(head: bytes) -> tuple[bytes, ...]:
    box = head[: int.from_bytes(head[:4], "big")]
    return (box[8:12], *(box[start : start + 4] for start in range(16, len(box), 4)))


def _described(head: bytes) -> str:
    if not head:
        return "0 bytes"
    if head[4:8] == b"ftyp":
        is_heic = any(brand in _brands(head) for brand in _HEIC_BRANDS)
        return "a HEIC or HEIF image" if is_heic else "an MP4 or MOV video"
    if head[:4] == b"RIFF":
        return "an AVI video" if head[8:12] == b"AVI " else "a RIFF file"
    for magic, what in _OTHERS:
        if head.startswith(magic):
            return what
    if b"<svg" in head[:1024]:
        return "an SVG drawing"
    if not any(head):
        return f"{len(head)} zero bytes at its beginning" if len(head) > 1 else "one zero byte"
    return f"a file that begins with {_beginning(head)}"


def _beginning(head: bytes) -> str:
    text = head[:24]
    if all(32 <= byte < 127 or byte in b"\r\n\t" for byte in text):
        return "'" + text.decode("ascii").replace("\n", " ").replace("\r", " ").replace("\t", " ") + "'"
    return f"the bytes {text[:12].hex(' ')}"
