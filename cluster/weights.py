"""Weights files where a process can load them from, wherever they lie."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster import layout
from cluster.job import ModelRef
from cluster.storage import MissingObjectError, open_storage
from cluster.storage.address import is_s3, join_url, split_url
from sr_core.errors import ModelError


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
    if model.path is None or model.sha256 is None or is_s3(model.path):
        return model
    key, storage = layout.weights(model.sha256, Path(model.path).suffix), open_storage(output_url)
    if storage.head(key) is None:
        content = Path(model.path).read_bytes()
        if hashlib.sha256(content).hexdigest() != model.sha256:
            raise ModelError(
                "the weights changed while they were read", where=model.path, next_step="run it again"
            )
        storage.put(key, content)
    return replace(model, path=join_url(output_url, key))
