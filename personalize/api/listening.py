"""The socket that the server listens on."""

import socket

from data_prep.errors import InputError

BACKLOG = 2048
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound but takes no connection yet.

    Binding comes before anything is loaded, so that a taken port is known at once.

    Raises:
        InputError: If there is no such address, or it is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named as TCP, because only then does asyncio send answers without waiting to fill a packet
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise _cannot_listen(host, port, error) from error
    return listening


def take_connections(listening: socket.socket) -> None:
    """Take connections; only now is it known whether another server bound the port as well.

    Raises:
        InputError: If one did.
    """
    host, port = listening.getsockname()[:2]
    try:
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _cannot_listen(host, port, error) from error


def address_of(listening: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _cannot_listen(host: str, port: int, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error).rstrip(".")
    return InputError(f"Cannot listen on {host}:{port}: {reason}; choose another --port.")
