"""An HTTP server on this machine that answers as receivers do on a good day and on a bad one."""

from __future__ import annotations

import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATH = "/planted-path?token=planted-token"

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Answer = answering(204)
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def base(self) -> str:
        return f"http://planted-user:planted-word@{self.address}"

    @property
    def url(self) -> str:
        return f"{self.base}{PATH}"

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is no error here."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.server.answer(self)

    do_GET = do_POST  # noqa: N815 - the standard library's name

    def log_message(self, *words: object) -> None: ...


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def hang(handler: http.server.BaseHTTPRequestHandler) -> None:
    time.sleep(5)


def slow_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for i in range(50):
        handler.wfile.write(f"x-{i}: y\r\n".encode())
        time.sleep(0.1)
    handler.wfile.write(b"\r\n")


def slow_body(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(50):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def garbage(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"planted-token is what I think of HTTP\r\n\r\n")


@contextmanager
def receiving() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
