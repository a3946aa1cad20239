"""Renaming published keys to those of a network here."""

from __future__ import annotations

import re

from torch import Tensor

from sr_core.archs.arch import StateDict


def renamed(state_dict: StateDict, *rules: tuple[str, str]) -> dict[str, Tensor]:
    """The tensors, each under what the first rule whose pattern is its whole key makes of that key.

    Args:
        state_dict: Tensors by key; keys that no rule knows stay as they are.
        rules: Regular expressions and replacements, as `re.sub` takes them.
    """
    return {_renamed(key, rules): value for key, value in state_dict.items()}


def joined(state_dict: StateDict, parts: tuple[str, ...], whole: str) -> dict[str, Tensor]:
    """The layers with weights of lists that follow one another, numbered through as those of one list.

    Args:
        state_dict: Tensors by key; keys of no such list stay as they are.
        parts: Names of the lists, in the order of their layers.
        whole: Name of the list that they become.
    """
    places = dict[str, str]()
    for part in parts:
        numbers, before = numbers_of(state_dict, part), len(places)
        places |= {f"{part}.{number}": f"{whole}.{before + n}" for n, number in enumerate(numbers)}
    return renamed(
        state_dict,
        *((rf"{re.escape(layer)}\.(.+)", rf"{place}.\1") for layer, place in places.items()),
    )


def numbers_of(state_dict: StateDict, name: str) -> list[int]:
    """The numbers of the layers that the list `name` has, in order."""
    matches = [re.match(rf"{re.escape(name)}\.(\d+)\.", key) for key in state_dict]
    return sorted({int(match[1]) for match in matches if match})


def _renamed(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(replacement)
    return key
