"""Reading pictures to train on, and setting some aside."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cluster.storage import open_storage
from cluster.storage.address import split_url
from cluster.training.data import DataSettings, TrainingData, read_pictures
from cluster.training.split import SplitSettings, split
from cluster.video.sample import write_sample
from sr_core.errors import SpecError
from sr_core.train.crops import Pictures
from tests.stores.s3_server import credentials, new_bucket, s3_server

SIZE = (60, 80)


def scene(seed: int, height: int = SIZE[0], width: int = SIZE[1]) -> Tensor:
    """Soft shapes, (3, H, W) uint8, unlike those of any other seed."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 7, generator=generator)
    fine = torch.rand(1, 3, height, width, generator=generator)
    soft = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return ((soft * 0.9 + fine * 0.1)[0].clamp(0, 1) * 255).round().byte()


def picture(codes: Tensor) -> Image.Image:
    return Image.fromarray(codes.permute(1, 2, 0).numpy())


def codes_of(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def read(*sources: Path | str, **settings: int) -> TrainingData:
    return read_pictures(DataSettings(tuple(map(str, sources)), **{"least_side_px": 16, **settings}))


def packed(*codes: Tensor) -> Pictures:
    return Pictures.packed(list(codes), [f"{n}" for n in range(len(codes))], range(len(codes)))


def test_lossless_images_come_as_their_codes_in_the_order_of_names(tmp_path: Path) -> None:
    for name, seed in (("b/two.png", 2), ("a.tif", 1), ("c.webp", 3), ("d.bmp", 4)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(scene(seed)).save(tmp_path / name, **({"lossless": True} if name == "c.webp" else {}))

    data = read(tmp_path)

    assert [Path(name).name for name in data.pictures.names] == ["a.tif", "two.png", "c.webp", "d.bmp"]
    assert all(torch.equal(got, scene(seed)) for got, seed in zip(data.pictures, (1, 2, 3, 4), strict=True))
    assert data.left_out == ()


def test_grey_becomes_rgb_and_16_bits_become_8(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")

    (found,) = read(tmp_path).pictures

    expected = torch.from_numpy(np.rint(ramp / 257).astype(np.uint8)).expand(3, -1, -1)
    assert torch.equal(found, expected)


def test_what_cannot_be_trained_on_is_left_out_with_its_reason(tmp_path: Path) -> None:
    picture(scene(1)).save(tmp_path / "good.png")
    picture(scene(2, 12, 80)).save(tmp_path / "small.png")
    picture(scene(3)).convert("CMYK").save(tmp_path / "inks.jpg")
    see_through = picture(scene(4)).convert("RGBA")
    see_through.putalpha(100)
    see_through.save(tmp_path / "glass.png")
    (tmp_path / "text.png").write_text("no picture at all")
    (tmp_path / "film.mp4").write_text("no film at all")
    (tmp_path / "empty.mp4").touch()
    file = io.BytesIO()
    picture(scene(5)).save(file, "JPEG")
    (tmp_path / "half.jpg").write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    (tmp_path / "notes.txt").write_text("ignored")

    data = read(tmp_path)

    assert [Path(name).name for name in data.pictures.names] == ["good.png"]
    reasons = {Path(each.name).name: each.reason for each in data.left_out}
    assert set(reasons) == {
        "small.png",
        "inks.jpg",
        "glass.png",
        "text.png",
        "half.jpg",
        "film.mp4",
        "empty.mp4",
    }
    assert "80x12" in reasons["small.png"]
    assert "CMYK" in reasons["inks.jpg"]
    assert "transparent" in reasons["glass.png"]
    assert "damaged" in reasons["half.jpg"]
    assert "empty" in reasons["empty.mp4"]


def test_where_nothing_is_left_the_error_names_what_there_was(tmp_path: Path) -> None:
    picture(scene(2, 12, 80)).save(tmp_path / "small.png")

    with pytest.raises(SpecError, match=r"no picture.*small\.png.*80x12"):
        read(tmp_path)
    with pytest.raises(SpecError, match=r"neither an image nor a video"):
        read(tmp_path / "small.png" / "nothing")


def test_videos_give_every_so_many_frames_as_one_source(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.mp4")
    picture(scene(1)).save(tmp_path / "still.png")

    data = read(tmp_path, frame_stride=24)

    assert data.pictures.sizes == ((180, 320),) * 3 + (SIZE,)
    assert data.pictures.sources == (0, 0, 0, 1)
    assert len(set(data.pictures.digests)) == 4


@pytest.mark.parametrize("kind", ["images", "video"])
def test_more_than_memory_may_hold_is_refused_with_how_much_it_is(tmp_path: Path, kind: str) -> None:
    if kind == "video":
        write_sample(tmp_path / "sample.mp4")
        expected = 72 * 3 * 180 * 320
    else:
        for seed in range(60):
            picture(scene(seed, 200, 200)).save(tmp_path / f"{seed}.png")
        expected = 60 * 3 * 200 * 200

    with pytest.raises(SpecError, match=rf"got {expected / 2**20:,.0f} MiB.*2 MiB at most"):
        read(tmp_path, frame_stride=1, most_bytes=2 << 20)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with credentials(), s3_server() as endpoint_url:
        yield f"s3://{new_bucket(endpoint_url)}/pictures?endpoint_url={endpoint_url}"


def test_a_bucket_gives_what_a_folder_gives(bucket: str, tmp_path: Path) -> None:
    for seed in range(3):
        picture(scene(seed)).save(tmp_path / f"{seed}.png")
        store_url, key = split_url(bucket.replace("pictures", f"pictures/{seed}.png"))
        open_storage(store_url).put(key, (tmp_path / f"{seed}.png").read_bytes())

    assert read(bucket).pictures.digests == read(tmp_path).pictures.digests


def test_a_picture_stays_on_its_side_when_files_are_renamed_or_added() -> None:
    settings = SplitSettings(0.3)
    scenes = [scene(seed) for seed in range(30)]
    few, many = packed(*scenes[:20]), packed(*reversed(scenes))

    before = {few.digests[index] for index in split(few, settings).validation}
    after = {many.digests[index] for index in split(many, settings).validation}

    assert 1 < len(before) < 15
    assert before == after & set(few.digests)


def test_a_split_has_every_picture_once_and_about_its_share() -> None:
    data = packed(*(scene(seed, 24, 27) for seed in range(400)))

    made = split(data, SplitSettings(0.2))

    assert sorted((*made.training, *made.validation)) == list(range(400))
    assert len(made.validation) / 400 == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_no_side_is_ever_empty(share: float) -> None:
    data = packed(scene(1), scene(2))

    made = split(data, SplitSettings(share))

    assert (len(made.training), len(made.validation)) == (1, 1)


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": _jpeg,
    "smaller": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.LANCZOS),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda image: image.point([min(255, code * 11 // 10) for code in range(256)] * 3),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_near_duplicates_are_on_one_side(copy: Callable[[Image.Image], Image.Image]) -> None:
    originals = [scene(seed, 120, 160) for seed in range(40)]
    copies = [codes_of(copy(picture(each))) for each in originals]

    made = split(packed(*originals, *copies), SplitSettings(0.5))

    validation = set(made.validation)
    assert 5 < len(validation) < 75
    assert all((index in validation) == (index + 40 in validation) for index in range(40))


def test_different_pictures_and_flat_ones_are_no_near_duplicates() -> None:
    flat = [torch.full((3, 40, 40), code, dtype=torch.uint8) for code in (0, 1, 128)]

    made = split(packed(scene(1), *flat), SplitSettings(0.0001))

    assert len(made.training) == 3


def test_frames_of_one_video_are_on_one_side() -> None:
    codes = [scene(seed) for seed in range(20)]
    data = Pictures.packed(codes, [str(n) for n in range(20)], [n // 10 for n in range(20)])

    made = split(data, SplitSettings(0.5))

    assert made.validation in (tuple(range(10)), tuple(range(10, 20)))


def test_one_group_alone_has_no_two_sides() -> None:
    with pytest.raises(SpecError, match="2 pictures that are all near-duplicates"):
        split(packed(scene(1), scene(1).flip(2)), SplitSettings())


def test_known_twins_of_a_published_set_are_found(published_t91: Path) -> None:
    data = read(published_t91).pictures
    names = [Path(name).stem for name in data.names]
    by_share = [
        {names[index] for index in split(data, SplitSettings(share)).validation}
        for share in (0.2, 0.4, 0.6, 0.8)
    ]

    assert all(("t36" in names_) == ("t65" in names_) for names_ in by_share)


@pytest.fixture
def published_t91() -> Path:
    """91 pictures of Yang et al. 2010, two of which are one, beside the checkout."""
    path = Path(__file__).parents[4] / "shared" / "data" / "train_nc" / "T91"
    if not path.exists():
        pytest.skip("needs T91")
    return path


def write_film(path: Path, levels: Sequence[int]) -> None:
    """A frame of each brightness, with a little of one scene in it, without loss."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("ffv1", 24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        weak = scene(0, 48, 64).permute(1, 2, 0).numpy() // 16
        for level in levels:
            frame = av.VideoFrame.from_ndarray((weak + level).astype(np.uint8), "rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def levels_of(clip: Tensor) -> list[float]:
    """How bright each frame is, beside the first one."""
    means = clip.unflatten(0, (-1, 3)).float().mean((1, 2, 3))
    return [round(value) for value in (means - means[0]).tolist()]


@pytest.mark.parametrize(("num_frames", "stride"), [(3, 10), (5, 2), (1, 12)])
def test_of_a_video_clips_are_runs_of_frames(tmp_path: Path, num_frames: int, stride: int) -> None:
    write_film(tmp_path / "film.mkv", range(40, 160, 4))  # 30 frames
    picture(scene(1)).save(tmp_path / "still.png")
    settings = DataSettings((str(tmp_path),), 16, frame_stride=stride)

    *found, still = read_pictures(settings, num_frames).pictures

    starts = range(0, 30 - num_frames + 1, stride)
    assert [levels_of(each) for each in found] == [[4 * n for n in range(num_frames)]] * len(starts)
    firsts = torch.cat([each[:3] for each in found])
    assert levels_of(firsts) == [4 * start for start in starts]
    assert torch.equal(still, scene(1))


def test_no_clip_has_frames_of_two_scenes(tmp_path: Path) -> None:
    write_film(tmp_path / "cut.mkv", [20] * 4 + [200] * 5)

    data = read_pictures(DataSettings((str(tmp_path),), 16, frame_stride=1), 3)

    assert [levels_of(each) for each in data.pictures] == [[0, 0, 0]] * 5
    assert levels_of(torch.cat([each[:3] for each in data.pictures])) == [0, 0, 180, 180, 180]


def test_after_a_cut_the_next_clip_begins_at_once(tmp_path: Path) -> None:
    write_film(tmp_path / "cut.mkv", [20] * 4 + [60, 64, 68])

    data = read_pictures(DataSettings((str(tmp_path),), 16, frame_stride=3), 3)

    assert [levels_of(each) for each in data.pictures] == [[0, 0, 0], [0, 4, 8]]


def test_a_video_without_a_scene_that_is_long_enough_is_told(tmp_path: Path) -> None:
    write_film(tmp_path / "cut.mkv", [20] * 4 + [200] * 4)
    picture(scene(1)).save(tmp_path / "still.png")

    data = read_pictures(DataSettings((str(tmp_path),), 16), 5)

    assert len(data.pictures) == 1
    assert [each.reason for each in data.left_out] == ["no scene in it is long enough"]


def test_all_frames_of_a_clip_count_as_memory(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mkv", [20] * 4)
    num_bytes = 64 * 48 * 3 * 3

    with pytest.raises(SpecError, match="more than memory may hold"):
        read_pictures(DataSettings((str(tmp_path),), 16, most_bytes=num_bytes - 1), 3)
    assert len(read_pictures(DataSettings((str(tmp_path),), 16, most_bytes=num_bytes), 3).pictures) == 1
