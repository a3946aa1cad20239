"""Squares of pictures: what is in them, and that an item is the same whenever it is cut."""

from __future__ import annotations

import pytest
import torch

from sr_core.errors import SpecError
from sr_core.train.crops import Pictures
from sr_core.train.squares import Squares, SquareSettings, middles, shrunk

SIDE_PX = 8


def ramps(*sizes: tuple[int, int]) -> Pictures:
    """Pictures that grow brighter to the right (red) and to the bottom (green); blue tells which it is."""
    made = []
    for number, (height, width) in enumerate(sizes):
        right = torch.linspace(0, 255, width).expand(height, width)
        down = torch.linspace(0, 255, height)[:, None].expand(height, width)
        made.append(torch.stack([right, down, torch.full((height, width), 40.0 * number)]).byte())
    return Pictures.packed(made, [f"{number}.png" for number in range(len(sizes))], range(len(sizes)))


PICTURES = ramps((64, 64), (90, 60), (8, 30))


def test_an_item_is_the_same_in_any_batch() -> None:
    squares = Squares(PICTURES, SIDE_PX, SquareSettings(), seed=1)
    together = squares.batch(range(20))

    assert torch.equal(squares.batch([7]), together[7:8])
    assert torch.equal(Squares(PICTURES, SIDE_PX, SquareSettings(), seed=1).batch([19]), together[19:])
    assert not torch.equal(Squares(PICTURES, SIDE_PX, SquareSettings(), seed=2).batch(range(20)), together)
    assert not torch.equal(
        Squares(PICTURES, SIDE_PX, SquareSettings(), 1, stage=1).batch(range(20)), together
    )


def test_every_picture_is_drawn_as_often_as_any_other_and_told_by_its_index() -> None:
    squares = Squares(PICTURES, SIDE_PX, SquareSettings(), seed=0)
    drawn = [squares.picture(number) for number in range(600)]

    assert all(150 < drawn.count(index) < 250 for index in range(3))
    blue = squares.batch(range(30))[:, 2].float().mean((1, 2)).round().int().tolist()
    assert blue == [40 * index for index in drawn[:30]]


def test_squares_are_most_of_a_picture_and_upright() -> None:
    squares = Squares(ramps((64, 64)), SIDE_PX, SquareSettings(least_share=0.75), seed=0)
    made = squares.batch(range(60)).float()

    rises = (made[:, 0, :, -1] - made[:, 0, :, 0]).mean(1)
    assert float(rises.abs().min()) > 0.75 * 255 * 0.8
    assert 15 < int((rises < 0).sum()) < 45
    falls = (made[:, 1, -1] - made[:, 1, 0]).mean(1)
    assert float(falls.min()) > 0.75 * 255 * 0.8


def test_squares_are_not_mirrored_where_that_is_not_asked_for() -> None:
    squares = Squares(ramps((64, 64)), SIDE_PX, SquareSettings(is_mirrored=False), seed=0)
    made = squares.batch(range(20)).float()

    assert float((made[:, 0, :, -1] - made[:, 0, :, 0]).min()) > 0


def test_shrunk_pictures_give_nearly_the_same_squares_and_small_ones_stay() -> None:
    pictures = ramps((256, 300), (20, 16), (8, 9))
    small = shrunk(pictures, SIDE_PX, SquareSettings())

    assert small.sizes == ((18, 21), (20, 16), (8, 9))
    assert (small.names, small.sources) == (pictures.names, pictures.sources)
    settings = SquareSettings(least_share=1.0)
    first, second = (Squares(each, SIDE_PX, settings, seed=3).batch(range(12)) for each in (pictures, small))
    assert float((first.float() - second.float()).abs().max()) < 16


def test_a_middle_is_the_largest_square_around_the_middle() -> None:
    [made] = middles(ramps((40, 80)), SIDE_PX).float()

    assert made.shape == (3, SIDE_PX, SIDE_PX)
    assert float(made[0].mean()) == pytest.approx(127.5, abs=2)
    assert float(made[0, :, 0].mean()) == pytest.approx(255 * (20 + 2.5) / 80, abs=6)
    assert float(made[1, 0].mean()) < 30


@pytest.mark.parametrize(
    ("pictures", "told"),
    [(ramps((30, 7)), "smaller than what the network sees.*7x30"), (PICTURES.only([]), "no picture")],
)
def test_pictures_that_hold_no_square_are_refused(pictures: Pictures, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        Squares(pictures, SIDE_PX, SquareSettings(), seed=0)


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_shares_that_are_none_are_refused(share: float) -> None:
    with pytest.raises(SpecError, match="least_share"):
        SquareSettings(least_share=share)
