from __future__ import annotations

import pickle
import threading
from itertools import islice

import pytest
import torch
from torch import Tensor

from sr_core.errors import SpecError, TrainError
from sr_core.train.crops import (
    Ahead,
    Crops,
    CropSettings,
    Pictures,
    Weighting,
    batch_numbers,
    content_digest,
    item_generator,
    unit_frames,
)

SIZES = ((40, 30), (24, 60), (20, 20))


def noise(height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def pictures(sizes: tuple[tuple[int, int], ...] = SIZES) -> Pictures:
    made = [noise(*size, seed) for seed, size in enumerate(sizes)]
    return Pictures.packed(made, [f"{number}.png" for number in range(len(sizes))], range(len(sizes)))


def crops(settings: CropSettings, of: Pictures | None = None, seed: int = 7) -> Crops:
    return Crops(pictures() if of is None else of, settings, seed)


@pytest.mark.parametrize("least_rescale", [1.0, 0.5])
def test_an_item_is_the_same_in_any_order_batch_and_after_a_restart(least_rescale: float) -> None:
    settings = CropSettings(16, least_rescale=least_rescale)
    whole = crops(settings).batch(range(40))
    restarted = crops(settings)

    backwards = restarted.batch(range(39, -1, -1)).flip(0)
    alone = torch.cat([restarted.batch([number]) for number in range(40)])

    assert torch.equal(whole, backwards)
    assert torch.equal(whole, alone)


def test_another_seed_stage_or_purpose_draws_other_numbers() -> None:
    def first(seed: int, stage: int, number: int, purpose: str) -> float:
        return torch.rand((), generator=item_generator(seed, stage, number, purpose)).item()

    drawn = [first(1, 0, 0, "crop"), first(2, 0, 0, "crop"), first(1, 1, 0, "crop")]
    drawn += [
        first(1, 0, 1, "crop"),
        first(1, 0, 0, "degrade"),
        first(11, 0, 0, "crop"),
        first(1, 10, 0, "crop"),
    ]

    assert len(set(drawn)) == len(drawn)


def test_every_position_and_every_turn_can_be_drawn() -> None:
    found = crops(CropSettings(16), pictures(((18, 20),)))

    drawn = [found.crop(number) for number in range(2000)]

    places = {(top, left, turn) for top in range(3) for left in range(5) for turn in range(8)}
    assert {(crop.top, crop.left, crop.turn) for crop in drawn} == places


def test_a_crop_is_its_square_of_the_picture() -> None:
    data, found = pictures(), crops(CropSettings(16, is_turned=False))

    for number, cut in enumerate(found.batch(range(30))):
        crop = found.crop(number)
        square = data[crop.picture][:, crop.top : crop.top + 16, crop.left : crop.left + 16]
        assert torch.equal(cut, square)


def test_the_eight_turns_are_the_symmetries_of_the_square() -> None:
    data = pictures(((16, 16),))
    found = crops(CropSettings(16), data)
    seen = {found.crop(number).turn: found.batch([number])[0] for number in range(100)}

    square = data[0]
    symmetries = [
        turned
        for quarters in range(4)
        for turned in (square.rot90(quarters, (1, 2)), square.rot90(quarters, (1, 2)).flip(2))
    ]
    assert len(seen) == 8
    assert {content_digest(each) for each in seen.values()} == {content_digest(each) for each in symmetries}


def test_large_pictures_are_drawn_as_often_as_they_have_pixels() -> None:
    sizes = ((20, 20), (40, 40))
    by_area = crops(CropSettings(16), pictures(sizes))
    uniform = crops(CropSettings(16, weighting=Weighting.UNIFORM), pictures(sizes))

    share = [sum(each.crop(number).picture for number in range(4000)) / 4000 for each in (by_area, uniform)]

    assert share[0] == pytest.approx(0.8, abs=0.03)
    assert share[1] == pytest.approx(0.5, abs=0.03)


def test_rescaled_crops_are_of_squares_up_to_the_least_factor_that_fit() -> None:
    settings = CropSettings(16, least_rescale=0.5)

    sides = [crops(settings, pictures(((26, 90),))).crop(number).side_px for number in range(500)]
    free = [crops(settings, pictures(((90, 90),))).crop(number).side_px for number in range(500)]

    assert (min(sides), max(sides)) == (16, 26)
    assert (min(free), max(free)) == (16, 32)


def test_rescaling_shrinks_without_aliases() -> None:
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    found = crops(CropSettings(16, least_rescale=0.25), Pictures.packed([stripes], ["stripes"], [0]))
    number = next(number for number in range(1000) if found.crop(number).side_px > 50)

    cut = found.batch([number])[0].float()

    inner = cut[:, 3:-3, 3:-3]
    assert (inner - 127.5).abs().max() < 20


def test_ranks_and_batches_share_no_item() -> None:
    numbers = [
        number for batch in range(3) for rank in range(2) for number in batch_numbers(batch, 4, rank, 2)
    ]

    assert numbers == list(range(24))


def test_too_small_pictures_and_none_at_all_are_refused_with_their_size() -> None:
    with pytest.raises(SpecError, match=r"2\.png.*20x20.*24x24"):
        crops(CropSettings(24))
    with pytest.raises(SpecError, match="no picture"):
        crops(CropSettings(24), pictures(()))


def test_pictures_survive_packing_choosing_and_another_process() -> None:
    data = pictures()

    copied = pickle.loads(pickle.dumps(data)).only([2, 0])

    assert [picture.shape for picture in data] == [(3, *size) for size in SIZES]
    assert torch.equal(copied[0], noise(20, 20, 2))
    assert torch.equal(copied[1], data[0])
    assert copied.digests == (data.digests[2], data.digests[0])
    assert copied.names == ("2.png", "0.png")


def test_a_digest_is_of_the_pixels_and_of_their_layout() -> None:
    picture = noise(6, 8, 0)

    assert content_digest(picture) == content_digest(picture.clone())
    assert content_digest(picture) != content_digest(picture.reshape(3, 8, 6))
    assert content_digest(picture) != content_digest(picture.flip(2))


def test_frames_are_codes_of_255() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)

    assert torch.equal((unit_frames(codes) * 255).round().byte(), codes)
    assert unit_frames(codes).max() == 1


def test_batches_made_ahead_come_in_order_whatever_their_threads_do() -> None:
    threads: set[int] = set()
    both = threading.Barrier(2, timeout=30)

    def make(number: int) -> int:
        if number < 12:  # the first in pairs, so that two threads must be at work
            both.wait()
        threads.add(threading.get_ident())
        return number * number

    with Ahead(make, first=10, num_threads=2, depth=4) as coming:
        made = list(islice(coming, 20))

    assert made == [number * number for number in range(10, 30)]
    assert len(threads) == 2


def test_no_more_than_the_depth_is_made_ahead() -> None:
    made: list[int] = []

    with Ahead(lambda number: made.append(number), depth=3) as coming:
        next(coming)
        next(coming)

    assert len(made) <= 4


def test_what_fails_ahead_fails_where_its_turn_comes() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise SpecError("no such thing")
        return number

    with Ahead(make) as coming:
        assert [next(coming), next(coming)] == [0, 1]
        with pytest.raises(SpecError, match="no such thing"):
            next(coming)
    with pytest.raises(TrainError):
        next(coming)
