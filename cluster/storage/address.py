"""Where a store is: a folder's path, or `s3://bucket/prefix`. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sr_core.errors import SpecError

_SCHEME = "s3://"


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class S3Settings:
    """How an S3-compatible store is spoken to. What is None comes from the usual AWS environment.

    Credentials are no part of it: they come from boto3's usual chain alone.

    Attributes:
        endpoint_url: Of a store other than AWS, as `https://minio.example:9000`.
        region: Its region.
        addressing: Where the bucket's name stands: in the `path`, or as a `virtual` host.
        checksums: Whether requests carry and responses are asked for checksums: `when_supported`, or only
            `when_required`, as older stores need.
        timeout_seconds: How long a connection may stay silent before the call is tried again.
    """

    endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^\s@/?#]+(/[^\s@?#]*)?$")
    region: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")
    addressing: Literal["auto", "path", "virtual"] | None = None
    checksums: Literal["when_supported", "when_required"] | None = None
    timeout_seconds: float | None = Field(default=None, gt=0, le=3600)


_SETTINGS = TypeAdapter(S3Settings)


@dataclass(frozen=True)
class S3Address:
    """A prefix in a bucket.

    Attributes:
        prefix: Without slashes at its ends; empty for the whole bucket.
    """

    bucket: str
    prefix: str = ""
    settings: S3Settings = S3Settings()

    @classmethod
    def parse(cls, url: str) -> S3Address:
        """What `s3://bucket/prefix` says, with settings after a `?`, as `s3://b/p?endpoint_url=http://…`.

        Raises:
            SpecError: It is no such URL; nothing of what could be a secret in it is repeated.
        """
        place, _, query = url.partition("?")
        bucket, _, prefix = place.removeprefix(_SCHEME).partition("/")
        if "@" in bucket or ":" in bucket:
            raise SpecError(
                "credentials do not belong into an address",
                where="s3://…",
                expected="s3://bucket/prefix",
                next_step="give them in the environment or in ~/.aws, as for every AWS tool",
            )
        if not place.startswith(_SCHEME) or not bucket:
            raise SpecError("this is no address of a bucket", where=place, expected="s3://bucket/prefix")
        return cls(bucket, prefix.strip("/"), _parsed(query, place))

    @property
    def url(self) -> str:
        """What `parse` takes."""
        said = _SETTINGS.dump_python(self.settings, exclude_none=True)
        place = f"{_SCHEME}{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place}?{urlencode(said, safe=':/')}" if said else place


def is_s3(url: str) -> bool:
    """Whether `url` is that of an S3 store, and not a path."""
    return url.startswith(_SCHEME)


def with_settings(url: str, settings: S3Settings) -> str:
    """`url` with `settings`, as far as it is that of an S3 store and says nothing else itself.

    Raises:
        SpecError: It begins like an S3 URL and is none.
    """
    if not is_s3(url):
        return url
    address = S3Address.parse(url)
    own = _SETTINGS.dump_python(address.settings, exclude_none=True)
    common = _SETTINGS.dump_python(settings, exclude_none=True)
    return S3Address(address.bucket, address.prefix, S3Settings(**{**common, **own})).url


def split_url(url: str) -> tuple[str, str]:
    """(the store's URL, the key in it) of one object, given by its own URL or path.

    Raises:
        SpecError: It names no object.
    """
    if not is_s3(url):
        path = Path(url).absolute()
        return str(path.parent), path.name
    address = S3Address.parse(url)
    folder, _, name = address.prefix.rpartition("/")
    if not name:
        raise SpecError("this names a bucket and no object in it", where=url)
    return S3Address(address.bucket, folder, address.settings).url, name


def join_url(store_url: str, key: str) -> str:
    """The URL or path of an object, which `split_url` takes apart."""
    if not is_s3(store_url):
        return str(Path(store_url) / key)
    address = S3Address.parse(store_url)
    prefix = f"{address.prefix}/{key}" if address.prefix else key
    return S3Address(address.bucket, prefix, address.settings).url


def _parsed(query: str, place: str) -> S3Settings:
    try:
        return _SETTINGS.validate_python(dict(parse_qsl(query, keep_blank_values=True)))
    except ValidationError as error:
        first = error.errors()[0]
        raise SpecError(
            "a setting behind the '?' of this address is wrong",
            where=place,
            got=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            expected="endpoint_url, region, addressing, checksums or timeout_seconds",
            next_step="a prefix that holds a '?' cannot be named",
        ) from error
