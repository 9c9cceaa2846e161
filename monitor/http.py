"""HTTP: `/metrics`, `/livez`, `/readyz`, the call-back of retraining, and the server that carries them in a thread of the service."""

from __future__ import annotations

import asyncio
import hmac
import socket
import threading
from collections.abc import Callable
from typing import Annotated, Protocol

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from monitor.errors import UserError

START_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 5.0
REPORT_BYTES_MAX = 16_384
REPORT_SECONDS_MAX = 10.0

Render = Callable[[str], tuple[bytes, str]]
Probe = Callable[[], str | None]


class Reply(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def text(self) -> str: ...


class Reports(Protocol):
    """Who takes what a retraining job tells of itself, and knows its token."""

    def is_allowed(self, request: str, authorization: str) -> bool: ...
    def receive(self, request: str, body: bytes) -> Reply: ...


def build_app(
    *, render: Render, live: Probe, ready: Probe, token: str | None = None, reports: Reports | None = None
) -> FastAPI:
    """The application. `render` maps an Accept header to a body and its content type; a probe returns None when all is well, else why not.

    With `token`, everything but the probes asks for `Authorization: Bearer TOKEN`: the caller passes it for an address beyond loopback.
    The call-back, which is there with `reports`, asks for the token of its request instead.
    """
    app = FastAPI(title="Driftline", openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None)

    def authorised(authorization: Annotated[str, Header()] = "") -> None:
        if token is not None and not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "a token is needed", headers={"WWW-Authenticate": "Bearer"})

    @app.get("/metrics", dependencies=[Depends(authorised)], response_class=Response)
    def metrics(accept: Annotated[str, Header()] = "") -> Response:
        body, content_type = render(accept)
        # the header as it stands: Response would add a second charset
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    @app.get("/livez")
    def livez() -> JSONResponse:
        return _probed(live)

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        return _probed(ready)

    if reports is not None:
        _add_call_back(app, reports)
    return app


def _add_call_back(app: FastAPI, reports: Reports) -> None:
    @app.post("/api/v1/retraining/{request_id}/events", status_code=202)
    async def events(request_id: str, request: Request, authorization: Annotated[str, Header()] = "") -> JSONResponse:
        """What a retraining job says of itself: `{"status": "running" | "succeeded" | ..., "version", "run_id", "url", "message"}`."""
        if not reports.is_allowed(request_id, authorization):  # before a byte of the body is read
            raise HTTPException(401, "the token of this request is needed", headers={"WWW-Authenticate": "Bearer"})
        try:
            async with asyncio.timeout(REPORT_SECONDS_MAX):
                body = await _bounded(request)
        except TimeoutError:
            raise HTTPException(408, "the report did not come in time") from None
        if body is None:
            raise HTTPException(413, f"a report holds at most {REPORT_BYTES_MAX} bytes")
        reply = await run_in_threadpool(reports.receive, request_id, body)
        if reply.status != 202:
            raise HTTPException(reply.status, reply.text)
        return JSONResponse({"status": reply.text}, status_code=202)


async def _bounded(request: Request) -> bytes | None:
    """The body; None for one that is too long, of which no more is read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > REPORT_BYTES_MAX:
            return None
        parts.append(part)
    return b"".join(parts)


class HttpServer:
    """Serves `app` from a thread of its own. `start` returns when requests are answered, `stop` when none is being answered.

    Port 0 takes a free one; `address` tells which. The process's signals stay with their owner.
    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._socket = _bound(host, port)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=int(STOP_SECONDS_MAX),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._ended = threading.Event()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Raises RuntimeError when the server does not come up."""
        self._thread.start()
        waited = 0.0
        while not self._server.started and waited < START_SECONDS_MAX:
            if self._ended.wait(0.01):
                break
            waited += 0.01
        if not self._server.started:
            raise RuntimeError("the HTTP server did not start")

    def stop(self) -> None:
        """Answer what is under way, then close. Safe to call twice, and without `start`."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS_MAX + 1)
        self._socket.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._ended.set()


def _probed(probe: Probe) -> JSONResponse:
    reason = probe()
    if reason is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "unavailable", "reason": reason}, status_code=503)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UserError(
            f"http.listen: cannot listen on {host}:{port}: {error.strerror or error} (choose another address)"
        ) from error
    return listener
