"""An HTTP proxy before an S3 server: counts what passes, slows it down, and breaks it on request."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


class Fault(Enum):
    """What can happen to a request."""

    UNAVAILABLE = "503 ServiceUnavailable, the server is not asked"
    SLOW_DOWN = "503 SlowDown, the server is not asked"
    INTERNAL = "500 InternalError, the server is not asked"
    RESET = "the connection is reset before the server is asked"
    LOST_ANSWER = "the server does what it is asked, and the connection is reset before it can say so"
    SILENCE = "the answer never comes: the connection stays silent until the client gives up"
    CUT = "the connection is closed in the middle of the answer's body"
    TRUNCATED = "the answer's body is shorter than it should be, with a Content-Length that fits"


@dataclass(frozen=True)
class Request:
    """One request as it came in.

    Attributes:
        number: From 0 on, over all requests of the proxy.
        path: With its query.
        range: The Range header; empty without one.
    """

    number: int
    method: str
    path: str
    range: str


@dataclass
class Traffic:
    """What passed a proxy.

    Attributes:
        bytes_down: Of answers' bodies.
        bytes_up: Of requests' bodies.
        faults: That happened, in their order.
    """

    requests: list[Request] = field(default_factory=list)
    bytes_down: int = 0
    bytes_up: int = 0
    faults: list[tuple[Request, Fault]] = field(default_factory=list)


class FaultProxy:
    """Passes requests on to `target_url`, less those that a fault is chosen for.

    Attributes:
        url: To be used in the place of `target_url`.
        traffic: What passed so far; may be replaced by a new one to count anew.
        choose: Says what is to happen to a request; None lets it pass.
        latency_s: That every request waits for.
        silence_s: How long `Fault.SILENCE` holds a connection, if its client does not give up earlier.
    """

    def __init__(self, target_url: str, latency_s: float = 0.0) -> None:
        target = urlsplit(target_url)
        self.target = (target.hostname or "127.0.0.1", target.port or 80)
        self.latency_s = latency_s
        self.silence_s = 30.0
        self.choose: Callable[[Request], Fault | None] = lambda request: None
        self.traffic = Traffic()
        self.lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take_in(self, method: str, path: str, range_: str, num_bytes: int) -> Fault | None:
        """Counts a request with a body of so many bytes, and chooses what happens to it."""
        with self.lock:
            request = Request(len(self.traffic.requests), method, path, range_)
            self.traffic.requests.append(request)
            self.traffic.bytes_up += num_bytes
            fault = self.choose(request)
            if fault is not None:
                self.traffic.faults.append((request, fault))
        return fault

    def count_down(self, num_bytes: int) -> None:
        """Counts so many bytes of an answer's body."""
        with self.lock:
            self.traffic.bytes_down += num_bytes

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def fault_proxy(target_url: str, latency_s: float = 0.0) -> Iterator[FaultProxy]:
    """A proxy that runs while the block lasts."""
    with FaultProxy(target_url, latency_s) as proxy:
        yield proxy


def every_third(fault: Fault) -> Callable[[Request], Fault | None]:
    """Chooses the fault for the first of every three requests."""
    numbers = count()
    return lambda request: fault if next(numbers) % 3 == 0 else None


class _Server(ThreadingHTTPServer):
    """Gives every connection to a `_Handler`, which finds the proxy here."""

    daemon_threads = True

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _proxy(self) -> FaultProxy:
        return self.server.proxy

    def do_GET(self) -> None:
        """Counts a request, and answers it as is chosen."""
        body = self._body()
        fault = self._proxy.take_in(self.command, self.path, self.headers.get("Range", ""), len(body))
        time.sleep(self._proxy.latency_s)
        self._answer(fault, body)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _answer(self, fault: Fault | None, body: bytes) -> None:
        match fault:
            case Fault.UNAVAILABLE:
                self._refuse(503, "ServiceUnavailable")
            case Fault.SLOW_DOWN:
                self._refuse(503, "SlowDown")
            case Fault.INTERNAL:
                self._refuse(500, "InternalError")
            case Fault.RESET:
                self._reset()
            case Fault.SILENCE:
                time.sleep(self._proxy.silence_s)
                self._reset()
            case _:
                self._pass_on(fault, body)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _pass_on(self, fault: Fault | None, body: bytes) -> None:
        answer, content = self._asked(body)
        if fault is Fault.LOST_ANSWER:
            self._reset()
            return
        is_head = self.command == "HEAD"
        sent = content[: len(content) // 2] if fault in (Fault.TRUNCATED, Fault.CUT) else content
        length = len(sent) if fault is Fault.TRUNCATED else len(content)
        self._send_head(answer, answer.getheader("Content-Length", "0") if is_head else str(length))
        if is_head:
            return
        if fault is not Fault.CUT:
            self._proxy.count_down(len(sent))  # before the client has all of it, and may look
        self.wfile.write(sent)
        if fault is Fault.CUT:
            self._reset()

    def _asked(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """What the server answers to the same request, and the answer's body."""
        connection = http.client.HTTPConnection(*self._proxy.target, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in (*_HOP_BY_HOP, "expect")}
        headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def _send_head(self, answer: http.client.HTTPResponse, length: str) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in (*_HOP_BY_HOP, "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()

    def _refuse(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>fault</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        """Ends the connection with RST, as a machine that is gone."""
        self.wfile.flush()
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def handle_one_request(self) -> None:
        """Ends the connection quietly where the client gave up."""
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
