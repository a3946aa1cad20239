"""Images with their depth maps, to train on.

Depth maps lie in folders of their own, as data sets and cameras give them: one for each source of images,
where each has the place and name of its image, whatever either's suffix is. An image with its depth is kept
as a picture of five channels: R', G', B', and both bytes of 16-bit depth, the upper one first. So crops cut
them in one go, and depth loses nothing; no pixel of it may be computed before it is put together again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from cluster.images.info import is_image
from cluster.images.read import open_image
from cluster.images.source import SourceImage
from cluster.places import place_of
from cluster.storage import open_storage
from cluster.training.data import (
    Budget,
    DataSettings,
    Found,
    LeftOut,
    SourceFile,
    TrainingData,
    files_of,
    image_found,
    read_files,
)
from sr_core.errors import SpecError
from sr_core.train.crops import unit_frames

_PEAK = 65_535
_BYTE = 256
_DEPTH_CHANNELS = 2


def guides_and_depth(codes: Tensor, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) and depth (B, 1, H, W), float32 0..1 on `device`, from (B, 5, H, W) uint8 codes."""
    codes = codes.to(device)
    upper, lower = codes[:, 3:4].float(), codes[:, 4:5].float()
    return unit_frames(codes[:, :3], device), (upper * _BYTE + lower) / _PEAK


def read_depth_pairs(settings: DataSettings, depth_sources: Sequence[str]) -> TrainingData:
    """Reads all images that have a depth map of their size, as pictures of five channels.

    Depth maps are grey images of 8 or 16 bits; 255 in 8 bits is 65535 in 16. What has no partner, or one of
    another size, is left out, and told, as is what `read_pictures` leaves out.

    Args:
        settings: What images are read.
        depth_sources: Folders of depth maps, in the order of the sources of images.

    Raises:
        SpecError: There are fewer or more of them, or see `read_pictures`.
        StorageError: A store fails.
    """
    if len(depth_sources) != len(settings.sources):
        raise SpecError(
            "each source of images needs a folder of depth maps",
            where="depth",
            got=f"{len(depth_sources)} for {len(settings.sources)} sources",
            expected="as many, in the same order",
        )
    maps: dict[tuple[str, str], SourceFile] = {}
    without_image: list[LeftOut] = []
    for source, depth_source in zip(settings.sources, depth_sources, strict=True):
        pairs, alone = _paired(source, depth_source)
        maps = pairs | maps
        without_image += alone

    def read(file: SourceFile, content: BinaryIO, budget: Budget) -> Found:
        depth_map = maps.get((file.store_url, file.info.key))
        if depth_map is None:
            return Found(file, left_out=("there is no depth map of its name",))
        return _pair(file, open_image(content, file.name), depth_map, settings, budget)

    data = read_files(settings, read)
    return TrainingData(data.pictures, (*data.left_out, *without_image))


def _paired(source: str, depth_source: str) -> tuple[dict[tuple[str, str], SourceFile], list[LeftOut]]:
    """Depth maps by where their images lie, and those that have none."""
    if not place_of(depth_source).is_folder:
        raise SpecError(
            "depth maps are found by the names of their images, in a folder of them",
            where=depth_source,
            got="no such folder",
            next_step="put depth maps into a folder, each under the name of its image",
        )
    by_name = _by_name([each for each in files_of(depth_source) if is_image(each.info.key)])
    images = {(each.store_url, each.info.key): _stem(each) for each in files_of(source)}
    pairs = {at: by_name[stem] for at, stem in images.items() if stem in by_name and is_image(at[1])}
    names = set(images.values())
    alone = [
        LeftOut(each.name, "there is no image of its name") for s, each in by_name.items() if s not in names
    ]
    return pairs, alone


def _by_name(files: Sequence[SourceFile]) -> Mapping[str, SourceFile]:
    """Depth maps by their names without suffixes.

    Raises:
        SpecError: Two have the same.
    """
    counts = Counter(map(_stem, files))
    twice = [each.name for each in files if counts[_stem(each)] > 1]
    if twice:
        raise SpecError(
            "depth maps differ in nothing but their suffixes",
            where=twice[0],
            got=", ".join(twice[:4]),
            expected="one depth map for each image",
            next_step="leave all but one in the folder",
        )
    return {_stem(each): each for each in files}


def _stem(file: SourceFile) -> str:
    return str(PurePosixPath(file.info.key).with_suffix(""))


def _pair(
    file: SourceFile, image: SourceImage, depth_map: SourceFile, settings: DataSettings, budget: Budget
) -> Found:
    with open_storage(depth_map.store_url).open(depth_map.info.key, depth_map.info.version) as content:
        depth = open_image(content, depth_map.name)
        reason = _misfit(image, depth)
        if reason:
            return Found(file, left_out=(reason,))
        found = image_found(file, image, settings, budget)
        num_pixels = image.info.width * image.info.height
        if not found.pictures or not budget.holds(_DEPTH_CHANNELS * num_pixels):
            return Found(file, left_out=found.left_out)
        planes = _depth_planes(depth)
    if depth.damage:
        return Found(file, left_out=(f"its depth map is damaged: {depth.damage}",))
    return Found(file, (torch.cat([found.pictures[0], planes]),))


def _misfit(image: SourceImage, depth: SourceImage) -> str:
    """Why an image and a depth map are no pair; empty where they are one."""
    if depth.info.layout != "grey" or depth.info.has_alpha:
        return f"its depth map is not grey alone, but {depth.info.samples}"
    if image.info.orientation != 1 or depth.info.orientation != 1:
        return "EXIF turns it or its depth map: whether pixels fit as stored or as shown is not known"
    sizes = [f"{each.info.width}x{each.info.height}" for each in (image, depth)]
    return "" if sizes[0] == sizes[1] else f"its depth map is {sizes[1]}, and it is {sizes[0]}"


def _depth_planes(depth: SourceImage) -> Tensor:
    """(2, H, W) uint8: the upper and lower bytes of 16-bit depth."""
    peak = (1 << depth.info.bit_depth) - 1
    codes = np.asarray(next(iter(depth.frames()))[0]).astype(np.uint64)
    codes = (codes * _PEAK + peak // 2) // peak
    return torch.from_numpy(np.stack([codes // _BYTE, codes % _BYTE]).astype(np.uint8))
