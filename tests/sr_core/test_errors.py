from __future__ import annotations

import pickle

import pytest

from sr_core.errors import ERROR_KINDS, FrameliftError, MediaError, StorageError


@pytest.mark.parametrize("kind", ERROR_KINDS.values())
def test_every_error_survives_pickling_with_its_fields(kind: type[FrameliftError]) -> None:
    error = kind("it broke", where="film.mp4", got="noise", expected="a film", next_step="replace it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.fields() == error.fields()
    assert str(again) == str(error)


def test_a_storage_error_keeps_whether_the_store_is_only_unavailable() -> None:
    error = StorageError("slow down", unavailable=True)
    assert pickle.loads(pickle.dumps(error)).unavailable
    assert StorageError(**error.fields()).unavailable


def test_an_error_reads_what_where_got_expected_next() -> None:
    error = MediaError("no video", where="a.mp4", got="text", expected="a film", next_step="check it")
    assert str(error) == "a.mp4: no video; got text; expected a film; check it"
