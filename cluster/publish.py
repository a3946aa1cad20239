"""Putting a finished output under its name."""

from __future__ import annotations

from pathlib import Path

from cluster.digest import digest
from cluster.manifest import Manifest
from cluster.plan import Input
from cluster.sequences import refuse_changed
from cluster.storage import ObjectInfo, Storage, open_storage
from cluster.tasks import OutputReceipt
from sr_core.errors import SpecError


def publish(
    path: Path, receipt: OutputReceipt, input_: Input, replaces: ObjectInfo | None, storage: Storage
) -> None:
    """Puts the file at `path` under the name that `receipt` says, then the receipt.

    Nothing happens where another driver has done just that.

    Args:
        input_: What it was made of.
        replaces: What may stand under the name already.

    Raises:
        SourceChanged: The source is not what was read any more.
        SpecError: Something else has come to stand under the name.
        StorageError: The output could not be stored.
    """
    refuse_changed(input_, open_storage(input_.source.store_url))
    manifest = Manifest(storage)
    standing = manifest.published(receipt.key)
    if standing is not None and standing.sha256 == receipt.sha256:
        return
    _refuse_to_replace(receipt, replaces, storage)
    manifest.forget_outputs(receipt.output, spare=receipt.key)
    storage.put_file(receipt.output, path)
    manifest.put_output(receipt)


def _refuse_to_replace(receipt: OutputReceipt, replaces: ObjectInfo | None, storage: Storage) -> None:
    """Lets stand what somebody else put under the output's name while the job ran."""
    there = storage.head(receipt.output)
    if there is None or there == replaces:
        return
    with storage.open(receipt.output, there.version) as file:
        if digest(file) == receipt.sha256:  # an earlier driver was lost before it could say so
            return
    raise SpecError(
        "something else was put under the output's name while the job ran",
        where=receipt.output,
        next_step="move it away, or run again with --overwrite",
    )
