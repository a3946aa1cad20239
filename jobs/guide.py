"""`framelift guide`: a depth map upscaled with the image of the same view."""

from __future__ import annotations

from pathlib import Path

import torch

from cluster.weights import opened_weights
from jobs.device import device_here
from jobs.outputs import refuse_existing
from jobs.pictures import read_picture, write_png
from sr_core.errors import SpecError
from sr_core.family import load_network
from sr_core.guided import GUIDED, guided_filter, guided_scale

_PEAK = 65_535


def guide(
    depth: Path,
    image: Path,
    out: Path,
    weights: str | None = None,
    scale: int | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Upscales the depth map to the image's size, writes it as a 16-bit grey PNG and says so.

    Depth keeps its part of the full range: what is 255 in 8 bits is 65535 in 16. Zero is a depth as any.

    Args:
        depth: The depth map, grey.
        image: The guide, a whole multiple of its size.
        out: Where the result goes.
        weights: Path or S3 URL of a guided network's weights; the guided filter does it where it is None.
        scale: That the sizes must have; None takes what they have.
        overwrite: Whether a file that stands there is replaced.

    Raises:
        SpecError: Sizes or colours do not fit, or a file stands there already.
        MediaError: A picture cannot be read.
        ModelError: The weights are of no guided network.
        StorageError: It cannot be written there.
    """
    if out.suffix.lower() != ".png":
        raise SpecError("depth is written as PNG", where=str(out), expected="a name that ends in .png")
    refuse_existing([out], overwrite=overwrite)
    depth_map = read_picture(depth, "grey", "leave out")
    guide_image = read_picture(image, "rgb", "leave out").expand(-1, 3, -1, -1)
    found = guided_scale(depth_map, guide_image)
    if scale is not None and scale != found:
        raise SpecError(
            "the guide is not so many times larger than the depth map",
            where="--scale",
            got=str(scale),
            expected=f"{found}, as their sizes say, or nothing",
        )
    device = device_here()
    depth_map, guide_image = depth_map.to(device), guide_image.to(device)
    with torch.inference_mode():
        if weights is None:
            made = guided_filter(depth_map, guide_image)
        else:
            with opened_weights(weights) as path:
                network = load_network(Path(path), (GUIDED,)).to(device)
            made = network(depth_map, guide_image)
    # By way of int32: not every operation takes uint16.
    codes = (made[0, 0].clamp(0, 1) * _PEAK).round().to(torch.int32).to(torch.uint16)
    write_png(out, (codes,))
    how = "the guided filter" if weights is None else weights
    print(f"{out}: {codes.shape[1]}x{codes.shape[0]}, x{found} by {how}")
    return 0
