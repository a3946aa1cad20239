from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from jobs.guide import guide
from sr_core.errors import MediaError, ModelError, SpecError
from sr_core.guided import GUIDED, GuidedConfig, bicubic_depth, guided_filter
from tests.jobs.test_cli import run
from tests.sr_core.scenes import near_edges, scenes

SCALE = 4
HALF_CODE = 0.51 / 65_535


@pytest.fixture
def scene() -> tuple[Tensor, Tensor]:
    """Depth and image, (1, _, 96, 64)."""
    depth, image = scenes(1, 96, seed=3)
    return depth[..., :64], image[..., :64]


@pytest.fixture
def paths(scene: tuple[Tensor, Tensor], tmp_path: Path) -> tuple[Path, Path, Path]:
    """A depth map of 16 bits, its guide of 8, and where the result goes."""
    depth, image = scene
    codes = (F.avg_pool2d(depth, SCALE)[0, 0] * 65_535).round().numpy().astype(np.uint16)
    Image.fromarray(codes).save(tmp_path / "depth.png")
    Image.fromarray((image[0] * 255).round().byte().movedim(0, -1).numpy()).save(tmp_path / "guide.png")
    return tmp_path / "depth.png", tmp_path / "guide.png", tmp_path / "new" / "out.png"


def codes(path: Path) -> npt.NDArray[np.uint16]:
    image = Image.open(path)
    assert image.mode == "I;16"
    return np.asarray(image)


def units(path: Path) -> Tensor:
    return torch.from_numpy(codes(path).astype(np.float32))[None, None] / 65_535


def test_the_filters_result_is_written_in_16_bits_and_beats_bicubic_at_edges(
    paths: tuple[Path, Path, Path], scene: tuple[Tensor, Tensor]
) -> None:
    depth, image = scene

    assert guide(*paths) == 0

    made, small = units(paths[2]), units(paths[0])
    in_guide = (image * 255).round() / 255
    expected = guided_filter(small, in_guide).clamp(0, 1)
    torch.testing.assert_close(made, expected, rtol=0, atol=HALF_CODE + 1e-6)
    edges = near_edges(depth)
    errors = [(each - depth)[edges].square().mean().sqrt() for each in (made, bicubic_depth(small, SCALE))]
    assert errors[0] < errors[1] / 2


def test_eight_bits_keep_their_part_of_the_range(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "depth.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "guide.png")

    guide(tmp_path / "depth.png", tmp_path / "guide.png", tmp_path / "out.png")

    assert codes(tmp_path / "out.png").shape == (16, 16)
    assert np.array_equal(codes(tmp_path / "out.png"), np.full((16, 16), 65_535))


def test_weights_of_a_guided_network_do_it_in_place_of_the_filter(
    paths: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    network = GUIDED.build(GuidedConfig(SCALE, 4))  # untrained, it is bicubic interpolation
    save_file(network.state_dict(), tmp_path / "guided.safetensors")

    guide(*paths, str(tmp_path / "guided.safetensors"))

    expected = bicubic_depth(units(paths[0]), SCALE).clamp(0, 1)
    torch.testing.assert_close(units(paths[2]), expected, rtol=0, atol=HALF_CODE + 1e-6)


def test_weights_of_something_else_are_refused(paths: tuple[Path, Path, Path], tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")

    with pytest.raises(ModelError, match="expected guided"):
        guide(*paths, str(tmp_path / "other.safetensors"))
    assert not paths[2].exists()


def test_sizes_that_do_not_fit_are_told(paths: tuple[Path, Path, Path], tmp_path: Path) -> None:
    Image.new("RGB", (65, 96)).save(tmp_path / "odd.png")

    with pytest.raises(SpecError, match="depth 16x24, guide 65x96"):
        guide(paths[0], tmp_path / "odd.png", paths[2])


def test_a_scale_that_contradicts_the_sizes_is_refused(paths: tuple[Path, Path, Path]) -> None:
    with pytest.raises(SpecError, match="got 2; expected 4, as their sizes say"):
        guide(*paths, scale=2)
    assert guide(*paths, scale=4) == 0


def test_a_colour_image_is_no_depth_map(paths: tuple[Path, Path, Path]) -> None:
    with pytest.raises(SpecError, match=r"guide\.png.*got rgb 8 bit; expected one grey picture"):
        guide(paths[1], paths[1], paths[2])


def test_a_picture_that_viewers_turn_is_refused(paths: tuple[Path, Path, Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(paths[1]).save(tmp_path / "turned.png", exif=exif)

    with pytest.raises(SpecError, match="turned by EXIF"):
        guide(paths[0], tmp_path / "turned.png", paths[2])


def test_a_damaged_picture_is_refused(paths: tuple[Path, Path, Path]) -> None:
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])

    with pytest.raises(MediaError):
        guide(*paths)


def test_nothing_is_replaced(paths: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="something stands there already"):
        guide(paths[0], paths[1], paths[1])


def test_what_stands_there_is_replaced_when_that_is_asked_for(paths: tuple[Path, Path, Path]) -> None:
    paths[2].parent.mkdir()
    paths[2].write_bytes(b"mine")

    assert run("guide", *map(str, paths)) == 2
    assert run("guide", *map(str, paths), "--overwrite") == 0

    assert codes(paths[2]).shape == (96, 64)
    assert [each.name for each in paths[2].parent.iterdir()] == ["out.png"]


def test_the_command_says_what_it_made_and_ends_with_2_where_a_picture_is_missing(
    paths: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("guide", *map(str, paths)) == 0
    assert run("guide", "none.png", str(paths[1]), "out.png") == 2

    told = capsys.readouterr()
    assert "64x96, x4 by the guided filter" in told.out
    assert "there is no such picture" in told.err
