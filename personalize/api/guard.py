"""The door of the server: who may enter, how large and how slow a request may be, and its log."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from personalize.api.direct import DirectPath, direct_path
from personalize.api.errors import ApiError, our_fault
from personalize.api.keys import KeyEntry
from personalize.api.monitor import LOGGER, log
from personalize.api.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"})
OPEN_FOLDER = "/page/"
ADMIN_FOLDER = "/admin/"
GONE = 499
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guard:
    """Middleware that reads the whole request before anything else sees it.

    It checks the key, counts the request against the key's rate, reads the body within its size
    and time, cancels the work when the client goes away, and writes one line of log without the
    request's or the answer's text.
    """

    def __init__(self, application: Application, service: Service) -> None:
        self._application = application
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        visit = _Visit(scope, send)
        self._service.monitor.in_flight.inc()
        try:
            visit.key = self._entered(scope, visit.headers)
            body = await self._body(visit.headers, receive)
            await self._answered(scope, visit, body, receive)
        except ApiError as error:
            error.headers["Connection"] = "close"  # what was not read of a body is in the way
            await error.response()(scope, receive, visit.send)
        finally:
            self._service.monitor.in_flight.dec()
            self._noted(scope, visit)

    def _entered(self, scope: Scope, headers: dict[str, str]) -> KeyEntry | None:
        path = scope["path"]
        if self._service.local_only:
            _check_local(headers)
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return None
        entry = self._service.keys.entry_of(headers)
        if entry is None:
            return None
        self._service.keys.count(entry)
        if path.startswith(ADMIN_FOLDER) and not entry.admin:
            raise ApiError(403, f"The key {entry.name} is not an administrator's.", "not_admin")
        return entry

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        limits = self._service.limits
        announced = headers.get("content-length", "0")
        longer = len(announced) > len(str(limits.body_bytes))
        if announced.isdecimal() and (longer or int(announced) > limits.body_bytes):
            raise _too_large(limits.body_bytes)
        parts, size = [], 0
        try:
            async with asyncio.timeout(limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(GONE, "The client went away.", "gone")
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limits.body_bytes:
                        raise _too_large(limits.body_bytes)
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise ApiError(
                408, f"The body did not arrive within {limits.body_s:g} s.", "body_too_slow"
            ) from None

    async def _answered(self, scope: Scope, visit: "_Visit", body: bytes, receive: Receive) -> None:
        gone = asyncio.ensure_future(receive())
        sent = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal sent
            if sent:
                return await asyncio.shield(gone)
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        direct = direct_path(scope["method"], scope["path"], visit.headers)
        if direct is None:
            work = asyncio.ensure_future(self._application(scope, replay, visit.send))
        else:
            visit.route = scope["path"]
            work = asyncio.ensure_future(self._direct(direct, body, scope, visit))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                visit.status = visit.status or GONE
                return
            failure = work.exception()
        finally:
            work.cancel()
            gone.cancel()
        if failure is not None:
            LOGGER.error("failed", exc_info=failure, extra={"facts": {"id": visit.id}})
            if not visit.status:
                await our_fault().response()(scope, receive, visit.send)

    async def _direct(self, direct: DirectPath, body: bytes, scope: Scope, visit: "_Visit") -> None:
        response = await direct(self._service, body)
        await response(scope, _nothing, visit.send)

    def _noted(self, scope: Scope, visit: "_Visit") -> None:
        route = visit.route or getattr(scope.get("route"), "path", "none").replace(":path", "")
        took_s = time.perf_counter() - visit.started_s
        status = visit.status or 500
        self._service.monitor.request(
            route=route,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            status=status,
            took_s=took_s,
        )
        if scope["path"] not in OPEN_PATHS and not scope["path"].startswith(OPEN_FOLDER):
            log(
                "request",
                id=visit.id,
                method=scope["method"],
                route=route,
                status=status,
                ms=round(1000 * took_s, 2),
                key=None if visit.key is None else visit.key.name,
            )


class _Visit:
    """What is remembered of a request until it is logged."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.id = secrets.token_hex(8)
        self.started_s = time.perf_counter()
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self.key: KeyEntry | None = None
        self.status = 0
        self.route = ""
        self._send = send

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send on, with the request's id among the headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                (b"x-request-id", self.id.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
        await self._send(message)


async def _nothing() -> MutableMapping[str, Any]:
    """A response that needs nothing more from its client."""
    return {"type": "http.disconnect"}


def _check_local(headers: dict[str, str]) -> None:
    """Refuse what a page of another site had its reader's browser send here.

    Such a page reaches a server that asks for no key by its address, or by a name of its own that
    it points to this machine.

    Raises:
        ApiError: If the request names another host, or comes from another site.
    """
    host = headers.get("host", "localhost")
    origin = headers.get("origin", f"http://{host}")
    if _host_name(f"//{host}") not in _LOCAL_NAMES or origin != f"http://{host}":
        raise ApiError(
            403,
            "Without keys this server answers on this machine alone, as localhost and to its own "
            "page; set `keys` to serve it under another name.",
            "not_local",
        )


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # brackets that enclose no address
        return None


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"The body is larger than {most} bytes.", "body_too_large")
