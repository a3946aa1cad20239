"""A real S3 server over HTTP on this machine's loopback, kept in memory."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

# What any test may use: the server takes every key.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint's URL of a server that runs while the block lasts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells of every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint_url: str) -> str:
    """Makes a bucket and returns its name."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    with contextlib.closing(client(endpoint_url)) as plain:
        plain.create_bucket(Bucket=name)
    return name


def client(endpoint_url: str):  # type: ignore[no-untyped-def]
    """A plain boto3 client, to look at the server without any of Framelift's code."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )


@contextlib.contextmanager
def credentials() -> Iterator[None]:
    """Has this process and its children use the server's credentials while the block lasts."""
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
