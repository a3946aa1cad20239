"""An image that is open for reading: what every format is brought to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.images import ifd
from cluster.images.info import ImageInfo
from cluster.images.vips import Planes


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels.

    Attributes:
        icc: ICC profile; empty where there is none, as are the others.
        exif: EXIF block, beginning as a TIFF does.
        xmp: XMP packet.
        iptc: Photoshop's resources as JPEG holds them, or a TIFF's IPTC record.
        per_mm: Pixels per millimetre, horizontally and vertically; None where not stated.
        comments: A JPEG's comments.
        png_chunks: A PNG's colours and texts.
        tiff_tags: Those of each page that describe it.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    per_mm: tuple[float, float] | None = None
    comments: tuple[bytes, ...] = ()
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    tiff_tags: tuple[ifd.Ifd, ...] = ()


class SourceImage:
    """An image that is open for reading.

    Attributes:
        info: What it is.
        metadata: What it says beside its pixels.
        damage: In words, why pixels are missing; empty where none are. Complete when all frames were read.
    """

    def __init__(
        self,
        info: ImageInfo,
        metadata: Metadata,
        decode: Callable[[SourceImage], Iterator[Planes]],
        damage: str = "",
    ) -> None:
        self.info = info
        self.metadata = metadata
        self.damage = damage
        self._decode = decode

    def frames(self) -> Iterator[Planes]:
        """The frames or pages, one at a time.

        Yields:
            Y, or R, G, B, or C, M, Y, K, and alpha after them where there is any: (H, W) each, uint8 or,
            above 8 bit, uint16 with the code in the low bits. 255 is full ink in CMYK.

        Raises:
            MediaError: Nothing of a frame decodes.
        """
        yield from self._decode(self)
