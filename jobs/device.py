"""Where networks of commands run that need no worker of their own."""

from __future__ import annotations

from typing import Literal

import torch

from sr_core.errors import SpecError


def device_here(asked: Literal["auto", "cpu", "cuda"] = "auto") -> Literal["cpu", "cuda"]:
    """The device of this machine that is asked for; `auto` takes a GPU where there is one.

    Raises:
        SpecError: A GPU is asked for, and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        raise SpecError("torch finds no CUDA device here", where="--device", got="cuda", expected="cpu")
    return "cuda" if has_cuda and asked != "cpu" else "cpu"
