"""Images with their depth maps, and what guided networks learn of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cluster.training import PixelStage, TrainJob
from cluster.training.data import DataSettings, TrainingData
from cluster.training.depth_maps import guides_and_depth, read_depth_pairs
from cluster.training.job import TeacherWeights
from cluster.training.run import refuse_misfits
from cluster.training.tasks.depth import Depth, DepthSettings
from sr_core.errors import SpecError
from sr_core.guided import GuidedConfig, bicubic_depth, guided_filter
from sr_core.shrink import shrink
from sr_core.train.adversarial_stage import AdversarialStage
from sr_core.train.group import Group
from sr_core.train.step import Batch
from sr_core.train.trainer import Stage
from tests.cluster.training.test_data import picture, scene
from tests.sr_core.scenes import scenes

SIZE = (60, 80)
STAGE = PixelStage(Stage(64, 8))


def depth_codes(seed: int, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """Smooth 16-bit depth whose lower bytes matter."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.sin(rows / (9 + seed)) + np.cos(columns / (7 + seed))
    return ((waves + 2) / 4 * 60_000 + 17 * seed).astype(np.uint16)


def write_pair(folder: Path, name: str, seed: int) -> None:
    for kind in ("images", "depth"):
        (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
    picture(scene(seed)).save(folder / "images" / f"{name}.png")
    Image.fromarray(depth_codes(seed)).save(folder / "depth" / f"{name}.png")


def read(folder: Path) -> TrainingData:
    return read_depth_pairs(DataSettings((str(folder / "images"),), 16), (str(folder / "depth"),))


def reasons(data: TrainingData) -> dict[str, str]:
    return {Path(each.name).name: each.reason for each in data.left_out}


def test_an_image_and_its_depth_come_back_in_all_their_bits(tmp_path: Path) -> None:
    write_pair(tmp_path, "b", 2)
    write_pair(tmp_path, "room/a", 1)

    data = read(tmp_path)

    assert [Path(name).name for name in data.pictures.names] == ["b.png", "a.png"]
    for found, seed in zip(data.pictures, (2, 1), strict=True):
        guide, depth = guides_and_depth(found[None], "cpu")
        assert torch.equal((guide[0] * 255).round().byte(), scene(seed))
        codes = (depth[0, 0].double() * 65_535).round().numpy()
        assert np.array_equal(codes, depth_codes(seed))
    assert data.left_out == ()


def test_8_bits_are_the_same_part_of_the_full_range(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    codes = (depth_codes(1) >> 8).astype(np.uint8)
    Image.fromarray(codes).save(tmp_path / "depth" / "a.png")

    _, depth = guides_and_depth(read(tmp_path).pictures[0][None], "cpu")

    torch.testing.assert_close(depth[0, 0], torch.from_numpy(codes) / 255)


def test_names_are_compared_without_their_suffixes(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    picture(scene(1)).save(tmp_path / "images" / "a.bmp")
    (tmp_path / "images" / "a.png").unlink()

    assert len(read(tmp_path).pictures) == 1


def test_what_is_no_pair_is_left_out_with_its_reason(tmp_path: Path) -> None:
    for name in ("good", "alone", "small", "colours", "torn", "turned"):
        write_pair(tmp_path, name, 1)
    (tmp_path / "depth" / "alone.png").rename(tmp_path / "depth" / "other.png")
    Image.fromarray(depth_codes(1, 30, 40)).save(tmp_path / "depth" / "small.png")
    picture(scene(1)).save(tmp_path / "depth" / "colours.png")
    torn = (tmp_path / "depth" / "torn.png").read_bytes()
    (tmp_path / "depth" / "torn.png").write_bytes(torn[: len(torn) // 2])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(scene(1)).save(tmp_path / "images" / "turned.png", exif=exif)
    write_film_of_one_picture(tmp_path / "images" / "film.mp4")

    data = read(tmp_path)

    assert [Path(name).name for name in data.pictures.names] == ["good.png"]
    told = reasons(data)
    assert set(told) == {
        "alone.png",
        "small.png",
        "colours.png",
        "torn.png",
        "turned.png",
        "film.mp4",
        "other.png",
    }
    assert told["alone.png"] == "there is no depth map of its name"
    assert told["other.png"] == "there is no image of its name"
    assert "its depth map is 40x30, and it is 80x60" in told["small.png"]
    assert "not grey" in told["colours.png"]
    assert "depth map is damaged" in told["torn.png"]
    assert "EXIF" in told["turned.png"]


def write_film_of_one_picture(path: Path) -> None:
    path.write_bytes(b"not looked into")


def test_two_depth_maps_of_one_name_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    Image.fromarray(depth_codes(2)).save(tmp_path / "depth" / "a.tif")

    with pytest.raises(SpecError, match="nothing but their suffixes"):
        read(tmp_path)


def test_each_source_needs_its_own_folder_of_depth_maps(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    images, depth = str(tmp_path / "images"), str(tmp_path / "depth")

    with pytest.raises(SpecError, match="1 for 2 sources"):
        read_depth_pairs(DataSettings((images, depth), 16), (depth,))
    with pytest.raises(SpecError, match="in a folder of them"):
        read_depth_pairs(DataSettings((images,), 16), (str(tmp_path / "nothing"),))


def job(folder: Path, scale: int = 2) -> TrainJob:
    return TrainJob(
        str(folder / "out"),
        DepthSettings(GuidedConfig(scale, 8, 1, 1), (str(folder / "depth"),), lr_crop_px=12),
        DataSettings((str(folder / "images"),), 12 * scale),
        (STAGE,),
        seed=3,
    )


def opened(asked: TrainJob, group: Group | None = None) -> Depth:
    assert isinstance(asked.task, DepthSettings)
    pictures = asked.task.read(asked.data).pictures
    return asked.task.open(asked, group or Group(), pictures, pictures)


def batch(asked: TrainJob, group: Group | None = None) -> Batch:
    batches = opened(asked, group).make_batches(0, 0)
    made = next(batches)
    batches.close()
    assert isinstance(made, Batch)
    return made


def test_lr_depth_is_the_truth_shrunk_without_aliases_and_the_guide_is_of_the_same_place(
    tmp_path: Path,
) -> None:
    write_pair(tmp_path, "a", 1)
    _, depth = guides_and_depth(read(tmp_path).pictures[0][None], "cpu")
    # A guide that shows how far things are tells whether crops and turns of both are the same.
    codes = (depth[0].expand(3, -1, -1) * 255).round().byte()
    picture(codes).save(tmp_path / "images" / "a.png")

    made = batch(job(tmp_path))

    lr_depth, guide = made.inputs
    assert (lr_depth.shape, guide.shape) == ((8, 1, 12, 12), (8, 3, 24, 24))
    torch.testing.assert_close(lr_depth, shrink(made.truth, 2).clamp(0, 1), atol=2e-5, rtol=0)
    torch.testing.assert_close(guide, made.truth.expand(-1, 3, -1, -1), atol=0.51 / 255, rtol=0)
    assert float((lr_depth * 255 - (lr_depth * 255).round()).abs().max()) > 0.1


def test_workers_share_a_batch(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    write_pair(tmp_path, "b", 2)
    whole, shares = batch(job(tmp_path)), [batch(job(tmp_path), Group(rank, 2)) for rank in range(2)]

    assert torch.equal(whole.truth, torch.cat([share.truth for share in shares]))
    for number in range(2):
        assert torch.equal(whole.inputs[number], torch.cat([share.inputs[number] for share in shares]))


def test_bicubic_and_the_guided_filter_are_what_a_network_is_compared_with(tmp_path: Path) -> None:
    depth, images = scenes(2, 96, seed=1)
    for name in ("images", "depth"):
        (tmp_path / name).mkdir()
    for number in range(2):
        picture((images[number] * 255).round().byte()).save(tmp_path / "images" / f"{number}.png")
        codes = (depth[number, 0] * 65_535).round().numpy().astype(np.uint16)
        Image.fromarray(codes).save(tmp_path / "depth" / f"{number}.png")
    task = opened(job(tmp_path, scale=4))

    class Bicubic(torch.nn.Module):
        def forward(self, depth: Tensor, guide: Tensor) -> Tensor:
            return bicubic_depth(depth, 4)

    class Filter(torch.nn.Module):
        def forward(self, depth: Tensor, guide: Tensor) -> Tensor:
            return guided_filter(depth, guide)

    bicubic, filtered = task.measure(Bicubic()), task.measure(Filter())
    untrained = task.measure(job(tmp_path, scale=4).task.build())

    assert filtered["psnr"] > bicubic["psnr"] + 3
    assert untrained == pytest.approx(bicubic, rel=1e-4)
    for figures in (bicubic, filtered):
        assert f"PSNR {figures['psnr']:.2f} dB, mean absolute error {figures['mae']:.5f}" in task.baseline()
    titles = [cell.title for cell in task.rows(Filter())[0]]
    assert titles == ["image", "bicubic", "guided filter", "SR", "HR"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": (AdversarialStage(Stage(64, 8)),)}, "does not train this network"),
        ({"stages": (replace(STAGE, teacher=TeacherWeights("w.safetensors")),)}, "have no teachers"),
        ({"output_url": "depth/out"}, "among the depth maps"),
    ],
)
def test_what_does_not_train_a_guided_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    write_pair(tmp_path, "a", 1)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SpecError, match=message):
        refuse_misfits(replace(job(Path()), **changes), Group())
