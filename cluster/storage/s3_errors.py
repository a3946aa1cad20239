"""What an S3 store says of a call that failed, as errors that say who must act."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from cluster.storage.base import MissingObjectError
from sr_core.errors import FrameliftError, MediaError, StorageError

ERRORS = (ClientError, BotoCoreError, ProtocolError)
"""What a call of boto3 may raise."""

# Nobody answered, or the answer broke off on its way.
_UNHEARD = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
    ProtocolError,
)
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
_MISSING = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}
_REPLACED = {"PreconditionFailed", "412"}
_ARCHIVED = "InvalidObjectState"
# Of 4xx, those that the same call need not meet again.
_PASSING = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "OperationAborted",
}
_GIVE_CREDENTIALS = "give them in the environment, in ~/.aws or as the machine's role, as for every AWS tool"
_GIVE_RIGHTS = "give these credentials the right to get, put, list and delete there"
_GIVE_REGION = "give the bucket's own region: storage.region, --region or AWS_REGION"
# What the store says beside these may repeat a part of the credentials.
_ABOUT_CREDENTIALS = {
    "InvalidAccessKeyId": f"check the credentials: {_GIVE_CREDENTIALS}",
    "SignatureDoesNotMatch": f"check the credentials and the region: {_GIVE_CREDENTIALS}",
    "AuthorizationHeaderMalformed": _GIVE_REGION,
    "ExpiredToken": f"get new credentials: {_GIVE_CREDENTIALS}",
    "InvalidToken": f"get new credentials: {_GIVE_CREDENTIALS}",
    "TokenRefreshRequired": f"get new credentials: {_GIVE_CREDENTIALS}",
}
_NEXT_STEPS = {
    **_ABOUT_CREDENTIALS,
    _ARCHIVED: "restore it first, then run the same command again",
    "NoSuchBucket": "make the bucket, or check its name and the endpoint",
    "AccessDenied": _GIVE_RIGHTS,
    "403": _GIVE_RIGHTS,
    "PermanentRedirect": _GIVE_REGION,
    "301": _GIVE_REGION,
    "RequestTimeTooSkewed": "set this machine's clock",
}


class ReplacedError(StorageError):
    """The object is not, or not any more, at the version that was asked for."""


def code_of(error: BaseException | None) -> str:
    """What the store calls the error, or what caused it; the HTTP status where it has no word for it.

    Empty where it is none of the store's.
    """
    if isinstance(error, StorageError):
        error = error.__cause__
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", "")) or str(_status(error))


def storage_error(error: Exception, where: str) -> StorageError:
    """Why a call about the object `where` failed; `unavailable` where the same call may succeed later."""
    if isinstance(error, ClientError):
        return _refusal(error, where)
    if isinstance(error, _NO_CREDENTIALS):
        return StorageError(
            "there are no credentials for this store", where=where, next_step=_GIVE_CREDENTIALS
        )
    if isinstance(error, SSLError):
        return StorageError(
            "no safe connection can be made to the store",
            where=where,
            got=_said(error),
            next_step="check the endpoint's certificate, or name those to trust in AWS_CA_BUNDLE",
        )
    if isinstance(error, _UNHEARD):
        return StorageError(
            "the store does not answer",
            where=where,
            got=_said(error),
            unavailable=True,
            next_step="check the endpoint and the network; what is done stays done",
        )
    return StorageError("the store cannot be used", where=where, got=_said(error))


def source_error(error: StorageError, key: str) -> FrameliftError:
    """As `error`, of a source: what is wrong with that one object alone fails that one input."""
    if code_of(error) in (_ARCHIVED, "AccessDenied", "403"):
        return MediaError(error.what, where=key, got=error.got, next_step=error.next_step)
    return error


def archived(key: str, storage_class: str) -> MediaError:
    """The source `key` cannot be read before somebody has it restored."""
    return MediaError(
        "the object is in an archive tier", where=key, got=storage_class, next_step=_NEXT_STEPS[_ARCHIVED]
    )


def _refusal(error: ClientError, where: str) -> StorageError:
    code, status = code_of(error), _status(error)
    if code in _MISSING:
        return MissingObjectError("there is no such object", where=where)
    if code in _REPLACED:
        return ReplacedError(
            "the object was replaced while it was read", where=where, next_step="run the same command again"
        )
    unavailable = status >= 500 or status == 429 or code in _PASSING
    what = "the store is not available" if unavailable else "the store refuses this"
    if code == _ARCHIVED:
        what = "the object is in an archive tier"
    message = "" if code in _ABOUT_CREDENTIALS else str(error.response.get("Error", {}).get("Message", ""))
    return StorageError(
        what,
        where=where,
        got=f"{code}: {message}" if message and message != code else f"{code} (HTTP {status})",
        unavailable=unavailable,
        next_step=_NEXT_STEPS.get(code, ""),
    )


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _said(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
