"""Checkpoints of a run in a store, and whose they are."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import torch

from cluster.storage import Storage
from sr_core.errors import SpecError, StorageError
from sr_core.memory import is_out_of_memory
from sr_core.train.trainer import Position
from sr_core.weights import UNREADABLE

_FOLDER = "checkpoints/"
_RECIPE = "recipe.json"
_OWNER = "owner"
_NUM_KEPT = 2
_NAME = re.compile(rf"{_FOLDER}\d{{12}}\.pt")


class Checkpoints:
    """The last states of one run, of which the newest whole one counts."""

    def __init__(self, storage: Storage, where: str) -> None:
        """Of the run in `storage`, which people know as `where`."""
        self._storage = storage
        self._where = where
        self._id = uuid4().hex.encode()

    def refuse_other(self, recipe: Mapping[str, str]) -> None:
        """Lets a run by this recipe go on.

        Raises:
            SpecError: The store holds checkpoints by another one, which would not fit or would be spoiled.
            StorageError: What its recipe was cannot be understood.
        """
        stored = self._stored_recipe() if self._keys() else {}
        other = [name for name in stored if stored[name] != recipe.get(name, stored[name])]
        if other:
            raise SpecError(
                "the output holds a run that was asked for otherwise",
                where=f"{self._where}: {other[0]}",
                got=recipe[other[0]],
                expected=stored[other[0]],
                next_step="choose another output, and start from this one's weights",
            )

    def claim(self, recipe: Mapping[str, str]) -> None:
        """Makes the store that of this run, by this recipe; one worker does it for all."""
        self._storage.put(_RECIPE, json.dumps(dict(recipe), indent=1).encode())
        self._storage.put(_OWNER, self._id)

    def refuse_if_lost(self) -> None:
        """Lets the run that has claimed the store last write there.

        Raises:
            StorageError: This one has not: it would spoil what another one keeps.
        """
        if self._storage.get(_OWNER) != self._id:
            raise StorageError(
                "another run goes on in this output, and this one ends",
                where=self._where,
                next_step="run one at a time; it goes on from its last checkpoint",
            )

    def put(self, num_images: int, state: Mapping[str, Any]) -> None:
        """Keeps a state and one before it."""
        content = io.BytesIO()
        torch.save(state, content)
        self._storage.put(f"{_FOLDER}{num_images:012d}.pt", content.getvalue())
        for key in self._keys()[:-_NUM_KEPT]:
            self._storage.delete(key)

    def last(self) -> dict[str, Any] | None:
        """The newest whole state, if there is any, on the CPU: whoever loads it copies it to its device.

        Raises:
            StorageError: There are some, and all are damaged.
        """
        keys = self._keys()
        for key in reversed(keys):
            state = _state_of(self._storage.get(key))
            if state is not None:
                return state
        if keys:
            raise StorageError(
                "no checkpoint can be read",
                where=f"{self._where}/{keys[-1]}",
                next_step="delete the folder checkpoints to start from the beginning",
            )
        return None

    def set_aside_damaged(self) -> list[str]:
        """Renames checkpoints after the last whole one, which would count as newer; says which."""
        damaged = []
        for key in reversed(self._keys()):
            content = self._storage.get(key)
            if content is None or _state_of(content) is not None:
                break
            self._storage.put(f"{key}.damaged", content)
            self._storage.delete(key)
            damaged.append(f"{self._where}/{key}")
        return damaged

    def _stored_recipe(self) -> dict[str, str]:
        content = self._storage.get(_RECIPE) or b"{}"
        try:
            return {str(name): str(text) for name, text in json.loads(content).items()}
        except (ValueError, AttributeError) as error:
            raise StorageError(
                "the recipe of a run cannot be understood",
                where=f"{self._where}/{_RECIPE}",
                got=str(error),
                next_step="choose another output",
            ) from error

    def _keys(self) -> list[str]:
        """Of checkpoints, the oldest first; other files are none of ours."""
        return sorted(info.key for info in self._storage.list(_FOLDER) if _NAME.fullmatch(info.key))


def _state_of(content: bytes | None) -> dict[str, Any] | None:
    """What a checkpoint holds; None where it is damaged."""
    if content is None:
        return None
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        Position(*state["position"])
    except UNREADABLE as error:
        if is_out_of_memory(error):
            raise
        return None
    return state
