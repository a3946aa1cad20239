"""A server that answers what a test says: for stores that behave as none that can be started here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What the server says; to HEAD, without the body."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Stub:
    """A running server.

    Attributes:
        answer: Gives what is said to a request with these headers.
        methods: Of the requests so far.
    """

    answer: Callable[[Mapping[str, str]], Answer]
    url: str = ""
    methods: list[str] = field(default_factory=list)

    @property
    def store_url(self) -> str:
        """Of a store there, with a prefix."""
        return f"s3://some-bucket/prefix?endpoint_url={self.url}"


def refusing(status: int, code: str, message: str = "told by the store") -> Callable[..., Answer]:
    """Answers whatever is asked with an error, as S3 words it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return lambda headers: Answer(status, body, {"Content-Type": "application/xml"})


@contextlib.contextmanager
def stub_server(
    answer: Callable[[Mapping[str, str]], Answer] = lambda headers: Answer(501),
) -> Iterator[Stub]:
    """A server that runs while the block lasts; its answer may be replaced meanwhile."""
    stub = Stub(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.methods.append(self.command)
            said = stub.answer(self.headers)
            self.send_response_only(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
