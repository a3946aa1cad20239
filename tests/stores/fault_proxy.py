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
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

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


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self._body()
            with proxy.lock:
                range_ = self.headers.get("Range", "")
                request = Request(len(proxy.traffic.requests), self.command, self.path, range_)
                proxy.traffic.requests.append(request)
                proxy.traffic.bytes_up += len(body)
                fault = proxy.choose(request)
                if fault is not None:
                    proxy.traffic.faults.append((request, fault))
            time.sleep(proxy.latency_s)
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
                    time.sleep(proxy.silence_s)
                    self._reset()
                case _:
                    self._pass_on(fault, body)

        def _body(self) -> bytes:
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                return b"".join(self._chunks())
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass

        def handle_expect_100(self) -> bool:
            return True  # `_body` does it, after the fault was chosen for nothing yet

        def _pass_on(self, fault: Fault | None, body: bytes) -> None:
            connection = http.client.HTTPConnection(*proxy.target, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in (*_HOP_BY_HOP, "expect")}
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            if fault is Fault.LOST_ANSWER:
                return self._reset()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in (*_HOP_BY_HOP, "content-length"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            length = answer.getheader("Content-Length", "0") if is_head else str(len(content))
            if fault is Fault.TRUNCATED and not is_head:
                content = content[: len(content) // 2]
                length = str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            if fault is Fault.CUT and not is_head:
                self.wfile.write(content[: len(content) // 2])
                return self._reset()
            if not is_head:
                self.wfile.write(content)
                with proxy.lock:
                    proxy.traffic.bytes_down += len(content)
            return None

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
            try:
                super().handle_one_request()
            except OSError:  # the client gave up
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    return Handler
