"""Where a job reads and writes, seen with plain tools and none of Framelift's own code."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

_STATE = ".framelift"


class Place(Protocol):
    """The output of a job."""

    @property
    def source(self) -> str:
        """What stands in the job spec as its input."""

    @property
    def output(self) -> str:
        """The same of its output."""

    @property
    def look_every_s(self) -> float:
        """How often it can be looked at without being kept from its work."""

    def versions(self) -> dict[str, str]:
        """A text for every object, by key, that changes whenever it was written anew."""

    def read(self, key: str) -> bytes:
        """An object as it is now.

        Raises:
            FileNotFoundError: There is none.
        """

    def write(self, key: str, content: bytes) -> None:
        """Puts other content into its place."""

    def delete(self, key: str) -> None:
        """Removes it, if it is there."""


@dataclass(frozen=True)
class Folder:
    """A folder on this machine."""

    source: str
    output: str
    look_every_s: float = 0.03

    def versions(self) -> dict[str, str]:
        """See `Place.versions`."""
        found = {}
        for folder, _, names in os.walk(self.output):  # which passes over folders that go meanwhile
            for path in (Path(folder) / name for name in names):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    status = path.stat()
                    found[path.relative_to(self.output).as_posix()] = f"{status.st_size}-{status.st_mtime_ns}"
        return found

    def read(self, key: str) -> bytes:
        """See `Place.read`."""
        return (Path(self.output) / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        """See `Place.write`."""
        (Path(self.output) / key).write_bytes(content)

    def delete(self, key: str) -> None:
        """See `Place.delete`."""
        (Path(self.output) / key).unlink(missing_ok=True)


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket.

    Attributes:
        client: A plain boto3 client, which goes past the proxy that breaks what the job asks for.
    """

    source: str
    output: str
    client: Any
    bucket: str
    prefix: str
    look_every_s: float = 0.3

    def versions(self) -> dict[str, str]:
        """See `Place.versions`."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}/"
        )
        found = [each for page in pages for each in page.get("Contents", ())]
        return {
            each["Key"].removeprefix(f"{self.prefix}/"): f"{each['ETag']}{each['LastModified']}"
            for each in found
        }

    def read(self, key: str) -> bytes:
        """See `Place.read`."""
        try:
            found = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")
        except self.client.exceptions.NoSuchKey as error:
            raise FileNotFoundError(key) from error
        content: bytes = found["Body"].read()
        return content

    def write(self, key: str, content: bytes) -> None:
        """See `Place.write`."""
        self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}", Body=content)

    def delete(self, key: str) -> None:
        """See `Place.delete`."""
        self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")


@dataclass
class Glance:
    """What a place holds at one moment, as the names of its objects tell it.

    Attributes:
        outputs: Versions of what stands under outputs' names.
        receipts: Versions of segments' receipts, by segment key.
        parts: Keys of parts, by segment key.
        finished: Output keys that have a receipt.
        num_failures: Attempts whose failure is on record.
    """

    outputs: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    finished: set[str] = field(default_factory=set)
    num_failures: int = 0

    @property
    def unjoined(self) -> list[str]:
        """Keys of committed segments whose video is not finished."""
        return [
            key
            for key in sorted(self.receipts)
            if output_key(key) not in self.finished and self.parts.get(key)
        ]


def glance(place: Place) -> Glance:
    """What `place` holds now."""
    seen = Glance()
    for key, version in place.versions().items():
        match PurePosixPath(key).parts:
            case (folder, "receipts", name) if folder == _STATE:
                seen.receipts[name.removesuffix(".json")] = version
            case (folder, "segments", segment_key, _) if folder == _STATE:
                seen.parts[segment_key].append(key)
            case (folder, "outputs", name) if folder == _STATE:
                seen.finished.add(name.removesuffix(".json"))
            case (folder, "failures", _, _) if folder == _STATE:
                seen.num_failures += 1
            case (folder, *_) if folder != _STATE and key != "report.json":
                seen.outputs[key] = version
    return seen


def output_key(segment_key: str) -> str:
    """Names the output that a segment belongs to."""
    return segment_key.rpartition("-")[0]
