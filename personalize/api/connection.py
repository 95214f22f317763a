"""A connection whose client has only so long to say what it wants."""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable
from typing import Any, final

MOST_HEAD_BYTES = 256 * 1024
_HEAD_TOO_LARGE = (
    b'{"error":{"message":"The head of the request is too large.",'
    b'"type":"invalid_request_error","code":"head_too_large","param":null}}'
)


@final
class PatientConnection(asyncio.Protocol):
    """Hands bytes to uvicorn's own protocol, and closes the connection if a head never ends.

    uvicorn waits without limit for the rest of a request's head, so a client that sends a byte now
    and then would hold a connection for ever, and one that sends headers without end would fill the
    memory. Nor does it give up a client that reads nothing of its answer.

    Args:
        inner: uvicorn's protocol for this connection.
        head_s: Time for the head of a request, from its first byte or from the connection's start.
        reading_s: Time in which a client has to read something of an answer that waits.
    """

    def __init__(self, inner: Any, *, head_s: float, reading_s: float) -> None:  # noqa: ANN401  (two classes of uvicorn)
        self._inner = inner
        self._head_s = head_s
        self._timer: asyncio.TimerHandle | None = None
        self._reading_s = reading_s
        self._head_bytes = 0
        self._unread: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self.eof_received = inner.eof_received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a head."""
        self._transport = transport
        self._inner.connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Hand on, and stop waiting once a head is whole."""
        self._inner.data_received(data)
        cycle = self._inner.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop()
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse()
        elif self._timer is None:
            self._wait()

    def pause_writing(self) -> None:
        """Begin to wait for a client to read."""
        self._inner.pause_writing()
        self._check_reading(None)

    def resume_writing(self) -> None:
        """Stop waiting for it."""
        self._stop_checking()
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        self._stop_checking()
        self._inner.connection_lost(exc)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._head_s, self._give_up)

    def _stop(self) -> None:
        self._head_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._transport.close()

    def _refuse(self) -> None:
        self._transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % len(_HEAD_TOO_LARGE)
            + _HEAD_TOO_LARGE
        )
        self._transport.close()

    def _check_reading(self, before_bytes: int | None) -> None:
        """Cut the connection if as much waits to be read as some time ago."""
        waiting_bytes = self._transport.get_write_buffer_size() + self._sent_bytes()
        if before_bytes is not None and waiting_bytes >= before_bytes:
            self._transport.abort()
            return
        self._unread = asyncio.get_running_loop().call_later(
            self._reading_s, self._check_reading, waiting_bytes
        )

    def _sent_bytes(self) -> int:
        """What the system has of an answer and the client's system has not yet taken."""
        connected = self._transport.get_extra_info("socket")
        try:
            found = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:  # no connection over TCP
            return 0
        return int.from_bytes(found, sys.byteorder)

    def _stop_checking(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def patient(*, head_s: float, reading_s: float) -> Callable[..., PatientConnection]:
    """What uvicorn makes its connections with."""

    def made(**options: Any) -> PatientConnection:  # noqa: ANN401  (uvicorn's own)
        try:
            from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol
        except ImportError:
            from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol
        return PatientConnection(Protocol(**options), head_s=head_s, reading_s=reading_s)

    return made
