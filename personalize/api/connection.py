"""A connection whose client has only so long to say what it wants."""

import asyncio
from collections.abc import Callable
from typing import Any, final

Inner = Callable[..., Any]


@final
class PatientConnection(asyncio.Protocol):
    """Hands bytes to uvicorn's own protocol, and closes the connection if a head never ends.

    uvicorn waits without limit for the rest of a request's head, so a client that sends a byte now
    and then would hold a connection for ever.

    Args:
        inner: uvicorn's protocol for this connection.
        head_s: Time for the head of a request, from its first byte or from the connection's start.
    """

    def __init__(self, inner: Any, *, head_s: float) -> None:  # noqa: ANN401  (two classes of uvicorn)
        self._inner = inner
        self._head_s = head_s
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.BaseTransport | None = None
        self.pause_writing = inner.pause_writing
        self.resume_writing = inner.resume_writing
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
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        self._inner.connection_lost(exc)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._head_s, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._transport is not None:
            self._transport.close()


def patient(head_s: float) -> Callable[..., PatientConnection]:
    """What uvicorn makes its connections with."""

    def made(**options: Any) -> PatientConnection:  # noqa: ANN401  (uvicorn's own)
        try:
            from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol
        except ImportError:
            from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol
        return PatientConnection(Protocol(**options), head_s=head_s)

    return made
