import pytest
from hypothesis import given
from hypothesis import strategies as st

from sr_core.errors import SpecError
from sr_core.tiling import TileGrid

SIZES = st.integers(1, 400)
TILES = st.integers(1, 130)
HALOS = st.integers(0, 40)
MULTIPLES = st.sampled_from([1, 2, 4, 7, 8])


@given(SIZES, SIZES, TILES, HALOS, MULTIPLES)
def test_cores_cover_every_pixel_exactly_once(
    height: int, width: int, tile_px: int, halo_px: int, multiple: int
) -> None:
    grid = TileGrid.plan(height, width, tile_px, halo_px, multiple)
    rows = sorted({(tile.rows.core_start, tile.rows.core_stop) for tile in grid.tiles})
    columns = sorted({(tile.columns.core_start, tile.columns.core_stop) for tile in grid.tiles})

    for spans, length in ((rows, grid.height), (columns, grid.width)):
        assert [spans[0][0], *[stop for _, stop in spans]] == [*[start for start, _ in spans], length]
        assert spans[0][0] == 0
        assert all(start < stop for start, stop in spans)
    assert len(grid.tiles) == len(rows) * len(columns) == len(set(grid.tiles))


@given(SIZES, TILES, HALOS, MULTIPLES)
def test_each_core_has_its_halo_or_a_frame_edge(
    length: int, tile_px: int, halo_px: int, multiple: int
) -> None:
    grid = TileGrid.plan(length, 1, tile_px, halo_px, multiple)

    for tile in grid.tiles:
        span = tile.rows
        assert span.start == 0 or span.core_start - span.start >= halo_px
        assert span.stop == grid.height or span.stop - span.core_stop >= halo_px


@given(SIZES, SIZES, TILES, HALOS, MULTIPLES)
def test_windows_have_one_shape_inside_the_frame_on_multiples(
    height: int, width: int, tile_px: int, halo_px: int, multiple: int
) -> None:
    grid = TileGrid.plan(height, width, tile_px, halo_px, multiple)

    assert len({(t.rows.stop - t.rows.start, t.columns.stop - t.columns.start) for t in grid.tiles}) == 1
    for tile in grid.tiles:
        assert 0 <= tile.rows.start < tile.rows.stop <= grid.height
        assert 0 <= tile.columns.start < tile.columns.stop <= grid.width
        for edge in (tile.rows.start, tile.rows.stop, tile.columns.start, tile.columns.stop):
            assert edge % multiple == 0


@given(SIZES, SIZES, MULTIPLES)
def test_the_frame_is_padded_to_the_next_multiple_and_no_further(
    height: int, width: int, multiple: int
) -> None:
    grid = TileGrid.plan(height, width, 64, 8, multiple)

    assert 0 <= grid.height - height < multiple
    assert 0 <= grid.width - width < multiple


@given(SIZES, TILES, HALOS, MULTIPLES)
def test_windows_are_no_larger_than_a_core_with_its_halos(
    length: int, tile_px: int, halo_px: int, multiple: int
) -> None:
    span = TileGrid.plan(length, 1, tile_px, halo_px, multiple).tiles[0].rows

    assert span.stop - span.start < tile_px + 2 * halo_px + 3 * multiple


def test_a_frame_that_fits_is_one_window() -> None:
    assert len(TileGrid.plan(96, 96, 64, 16).tiles) == 1


def test_a_little_too_much_is_split_evenly_not_into_a_thin_last_tile() -> None:
    first, last = (tile.rows for tile in TileGrid.plan(97, 1, 64, 16).tiles)

    assert {first.core_stop - first.core_start, last.core_stop - last.core_start} == {48, 49}


@pytest.mark.parametrize("arguments", [(0, 9, 8, 0), (9, 9, 0, 0), (9, 9, 8, -1), (9, 9, 8, 0, 0)])
def test_impossible_sizes_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="No tiles"):
        TileGrid.plan(*arguments)
