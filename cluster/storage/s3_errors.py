"""What an S3 store says of a call that failed, as errors that say who must act."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import ProtocolError

from cluster.storage.base import MissingObjectError
from sr_core.errors import FrameliftError, MediaError, StorageError

# A body that breaks off, which boto3 does not read again by itself.
BODY_ERRORS = (
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
    ConnectionClosedError,
    ProtocolError,
)
_NO_CONNECTION = (EndpointConnectionError, ConnectTimeoutError, HTTPClientError, *BODY_ERRORS)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_MISSING = {"NoSuchKey", "404", "NotFound"}
_ARCHIVED = "InvalidObjectState"
_GIVE_CREDENTIALS = "give them in the environment, in ~/.aws or as the machine's role, as for every AWS tool"
_NEXT_STEPS = {
    "NoSuchBucket": "make the bucket, or check its name and the endpoint",
    "AccessDenied": "give these credentials the right to get, put, list and delete there",
    "403": "give these credentials the right to get, put, list and delete there",
    "InvalidAccessKeyId": f"check the credentials: {_GIVE_CREDENTIALS}",
    "SignatureDoesNotMatch": f"check the credentials and the region: {_GIVE_CREDENTIALS}",
    "ExpiredToken": f"get new credentials: {_GIVE_CREDENTIALS}",
    "PermanentRedirect": "give the bucket's own region: storage.region, --region or AWS_REGION",
    "AuthorizationHeaderMalformed": "give the bucket's own region: storage.region, --region or AWS_REGION",
}
_THROTTLED = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout"}


def code_of(error: Exception) -> str:
    """What the store calls the error; the HTTP status where it has no word for it; empty if it is not its."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", "")) or str(_status(error))


def is_missing(error: Exception) -> bool:
    """Whether there is no such object."""
    return code_of(error) in _MISSING


def is_precondition_failed(error: Exception) -> bool:
    """Whether the object is not at the version that was asked for."""
    return code_of(error) in ("PreconditionFailed", "412")


def storage_error(error: Exception, where: str) -> StorageError:
    """Why a call about the object `where` failed."""
    if is_missing(error):
        return MissingObjectError("there is no such object", where=where)
    if isinstance(error, ClientError):
        code, status = code_of(error), _status(error)
        message = str(error.response.get("Error", {}).get("Message", ""))
        unavailable = status >= 500 or status == 429 or code in _THROTTLED
        return StorageError(
            "the store is not available" if unavailable else "the store refuses this",
            where=where,
            got=f"{code}: {message}" if message and message != code else f"{code} (HTTP {status})",
            unavailable=unavailable,
            next_step=_NEXT_STEPS.get(code, ""),
        )
    if isinstance(error, _NO_CREDENTIALS):
        return StorageError(
            "there are no credentials for this store", where=where, next_step=_GIVE_CREDENTIALS
        )
    if isinstance(error, _NO_CONNECTION):
        return StorageError(
            "the store does not answer",
            where=where,
            got=_said(error),
            unavailable=True,
            next_step="check the endpoint and the network; what is done stays done",
        )
    return StorageError("the store cannot be used", where=where, got=_said(error))


def source_error(error: Exception, where: str) -> FrameliftError:
    """As `storage_error`, of a source: what is wrong with that one object alone fails that one input."""
    code = code_of(error)
    if code == _ARCHIVED:
        return MediaError(
            "the object is in an archive tier",
            where=where,
            got=str(getattr(error, "response", {}).get("Error", {}).get("StorageClass", "")) or code,
            next_step="restore it first, then run the same command again",
        )
    if code in ("AccessDenied", "403"):
        return MediaError("the object may not be read", where=where, got=code, next_step=_NEXT_STEPS[code])
    return storage_error(error, where)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _said(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


ERRORS = (ClientError, BotoCoreError, ProtocolError)
"""What a call of boto3 may raise."""
