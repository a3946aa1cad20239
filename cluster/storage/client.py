"""boto3's clients: one for each way in which a store is spoken to, for as long as this process lasts."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from cluster.storage.address import S3Settings

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60.0
_MAX_ATTEMPTS = 4  # of boto3, with short pauses: a part of an upload is not lost to a single fault
_MAX_CONNECTIONS = 32

_clients_lock = threading.Lock()
_clients: dict[S3Settings, Any] = {}


def client_for(settings: S3Settings) -> Any:
    """This process's client for stores with these settings, which threads may share."""
    with _clients_lock:  # making one takes a while: threads that start together would all do it
        if settings in _clients:
            return _clients[settings]
        session = _session()
        client = _made(session, settings)
        if session.get_credentials() is not None:  # else the machine's role may only be late
            _clients[settings] = client
        return client


def _session() -> boto3.session.Session:
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    # Many workers that start on one machine ask for its role at once; botocore asks a single time, for 1 s.
    for name, least in (("metadata_service_num_attempts", 3), ("metadata_service_timeout", 2)):
        core.set_config_variable(name, max(least, core.get_config_variable(name)))
    return boto3.session.Session(botocore_session=core)


def _made(session: boto3.session.Session, settings: S3Settings) -> Any:
    options: Any = {"addressing_style": settings.addressing} if settings.addressing else None
    checksums: dict[str, Any] = (
        {
            "request_checksum_calculation": settings.checksums,
            "response_checksum_validation": settings.checksums,
        }
        if settings.checksums
        else {}
    )
    config = Config(
        retries={"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
        max_pool_connections=_MAX_CONNECTIONS,
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=settings.timeout_seconds or _READ_TIMEOUT_S,
        s3=options,
        **checksums,
    )
    return session.client(
        "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config
    )


def _timestamp(text: Any) -> datetime:
    """As botocore reads times, whose parser takes most of the time of a long listing."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)
