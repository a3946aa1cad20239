from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cluster.images.plan import plan_image
from cluster.images.read import open_image
from cluster.images.upscale import upscale_image
from cluster.job import ImageSettings
from cluster.video.corpus.cases import CASES
from jobs.cli import main
from jobs.evaluation.data import Stills, Video, open_data, read_image
from jobs.evaluation.figures import figures_of, upscaled
from jobs.evaluation.request import Protocol
from jobs.sample import SAMPLE
from sr_core.archs.compact import COMPACT, CompactConfig
from sr_core.archs.early_fusion import EARLY_FUSION, EarlyFusionConfig
from sr_core.color import ColorSpace, PlaneFormat
from sr_core.errors import MediaError, SpecError
from sr_core.metrics.psnr import psnr, studio_luma, without_border
from sr_core.model import Model, load_model
from sr_core.shrink import Degradation, rounded, shrink
from sr_core.upscale import Upscaler

RGB, FULL_RANGE = PlaneFormat(8, 0, 0, is_rgb=True), ColorSpace(full_range=True)
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def picture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(height, width, 3): smooth noise in colours."""
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, codes: npt.NDArray[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(codes).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two HR images, one of them in grey and of an odd size."""
    save(tmp_path / "hr" / "a.png", picture(48, 64))
    save(tmp_path / "hr" / "b.png", picture(49, 51, seed=1)[..., 0])
    return tmp_path / "hr"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network for x2, untrained."""
    torch.manual_seed(0)
    network = COMPACT.build(CompactConfig(num_feat=8, num_conv=1, scale=2))
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def evaluated(*arguments: str | Path) -> list[dict[str, Any]]:
    """The records that the command writes for these arguments."""
    path = Path(str(arguments[-1]))
    assert run("evaluate", *arguments[:-1], "--json", path) == 0
    records: list[dict[str, Any]] = json.loads(path.read_text())
    return records


def test_every_model_has_its_figures_on_every_data_set_and_bicubic_comes_first(
    folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save(tmp_path / "other" / "c.png", picture(40, 40, seed=2)).parent

    records = evaluated(
        *("--data", folder, "--data", other, "--scale", "2", "--model", weights), tmp_path / "figures.json"
    )

    assert [(each["data"], each["model"]) for each in records] == [
        ("hr", "bicubic"),
        ("hr", "tiny.safetensors"),
        ("other", "bicubic"),
        ("other", "tiny.safetensors"),
    ]
    bicubic, tiny = records[:2]
    assert bicubic["psnr_y"] > tiny["psnr_y"] > 5
    assert bicubic["ssim_y"] > tiny["ssim_y"]
    assert bicubic["psnr_rgb"] > tiny["psnr_rgb"]
    assert bicubic["consistency"] > tiny["consistency"]
    assert (bicubic["parameters"], bicubic["macs"]) == (0, 0)
    assert tiny["macs"] == 9 * (3 * 8 + 8 * 8 + 8 * 12) * 640 * 360
    assert (tiny["lpips"], tiny["warping_error"]) == (None, None)
    assert tiny["seconds_per_megapixel"] > 0
    assert [image["name"] for image in tiny["images"]] == ["a.png", "b.png"]
    assert (tiny["images"][1]["width"], tiny["images"][1]["height"]) == (50, 48)
    assert tiny["psnr_y"] == pytest.approx(sum(image["psnr_y"] for image in tiny["images"]) / 2)
    assert tiny["environment"]["protocol"] == "rgb"
    assert tiny["environment"]["precision"] == "fp32"
    shown = capsys.readouterr().out
    assert f"{tiny['psnr_y']:.3f}" in shown
    assert f"{bicubic['ssim_y']:.4f}" in shown


def test_an_image_through_the_products_path_has_the_figure_of_the_evaluation(
    folder: Path, weights: Path, tmp_path: Path
) -> None:
    hr_frame = read_image(folder / "a.png")
    db = psnr_of_product(hr_frame, str(weights), tmp_path)

    records = evaluated("--data", folder / "a.png", "--scale", "2", "--model", weights, tmp_path / "f.json")

    assert records[1]["psnr_y"] == pytest.approx(db, abs=1e-9)


@pytest.mark.slow
def test_imdn_on_a_png_through_the_products_path_has_the_figure_of_the_evaluation(tmp_path: Path) -> None:
    weights, path = SHARED / "checkpoints" / "IMDN_x2.pth", SHARED / "eval" / "Set5" / "bird.png"
    if not (weights.exists() and path.exists()):
        pytest.skip("needs IMDN_x2.pth and Set5")
    db = psnr_of_product(read_image(path), str(weights), tmp_path)
    upscaler = Upscaler(load_model(str(weights), 2), "cpu", "fp32", 256, 1)
    (shown,) = open_data(str(path), 2, Degradation.BICUBIC, None).pictures()

    figures = figures_of(shown, upscaled(upscaler, shown, Protocol.RGB), Protocol.RGB, None)

    assert figures.psnr_y == pytest.approx(db, abs=1e-9)


def psnr_of_product(hr_frame: torch.Tensor, weights: str, folder: Path) -> float:
    """dB of luma of the PNG that `framelift upscale` makes of a PNG of the LR frame, in small tiles."""
    codes = (rounded(shrink(hr_frame, 2))[0] * 255).round().byte().permute(1, 2, 0).numpy()
    source = save(folder / "lr.png", codes)
    with source.open("rb") as file:
        treatment = plan_image(open_image(file, "lr.png").info, ImageSettings(), 2, None, 2, "lr.png")
        upscaler = Upscaler(load_model(weights), "cpu", "fp32", 64, 1)
        for _ in upscale_image(file, "lr.png", treatment, upscaler, folder / "sr.png"):
            pass
    sr_frame = read_image(folder / "sr.png")
    pair = [without_border(studio_luma(frame.double()), 2) for frame in (sr_frame, hr_frame)]
    return float(psnr(*pair))


def test_the_y_protocol_measures_luma_alone(folder: Path, tmp_path: Path) -> None:
    (record,) = evaluated("--data", folder, "--scale", "3", "--protocol", "y", tmp_path / "f.json")

    assert record["psnr_y"] > 20
    assert [record[key] for key in ("psnr_rgb", "lpips", "consistency")] == [None] * 3


def test_the_y_protocol_refuses_models_of_rgb(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("evaluate", "--data", folder, "--scale", "2", "--model", weights, "--protocol", "y")

    assert code == 2
    assert "a model of rgb" in capsys.readouterr().err


def test_lpips_is_measured_where_weights_are_given(tmp_path: Path) -> None:
    perceptual = SHARED / "perceptual"
    files = (
        perceptual / "squeezenet1_1_features.safetensors",
        perceptual / "lpips_v0.1_squeeze_lin.safetensors",
    )
    if not all(file.exists() for file in files):
        pytest.skip("needs the weights of LPIPS")
    path = save(tmp_path / "a.png", picture(48, 64))

    (record,) = evaluated("--data", path, "--scale", "2", "--lpips", *files, tmp_path / "f.json")

    assert 0 < record["lpips"] < 1
    assert record["environment"]["lpips"] == "squeezenet1_1"


def test_pairs_are_measured_as_they_are_given(folder: Path, tmp_path: Path) -> None:
    for path, height in ((folder / "a.png", 24), (folder / "b.png", 24)):
        with Image.open(path) as image:
            lr_image = image.crop((0, 0, image.width // 2 * 2, 2 * height)).reduce(2)
        save(tmp_path / "lr" / f"{path.stem}x2.png", np.asarray(lr_image))

    place = f"{folder}:{tmp_path / 'lr'}"
    paired = open_data(place, 2, Degradation.BICUBIC, None)
    (alone, _), (given, grey) = (
        list(data.pictures()) for data in (open_data(str(folder), 2, Degradation.BICUBIC, None), paired)
    )

    assert torch.equal(alone.hr_frame, given.hr_frame)
    assert not torch.equal(alone.lr_frame, given.lr_frame)
    assert (given.lr_frame.shape, grey.lr_frame.shape) == ((1, 3, 24, 32), (1, 3, 24, 25))
    assert torch.equal(grey.lr_frame[:, 0], grey.lr_frame[:, 2])
    (record,) = evaluated("--data", place, "--scale", "2", tmp_path / "f.json")
    assert (record["data"], record["degradation"]) == ("hr", "given")


def test_sizes_that_contradict_the_scale_name_the_file(folder: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "lr" / name, picture(20, 20))
    data = open_data(f"{folder}:{tmp_path / 'lr'}", 2, Degradation.BICUBIC, None)

    with pytest.raises(SpecError, match=r"a\.png.*20x20 for 64x48.*32x24 at scale 2"):
        list(data.pictures())


def test_an_image_without_a_partner_is_named(folder: Path, tmp_path: Path) -> None:
    save(tmp_path / "lr" / "a.png", picture(24, 32))

    with pytest.raises(SpecError, match=r"hr/b\.png.*no partner"):
        open_data(f"{folder}:{tmp_path / 'lr'}", 2, Degradation.BICUBIC, None)


def test_two_images_for_the_same_half_of_a_pair_are_both_named(folder: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "lr" / name, picture(24, 32))
    place = f"{folder}:{tmp_path / 'lr'}"

    save(tmp_path / "lr" / "bx2.png", picture(24, 32))
    with pytest.raises(SpecError, match=r"lr/b\.png.*bx2\.png"):
        open_data(place, 2, Degradation.BICUBIC, None)
    save(folder / "a.jpg", picture(48, 64))
    with pytest.raises(SpecError, match=r"hr/a\.jpg.*a\.png"):
        open_data(place, 2, Degradation.BICUBIC, None)


def test_names_that_end_like_a_scale_pair_up(tmp_path: Path) -> None:
    for name in ("box4", "box4x4", "boat"):
        save(tmp_path / "hr" / f"{name}.png", picture(48, 64))
    for name in ("box4", "box4x4", "boatx4"):
        save(tmp_path / "lr" / f"{name}.png", picture(12, 16))

    data = open_data(f"{tmp_path / 'hr'}:{tmp_path / 'lr'}", 4, Degradation.BICUBIC, None)

    assert isinstance(data, Stills)
    pairs = {hr_path.stem: lr_path.stem for hr_path, lr_path in data.paths if lr_path}
    assert pairs == {"boat": "boatx4", "box4": "box4", "box4x4": "box4x4"}


def test_a_folder_without_images_and_a_place_with_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")

    with pytest.raises(SpecError, match="no image in the folder"):
        open_data(str(tmp_path), 2, Degradation.BICUBIC, None)
    with pytest.raises(SpecError, match="no such data"):
        open_data(str(tmp_path / "nowhere"), 2, Degradation.BICUBIC, None)


def test_a_damaged_image_fails_the_run_and_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = save(folder / "c.jpg", picture(64, 64)).read_bytes()
    (folder / "c.jpg").write_bytes(whole[: len(whole) // 2])

    assert run("evaluate", "--data", folder, "--scale", "2") == 3
    assert "c.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["RGBA", "CMYK"])
def test_what_has_no_plain_colours_is_no_truth(mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{'png' if mode == 'RGBA' else 'jpg'}"
    Image.new(mode, (32, 32), (1, 2, 3, 128)).save(path)

    with pytest.raises(SpecError, match=r"a\.png.*hides some of its colours|a\.jpg.*got cmyk 8 bit"):
        read_image(path)


def test_a_picture_that_viewers_turn_is_refused_before_it_is_measured(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(48, 64)).save(folder / "c.png", exif=exif)

    assert run("evaluate", "--data", folder, "--scale", "2") == 2
    told = capsys.readouterr().err
    assert "c.png" in told
    assert "turned by EXIF" in told


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 128, 129, 65535]], np.uint16)).save(tmp_path / "a.png")

    assert (read_image(tmp_path / "a.png") * 255).flatten().tolist() == pytest.approx([0, 0, 1, 255])


def write_video(path: Path, frames: list[npt.NDArray[np.uint8]]) -> Path:
    """A lossless RGB video of 25 frames a second."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = (
            width,
            height,
            "rgb24",
            Fraction(1, 25),
        )
        for number, codes in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(codes, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_video_has_figures_over_time_and_a_warping_error(tmp_path: Path) -> None:
    scene = picture(80, 96)
    frames = [scene[8 + shift : 72 + shift, 8:88] for shift in range(4)]
    path = write_video(tmp_path / "pan.mkv", [np.ascontiguousarray(frame) for frame in frames])

    (record,) = evaluated("--data", path, "--scale", "2", "--frames", "3", tmp_path / "f.json")

    assert [image["name"] for image in record["images"]] == ["frame 0", "frame 1", "frame 2"]
    assert [image["time_s"] for image in record["images"]] == pytest.approx([0, 0.04, 0.08])
    assert [image["warping_error"] is None for image in record["images"]] == [True, False, False]
    assert 0 < record["warping_error_of_truth"] < record["warping_error"] < 1e-2
    still = read_image(save(tmp_path / "still.png", frames[1]))
    shown = list(open_data(str(path), 2, Degradation.BICUBIC, None).pictures())
    assert len(shown) == 4
    assert torch.equal(shown[1].hr_frame, still)


def test_a_damaged_frame_of_a_video_is_no_truth() -> None:
    path = SHARED / "video" / "corrupted_h264.mp4"
    if not path.exists():
        pytest.skip("needs corrupted_h264.mp4")

    with pytest.raises(MediaError, match=r"corrupted_h264\.mp4 at pts \d+: a frame is damaged"):
        list(open_data(str(path), 4, Degradation.BICUBIC, None).pictures())


def test_frames_of_a_video_come_with_the_neighbours_that_are_asked_for() -> None:
    plain = list(open_data(str(SAMPLE), 2, Degradation.BICUBIC, 6).pictures())

    shown = list(with_context(SAMPLE, 5, (2, 1)).pictures())

    assert len(shown) == 5
    lr_frames = [each.lr_frame for each in plain]
    for number, each in enumerate(shown):
        expected = [lr_frames[max(0, number - 2) : number], lr_frames[number + 1 : number + 2]]
        for found, right in zip((each.before, each.after), expected, strict=True):
            assert len(found) == len(right)
            assert all(torch.equal(x, y) for x, y in zip(found, right, strict=True))


def with_context(path: Path, num_frames: int | None, context: tuple[int, int]) -> Video:
    """A video at x2, whose frames come with so many neighbours."""
    data = open_data(str(path), 2, Degradation.BICUBIC, num_frames)
    assert isinstance(data, Video)
    return replace(data, context=context)


def test_networks_see_no_frame_of_another_scene(tmp_path: Path) -> None:
    dark, bright = picture(64, 80) // 3, 255 - picture(64, 80, seed=1) // 3
    path = write_video(tmp_path / "cut.mkv", [dark, dark, bright, bright])

    shown = list(with_context(path, None, (2, 2)).pictures())

    assert [(len(each.before), len(each.after)) for each in shown] == [(0, 1), (1, 0), (0, 1), (1, 0)]


def test_a_temporal_network_makes_of_a_frame_what_it_makes_in_a_job(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = EarlyFusionConfig(num_feat=8, num_conv=1, scale=2)
    model = Model(EARLY_FUSION.build(config).eval(), EARLY_FUSION.facts(config), "")
    upscaler = Upscaler(model, "cpu", "fp32", 64, 1)
    scenes = [picture(64, 80) // 3, 255 - picture(64, 80, seed=1) // 3]
    small = [rounded(shrink(torch.tensor(scene).permute(2, 0, 1)[None] / 255, 2)) for scene in scenes]
    planes = [tuple((frame[0] * 255).round().byte()) for frame in small]
    path = write_video(tmp_path / "cut.mkv", [scenes[0], scenes[0], scenes[1], scenes[1]])
    context = (model.facts.frames_before, model.facts.frames_after)

    shown = list(with_context(path, None, context).pictures())

    for each, before, own, after in zip(shown, "-0-1", "0011", "0-1-", strict=True):
        around = [[planes[int(name)]] if name != "-" else [] for name in (before, after)]
        expected = upscaler.upscale(planes[int(own)], RGB, FULL_RANGE, before=around[0], after=around[1])
        made = upscaled(upscaler, each, Protocol.RGB)
        assert torch.equal((made[0] * 255).round().byte(), torch.stack(list(expected)))


def test_in_the_y_protocol_a_perfect_model_flickers_as_much_as_the_truth(tmp_path: Path) -> None:
    scene = picture(64, 80)
    path = write_video(tmp_path / "flicker.mkv", [scene, scene // 2 + 60, scene])

    (perfect,) = evaluated("--data", path, "--scale", "1", "--protocol", "y", tmp_path / "f.json")

    assert perfect["psnr_y"] == pytest.approx(100)
    assert perfect["warping_error"] == pytest.approx(perfect["warping_error_of_truth"], rel=1e-6)
    assert perfect["warping_error"] > 1e-4


def test_values_that_are_not_finite_end_the_y_protocol_as_an_output_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = COMPACT.build(CompactConfig(num_channels=1, num_feat=8, num_conv=1, scale=2))
    torch.nn.init.constant_(next(network.parameters()), 3e38)
    save_file(network.state_dict(), tmp_path / "wild.safetensors")

    code = run(
        *("evaluate", "--data", folder, "--scale", "2", "--protocol", "y"),
        *("--model", tmp_path / "wild.safetensors", "--json", tmp_path / "f.json"),
    )

    assert code == 4
    told = capsys.readouterr().err
    assert "a.png: The network made values that are not finite" in told
    assert not (tmp_path / "f.json").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("interlaced_h264_tff.mp4", "it is interlaced and measured as it is stored"),
        ("rotated_90.mp4", "without the rotation that it asks for"),
    ],
)
def test_what_is_measured_in_another_way_than_it_is_shown_is_told(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus_clip(tmp_path / name)

    assert run("evaluate", "--data", tmp_path / name, "--scale", "2", "--frames", "1") == 0
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_video_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    path = corpus_clip(tmp_path / "size_changes.ts")

    with pytest.raises(MediaError, match=r"size_changes\.ts at pts \d+: the video changes its size"):
        list(open_data(str(path), 2, Degradation.BICUBIC, None).pictures())


def corpus_clip(path: Path) -> Path:
    """The file of the conformance corpus that has this name."""
    (case,) = (case for case in CASES if case.name == path.name)
    case.make(path)
    return path


@pytest.mark.parametrize(("flag", "name"), [("--json", "f.json"), ("--plot", "f.png")])
def test_files_that_stand_there_are_replaced_only_when_that_is_asked_for(
    flag: str, name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    arguments = ("evaluate", "--data", folder, "--scale", "2", flag, tmp_path / name)

    assert run(*arguments) == 2
    assert (tmp_path / name).read_bytes() == b"mine"
    assert "--overwrite" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0
    assert len((tmp_path / name).read_bytes()) > 100


def test_the_plot_shows_truth_bicubic_and_model_side_by_side(
    folder: Path, weights: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "plot.png"

    assert run("evaluate", "--data", folder, "--scale", "2", "--model", weights, "--plot", plot) == 0

    with Image.open(plot) as image:
        size = image.size
        codes = np.asarray(image.convert("RGB"))
    assert (size[0] // 296, size[1] // 336) == (3, 2)
    truth = codes[28:30, 8:11]  # the first picture is smaller than a crop, and enlarged by whole numbers
    with Image.open(folder / "a.png") as image:
        assert (truth == np.asarray(image)[0, 0]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--protocol", "yuv"), "--protocol"),
        (("--degradation", "blurr"), "did you mean 'blur'"),
        (("--precision", "fp8"), "--precision"),
        (("--protocol", "y", "--degradation", "jpeg"), "leave out one of the two"),
        (("--json", "/nowhere/at/all.json"), "no file can be written there"),
        (("--plot", "plot.jpg"), "the plot is a PNG"),
        (("--model", "bicubik"), "did you mean 'bicubic'"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(
    arguments: tuple[str, ...], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", "--data", folder, "--scale", "2", *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_scale_that_is_not_the_models_is_refused(
    folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", "--data", folder, "--scale", "3", "--model", weights) == 2
    assert "scale 2" in capsys.readouterr().err


@pytest.mark.parametrize("degradation", [*Degradation])
def test_degradations_are_the_same_in_every_run(degradation: Degradation, folder: Path) -> None:
    data = Stills("hr", ((folder / "a.png", None),), 2, degradation)

    (first,), (second,) = data.pictures(), data.pictures()

    assert torch.equal(first.lr_frame, second.lr_frame)


def test_a_picture_that_is_too_small_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "good" / "a.png")
    Image.new("RGB", (64, 13)).save(tmp_path / "bad" / "b.png")
    monkeypatch.setattr(Upscaler, "upscale", lambda *_, **__: pytest.fail("it was measured"))

    assert run("evaluate", "--data", tmp_path / "good", "--data", tmp_path / "bad", "--scale", "2") == 2
    assert "b.png" in capsys.readouterr().err


def test_a_degradation_of_given_lr_images_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("hr", (64, 48)), ("lr", (32, 24))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size).save(tmp_path / name / "a.png")
    data = f"{tmp_path / 'hr'}:{tmp_path / 'lr'}"

    assert run("evaluate", "--data", data, "--scale", "2", "--degradation", "noise") == 2
    assert "none are made" in capsys.readouterr().err
