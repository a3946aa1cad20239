"""Stores of objects: where sources are read and where state and outputs are written."""

from cluster.storage.base import MissingObjectError, ObjectInfo, Storage
from cluster.storage.local import LocalStorage

__all__ = ["LocalStorage", "MissingObjectError", "ObjectInfo", "Storage", "open_storage"]


def open_storage(url: str) -> Storage:
    """The store whose keys are relative to `url`, the path of a local folder (which need not exist yet)."""
    return LocalStorage(url)
