"""Weights files where a process can load them from, wherever they lie."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import layout
from cluster.job import ModelRef
from cluster.storage import MissingObjectError, open_storage
from cluster.storage.address import is_s3, join_url, split_url
from sr_core.blend import Blend
from sr_core.errors import ModelError

if TYPE_CHECKING:
    from sr_core.model import Model


def model_at(name_or_url: str, scale: int | None = None, blend: Blend | None = None) -> Model:
    """The model of a name, or of weights that lie anywhere.

    Args:
        name_or_url: Its name, or the path or S3 URL of its weights.
        scale: That is asked for; see `load_model`.
        blend: With the path or S3 URL of other weights.

    Raises:
        ModelError: See `load_model`.
        StorageError: A store of weights refuses or fails.
    """
    from sr_core.model import load_model  # loads torch

    with contextlib.ExitStack() as stack:
        path = stack.enter_context(opened_weights(name_or_url))
        if blend is not None:
            blend = replace(blend, path=stack.enter_context(opened_weights(blend.path)))
        return load_model(path, scale, blend)


@contextlib.contextmanager
def opened_weights(path: str) -> Iterator[str]:
    """The weights file at a path or S3 URL as a local file, while the block lasts.

    Raises:
        ModelError: There is no such object; or of the block, with where the weights really lie.
        StorageError: The store refuses or fails.
    """
    if not is_s3(path):
        yield path
        return
    store_url, key = split_url(path)
    with contextlib.ExitStack() as stack:
        try:
            local = str(stack.enter_context(open_storage(store_url).as_file(key)))
        except MissingObjectError as error:
            raise ModelError("there is no such weights file", where=path) from error
        try:
            yield local
        except ModelError as error:
            error.where = error.where.replace(local, path)
            raise


def shared_weights(model: ModelRef, output_url: str) -> ModelRef:
    """`model` with weights that lie on this machine alone put where the job's state is, for all to see.

    They are stored under their hash, once for all jobs.

    Raises:
        ModelError: They changed since `model` was found.
        StorageError: They could not be stored.
    """
    if model.path is None or model.sha256 is None:
        return model
    other = model.blended_with
    if other is not None:
        other = replace(other, path=_shared(other.path, other.sha256, output_url))
    return replace(model, path=_shared(model.path, model.sha256, output_url), blended_with=other)


def _shared(path: str, sha256: str, output_url: str) -> str:
    """Where weights lie for all to see."""
    if is_s3(path):
        return path
    key, storage = layout.weights(sha256, Path(path).suffix), open_storage(output_url)
    if storage.head(key) is None:
        content = Path(path).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ModelError("the weights changed while they were read", where=path, next_step="run it again")
        storage.put(key, content)
    return join_url(output_url, key)
