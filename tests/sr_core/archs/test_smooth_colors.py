"""Whether smooth colours keep their place in every precision that the facts promise."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sr_core.metrics.psnr import without_border
from sr_core.model import load_model

# By how much half precision may shift a colour, in codes of 10 bits. In SPAN, more than the skip carries the
# picture; in ESPCN and FSRCNN, all layers do.
SHIFTS = [
    ("IMDN_x2.pth", 2, 0.3),
    ("RLFN_NTIRE_x4.pth", 4, 0.3),
    ("RFDN_x4_baseline.pth", 4, 0.3),
    ("SPAN_x4_ch28.pth", 4, 1.0),
    ("CARN-M_x234.pth", 2, 1.0),
    ("ESPCN_x2.pt", 2, 1.0),
    ("FSRCNN_x2.pt", 2, 1.0),
]


@pytest.mark.parametrize(("name", "scale", "most_codes"), SHIFTS)
def test_smooth_colours_keep_their_place_in_half_precision(
    name: str, scale: int, most_codes: float, published: Callable[[str], Path]
) -> None:
    torch.manual_seed(0)
    flat = torch.rand(6, 3, 1, 1).expand(-1, -1, 48, 48)
    path = str(published(name))
    with torch.inference_mode():
        single = load_model(path, scale).network(flat)
        # Edges are no smooth colour.
        border = single.shape[-1] // 2 - 4
        for dtype in set(load_model(path, scale).facts.dtypes) - {torch.float32}:
            network = load_model(path, scale).network
            network.set_body_dtype(dtype)
            shift = without_border(network(flat) - single, border).mean((2, 3))
            assert float(shift.abs().max()) * 1023 < most_codes, dtype
