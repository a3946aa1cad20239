"""Which images are sequences, and what each is called."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from cluster.job import SequenceSettings
from cluster.plan import Input
from cluster.sequences import find_sequences, refuse_changed
from cluster.storage import ObjectInfo
from cluster.storage.memory import MemoryStorage
from sr_core.errors import SourceChanged

RATE = Fraction(24)


def found(*keys: str) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Numbers of each sequence by its output's name, and the keys that belong to none."""
    sequences, rest = find_sequences([ObjectInfo(key, 1, "1") for key in keys], "memory:", RATE, "mkv")
    numbers = {each.output_name: each.sequence.numbers for each in sequences if each.sequence}
    return numbers, [info.key for info in rest]


def test_names_that_differ_in_their_last_number_are_one_sequence() -> None:
    keys = [f"shots/s01_{number:04}.png" for number in (7, 8, 9)]
    assert found(*keys, "shots/poster.png") == ({"shots/s01.mkv": (7, 8, 9)}, ["shots/poster.png"])


def test_sequences_are_told_apart_by_folder_name_and_suffix() -> None:
    keys = ["a/x1.png", "a/x2.png", "a/x1.exr", "a/x2.exr", "a/y1.png", "a/y2.png", "b/x1.png", "b/x2.png"]
    numbers, rest = found(*(key for key in keys if not key.endswith(".exr")))
    assert set(numbers) == {"a/x.mkv", "a/y.mkv", "b/x.mkv"}
    assert rest == []


def test_a_number_without_a_name_takes_that_of_its_folder() -> None:
    assert set(found("films/shot 7/0001.dpx", "films/shot 7/0002.dpx")[0]) == {"films/shot 7/shot 7.mkv"}


def test_numbers_that_are_left_out_are_gaps() -> None:
    assert found("x_01.tif", "x_02.tif", "x_09.tif")[0] == {"x.mkv": (1, 2, 9)}


def test_numbers_may_outgrow_their_zeros() -> None:
    assert found("x_098.png", "x_099.png", "x_0100.png") != {}
    assert found("x_98.png", "x_99.png", "x_100.png")[0] == {"x.mkv": (98, 99, 100)}
    assert found("x_0999.png", "x_1000.png")[0] == {"x.mkv": (999, 1000)}


@pytest.mark.parametrize("keys", [("x_01.png",), ("x_01.mp4", "x_02.mp4"), ("x.png", "y.png")])
def test_what_is_alone_or_no_image_is_no_sequence(keys: tuple[str, ...]) -> None:
    assert found(*keys) == ({}, list(keys))


def test_keys_of_images_are_found_again_from_their_numbers() -> None:
    keys = [f"a/b-{number}.png" for number in (9, 10, 11)]
    sequences, _ = find_sequences([ObjectInfo(key, 1, "1") for key in keys], "memory:", RATE, "mkv")
    sequence = sequences[0].sequence
    assert sequence is not None
    assert [sequence.key(number) for number in sequence.numbers] == keys


def test_sequences_of_one_name_have_their_range_in_it() -> None:
    keys = ["img007.png", "img008.png", "img0999.png", "img1000.png"]
    assert set(found(*keys)[0]) == {"img_007-008.mkv", "img_0999-1000.mkv"}


def test_one_number_with_and_without_zeros_are_two_images() -> None:
    assert found("x_001.png", "x_002.png", "x_1.png") == ({"x.mkv": (1, 2)}, ["x_1.png"])


def stored() -> tuple[MemoryStorage, Input]:
    storage = MemoryStorage()
    infos = [storage.put(f"x_{number}.png", b"picture") for number in (1, 2, 3)]
    [sequence], _ = find_sequences(infos, storage.url, RATE, "mkv")
    return storage, sequence


def test_a_sequence_whose_images_are_as_they_were_is_unchanged() -> None:
    storage, sequence = stored()
    refuse_changed(sequence, storage)


@pytest.mark.parametrize("what", ["gone", "other", "version"])
def test_a_sequence_one_of_whose_images_changed_is_refused(what: str) -> None:
    storage, sequence = stored()
    if what == "gone":
        storage.delete("x_2.png")
    elif what == "other":
        storage.put("x_2.png", b"another one")
    else:
        sequence = replace(sequence, source=replace(sequence.source, version="?"))
    with pytest.raises(SourceChanged):
        refuse_changed(sequence, storage)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("24000/1001", Fraction(24000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("23.98", Fraction(24000, 1001)),
        *((str(rate), Fraction(rate)) for rate in (1, 2, 3, 4, 5, 30, 60)),
        ("59.94", Fraction(60000, 1001)),
    ],
)
def test_rates_are_exact(text: str, rate: Fraction) -> None:
    assert SequenceSettings(text).exact_rate == rate
