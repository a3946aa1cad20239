"""Checkpoints of a run in a store, and whose they are."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import torch

from cluster.storage import Storage
from sr_core.errors import SpecError, StorageError

_FOLDER = "checkpoints/"
_RECIPE = "recipe.json"
_NUM_KEPT = 2


class Checkpoints:
    """The last states of one run, of which the newest whole one counts."""

    def __init__(self, storage: Storage, where: str) -> None:
        """Of the run in `storage`, which people know as `where`."""
        self._storage = storage
        self._where = where

    def claim(self, recipe: Mapping[str, str]) -> None:
        """Makes the store that of a run by this recipe.

        Raises:
            SpecError: It holds a run by another one, whose checkpoints would not fit or would be spoiled.
        """
        content = self._storage.get(_RECIPE)
        if content is None:
            self._storage.put(_RECIPE, json.dumps(dict(recipe), indent=1).encode())
            return
        stored: dict[str, str] = json.loads(content)
        other = [name for name in {**stored, **recipe} if stored.get(name) != recipe.get(name)]
        if other:
            raise SpecError(
                "the output holds a run that was asked for otherwise",
                where=f"{self._where}: {other[0]}",
                got=str(recipe.get(other[0], "none")),
                expected=str(stored.get(other[0], "none")),
                next_step="choose another output, and start from this one's weights",
            )

    def put(self, num_images: int, state: Mapping[str, Any]) -> None:
        """Keeps a state, and only so many older ones."""
        content = io.BytesIO()
        torch.save(state, content)
        self._storage.put(f"{_FOLDER}{num_images:012d}.pt", content.getvalue())
        for key in self._keys()[:-_NUM_KEPT]:
            self._storage.delete(key)

    def last(self, device: torch.device) -> dict[str, Any] | None:
        """The state to go on from, if there is one.

        Raises:
            StorageError: It is damaged.
        """
        keys = self._keys()
        content = self._storage.get(keys[-1]) if keys else None
        if content is None:
            return None
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location=device)
        except Exception as error:  # torch names no type for what it may find in a file
            raise StorageError(
                "a checkpoint cannot be read",
                where=f"{self._where}/{keys[-1]}",
                got=f"{len(content)} bytes, {type(error).__name__}",
                next_step="delete it: training goes on from the one before",
            ) from error
        return state

    def _keys(self) -> list[str]:
        return sorted(info.key for info in self._storage.list(_FOLDER) if info.key.endswith(".pt"))
