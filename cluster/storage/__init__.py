"""Stores of objects: where sources are read and where state and outputs are written."""

from cluster.storage.address import is_s3
from cluster.storage.base import MissingObjectError, ObjectInfo, Storage
from cluster.storage.local import LocalStorage

__all__ = ["LocalStorage", "MissingObjectError", "ObjectInfo", "Storage", "open_storage"]


def open_storage(url: str) -> Storage:
    """The store whose keys are relative to `url`: `s3://bucket/prefix`, or the path of a local folder.

    Neither need exist yet. Of S3 stores, `url` may end in settings: see `cluster.storage.address`.

    Raises:
        SpecError: It begins like an S3 URL and is none.
    """
    if not is_s3(url):
        return LocalStorage(url)
    from cluster.storage.s3 import S3Storage  # loads boto3

    return S3Storage(url)
