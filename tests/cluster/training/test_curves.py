"""What a run tells on its way, also when it is interrupted."""

from __future__ import annotations

import io
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from cluster.images.panel import Cell
from cluster.storage import LocalStorage, Storage
from cluster.storage.memory import MemoryStorage
from cluster.training.curves import Curves
from cluster.training.samples import Samples
from sr_core.archs.arch import ColorMode
from sr_core.archs.interpolation import Interpolation
from sr_core.errors import StorageError
from sr_core.kernels import Kernel
from sr_core.train.step import StepLog
from sr_core.train.trainer import Position
from sr_core.train.validation import Pair

ROWS = [[Cell("SR", "30 dB", np.full((8, 12, 3), 77, np.uint8))]]


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A store that TensorBoard can look into while a run goes on, and one that takes whole objects alone."""
    return LocalStorage(tmp_path / "run") if request.param == "folder" else MemoryStorage()


def log(curves: Curves, num_images: int, loss: float = 0.5) -> None:
    curves.log(
        Position(0, num_images // 8, num_images),
        StepLog({"l1": loss}, {"generator": 2.0}, {"beta": 0.2}),
        1e-3,
    )


def validate(curves: Curves, num_images: int) -> None:
    curves.figures(Position(0, num_images // 8, num_images), {"psnr_y": 30 + num_images / 100})
    curves.samples(Position(0, num_images // 8, num_images), ROWS)


def killed(curves: Curves, storage: Storage, folder: Path) -> Storage:
    """The store as a run leaves it that is killed here."""
    left = LocalStorage(folder / "left") if isinstance(storage, LocalStorage) else MemoryStorage()
    for info in storage.list():
        left.put(info.key, storage.get(info.key) or b"")
    curves.close()
    return left


def lines(storage: Storage) -> list[dict[str, Any]]:
    content = storage.get("log.jsonl")
    assert content is not None
    return [json.loads(line) for line in content.decode().splitlines()]


def places(storage: Storage) -> list[tuple[int, str]]:
    return [(line["images"], "figures" if "figures" in line else "losses") for line in lines(storage)]


def events(storage: Storage) -> list[Event]:
    """Of all files in the order in which TensorBoard reads them."""
    found = []
    for info in storage.list("tensorboard/"):
        content = storage.get(info.key) or b""
        position = 0
        while position < len(content):
            (length,) = struct.unpack_from("<Q", content, position)
            found.append(Event.FromString(content[position + 12 : position + 12 + length]))
            position += 12 + length + 4
    return found


def shown(storage: Storage, tag: str) -> list[tuple[int, float]]:
    """Step and value, as TensorBoard shows them: from the step of a session's start on, all is forgotten."""
    found: list[tuple[int, float]] = []
    for event in events(storage):
        if event.session_log.status == SessionLog.START:
            found = [(step, value) for step, value in found if step < event.step]
        found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
    return found


def test_a_line_tells_images_seconds_losses_rate_and_norms(storage: Storage) -> None:
    curves = Curves(storage, 0)
    log(curves, 80)
    curves.close()

    (line,) = lines(storage)
    assert line.pop("seconds") >= 0
    assert line == {
        "images": 80,
        "stage": 0,
        "learning_rate": 1e-3,
        "losses": {"l1": 0.5},
        "gradient_norms": {"generator": 2.0},
        "signs": {"beta": 0.2},
    }


def test_the_log_of_an_interrupted_run_has_no_line_twice_and_none_lost(
    storage: Storage, tmp_path: Path
) -> None:
    curves = Curves(storage, 0)
    log(curves, 80)
    validate(curves, 80)
    curves.flush()  # a checkpoint of 80 images
    log(curves, 160, loss=9.0)
    validate(curves, 160)
    storage = killed(curves, storage, tmp_path)

    again = Curves(storage, 80)
    log(again, 160)
    validate(again, 160)
    log(again, 240)
    again.close()

    assert places(storage) == [
        (80, "losses"),
        (80, "figures"),
        (160, "losses"),
        (160, "figures"),
        (240, "losses"),
    ]
    assert lines(storage)[2]["losses"] == {"l1": 0.5}
    seconds = [line["seconds"] for line in lines(storage)]
    assert seconds == sorted(seconds)
    assert shown(storage, "losses/l1") == [(80, 0.5), (160, 0.5), (240, 0.5)]


def test_a_run_that_is_killed_before_its_first_checkpoint_begins_an_empty_log(
    storage: Storage, tmp_path: Path
) -> None:
    curves = Curves(storage, 0)
    validate(curves, 80)
    storage = killed(curves, storage, tmp_path)

    Curves(storage, 0).close()

    assert lines(storage) == []
    assert list(storage.list("samples/")) == []


def test_a_validation_that_is_done_again_after_its_checkpoint_stands_once(
    storage: Storage, tmp_path: Path
) -> None:
    curves = Curves(storage, 0)
    log(curves, 80)
    curves.flush()  # the last batch of a stage: its checkpoint comes before its validation
    validate(curves, 80)
    storage = killed(curves, storage, tmp_path)

    again = Curves(storage, 80)
    validate(again, 80)
    again.close()

    assert places(storage) == [(80, "losses"), (80, "figures")]


def test_what_was_told_before_a_roll_back_is_dropped(storage: Storage) -> None:
    curves = Curves(storage, 0)
    for num_images in (80, 160, 240):
        log(curves, num_images, loss=9.0 if num_images > 80 else 0.5)
    validate(curves, 240)
    log(curves, 160)  # from the checkpoint of 80 images
    curves.close()

    assert places(storage) == [(80, "losses"), (160, "losses")]
    assert shown(storage, "losses/l1") == [(80, 0.5), (160, 0.5)]
    assert shown(storage, "validation/psnr_y") == []


def test_tensorboard_gets_every_number_and_the_pictures(storage: Storage) -> None:
    curves = Curves(storage, 0)
    log(curves, 80)
    validate(curves, 80)
    curves.close()

    values = {value.tag: value for event in events(storage) for value in event.summary.value}
    assert set(values) == {
        "learning_rate",
        "losses/l1",
        "gradient_norms/generator",
        "signs/beta",
        "validation/psnr_y",
        "samples",
    }
    assert values["validation/psnr_y"].simple_value == pytest.approx(30.8)
    assert values["samples"].image.encoded_image_string == storage.get("samples/000000000080.png")
    with Image.open(io.BytesIO(values["samples"].image.encoded_image_string)) as picture:
        assert picture.size == (values["samples"].image.width, values["samples"].image.height)


def test_a_local_run_is_seen_while_it_goes_on(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    curves = Curves(storage, 0)
    validate(curves, 80)

    assert places(storage) == [(80, "figures")]
    assert shown(storage, "validation/psnr_y") == [(80, pytest.approx(30.8))]
    curves.close()


def test_a_loss_that_is_not_finite_is_null_and_the_log_stays_json(storage: Storage) -> None:
    curves = Curves(storage, 0)
    log(curves, 80, loss=math.inf)
    curves.close()

    assert lines(storage)[0]["losses"] == {"l1": None}


def test_only_the_last_sample_pictures_stay(storage: Storage) -> None:
    curves = Curves(storage, 0)
    for number in range(1, 12):
        curves.samples(Position(0, number, 8 * number), ROWS)
    curves.close()

    kept = [info.key for info in storage.list("samples/")]
    assert kept == [f"samples/{8 * number:012d}.png" for number in range(4, 12)]


@pytest.mark.parametrize("line", ["{", "[]", '{"images": 8}', '{"images": "many", "seconds": 1}'])
def test_a_log_that_is_none_is_told(line: str) -> None:
    storage = MemoryStorage()
    storage.put("log.jsonl", line.encode())

    with pytest.raises(StorageError, match="log of the run"):
        Curves(storage, 80)


def pair(height: int, width: int) -> Pair:
    """Flat, but for noise in the middle, where bicubic fails."""
    torch.manual_seed(3)
    hr_frame = torch.full((1, 3, height, width), 0.5)
    rows, columns = slice(height // 2, height // 2 + 16), slice(width // 2, width // 2 + 16)
    hr_frame[..., rows, columns] = torch.rand(1, 3, 16, 16)
    lr_frame = torch.nn.functional.avg_pool2d(hr_frame, 2)
    return Pair(lr_frame, hr_frame)


@pytest.mark.parametrize("mode", [ColorMode.RGB, ColorMode.LUMA])
def test_samples_show_the_network_beside_bicubic_and_the_truth(mode: ColorMode) -> None:
    samples = Samples([pair(200, 240), pair(48, 64)], mode, scale=2)

    rows = samples.rows(Interpolation(Kernel.BICUBIC, 2))

    assert [[cell.title for cell in row] for row in rows] == [["bicubic", "SR", "HR"]] * 2
    assert [row[0].rgb.shape for row in rows] == [(96, 96, 3), (36, 48, 3)]
    for bicubic, sr_cell, hr_cell in rows:
        # What is cut out of a crop is what is cut out of the whole picture.
        assert np.array_equal(bicubic.rgb, sr_cell.rgb)
        assert bicubic.caption == sr_cell.caption
        assert float(hr_cell.rgb.std()) > 5


def test_the_picture_of_samples_has_a_row_for_each(tmp_path: Path) -> None:
    curves = Curves(LocalStorage(tmp_path), 0)
    rows = Samples([pair(48, 64)] * 6, ColorMode.RGB, scale=2).rows(Interpolation(Kernel.LANCZOS, 2))
    curves.samples(Position(0, 1, 8), rows)
    curves.close()

    with Image.open(tmp_path / "samples" / "000000000008.png") as picture:
        assert len(rows) == 4
        assert picture.height > 3 * picture.width / 4
