"""Ceph's S3 server on this machine's loopback, with one monitor and one store in memory behind it.

It needs Debian's packages `radosgw`, `ceph-mon`, `ceph-osd` and `ceph-common`, installed, or unpacked with
`dpkg -x` into any folder that PATH, LD_LIBRARY_PATH and PYTHONPATH then name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.stores.s3_server import CREDENTIALS

_START_S = 60.0


def is_installed() -> bool:
    """Whether what it needs is found."""
    return all(map(shutil.which, ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool")))


@contextlib.contextmanager
def radosgw_server(num_bytes: int = 1 << 30) -> Iterator[str]:
    """The endpoint's URL of a server that runs while the block lasts, and takes `CREDENTIALS` alone.

    Args:
        num_bytes: That it has room for, in memory.
    """
    with tempfile.TemporaryDirectory(prefix="rgw") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        port = _free_port()
        config = folder / "ceph.conf"
        monitor = f"127.0.0.1:{_free_port()}"
        fsid = str(uuid.uuid4())
        config.write_text(_config(folder, monitor, fsid, num_bytes))
        env = {**os.environ, "CEPH_CONF": str(config), "TMPDIR": name}

        def once(*command: str) -> None:
            subprocess.run(command, env=env, check=True, capture_output=True, timeout=_START_S)

        def running(*command: str) -> None:
            log = stack.enter_context((folder / f"{command[0]}.out").open("wb"))
            stack.enter_context(_process(command, env, log.fileno()))

        once(
            "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:{monitor}]", str(folder / "monmap")
        )
        once("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "monmap"))
        running("ceph-mon", "-f", "-i", "a")
        osd = str(uuid.uuid4())
        (folder / "osd").mkdir()
        once("ceph", "osd", "new", osd)
        once("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        running("ceph-osd", "-f", "-i", "0")
        keys = ("--access-key", CREDENTIALS["AWS_ACCESS_KEY_ID"])
        secret = ("--secret-key", CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
        once("radosgw-admin", "user", "create", "--uid", "tests", "--display-name", "tests", *keys, *secret)
        running("radosgw", "-f", "-n", "client.rgw", "--rgw-frontends", f"beast endpoint=127.0.0.1:{port}")
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"


def _config(folder: Path, monitor: str, fsid: str, num_bytes: int) -> str:
    libraries = next(Path(str(shutil.which("ceph-osd"))).parents[1].glob("lib/*/rados-classes")).parent
    settings = {
        "fsid": fsid,
        "mon host": f"v1:{monitor}",
        "public addr": "127.0.0.1",
        "cluster addr": "127.0.0.1",
        **{f"auth {which} required": "none" for which in ("cluster", "service", "client")},
        **{f"ms {which} mode": "crc" for which in ("cluster", "service", "client", "mon client")},
        "mon data": folder / "mon",
        "osd data": folder / "osd",
        "run dir": folder,
        "admin socket": "",
        "log file": folder / "$name.log",
        "crash dir": folder,
        "osd class dir": libraries / "rados-classes",
        "erasure code dir": libraries / "ceph/erasure-code",
        "plugin dir": libraries / "ceph",
        "osd objectstore": "memstore",
        "memstore device bytes": num_bytes,
        "osd crush chooseleaf type": 0,
        "osd pool default size": 1,
        "osd pool default min size": 1,
        "osd pool default pg num": 1,
        "osd pool default pg autoscale mode": "off",
        "mon allow pool size one": "true",
        "rgw data": folder / "rgw",
        "rgw dns name": "127.0.0.1",
    }
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())


@contextlib.contextmanager
def _process(command: tuple[str, ...], env: dict[str, str], log: int) -> Iterator[None]:
    with subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    give_up_at = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.2)
        else:
            return


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
