from __future__ import annotations

import pytest
import torch

from jobs.device import device_here
from sr_core.errors import SpecError


def test_a_gpu_is_taken_where_there_is_one_and_nothing_else_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    assert [device_here(), device_here("cuda"), device_here("cpu")] == ["cuda", "cuda", "cpu"]


def test_a_gpu_that_is_not_there_is_refused_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert [device_here(), device_here("cpu")] == ["cpu", "cpu"]
    with pytest.raises(SpecError, match="torch finds no CUDA device here"):
        device_here("cuda")
