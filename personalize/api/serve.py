"""`personalize serve`: one process that answers from artifacts until it is told to stop."""

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from data_prep.errors import InputError
from personalize.api.errors import ApiError
from personalize.api.keys import ApiKeys
from personalize.api.served import Current, Serving
from personalize.api.service import Service

_BACKLOG = 2048
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_GIL_TURN_S = 0.0005
"""A computing thread lets the others in this often; the default holds them up for 5 ms."""


def run(*, arguments: Sequence[str]) -> None:
    """Serve what a configuration names.

    Args:
        arguments: Options of the command line.

    Raises:
        InputError: If the configuration does not fit, what it names is damaged, or the address
            is taken.
    """
    _check_extra()
    import torch

    from personalize.api.app import create_app
    from personalize.api.monitor import log_to_stderr

    hangups: list[int] = []  # while it starts; it would end the process, or be lost
    signal.signal(signal.SIGHUP, lambda number, frame: hangups.append(number))
    options = read_configuration(arguments)
    torch.set_num_threads(options.threads)
    keys = ApiKeys([]) if options.keys is None else ApiKeys.from_file(options.keys)
    listening = _listening(options)
    current = Current(lambda: read_configuration(arguments))
    service = Service(
        current,
        keys=keys,
        limits=options.limits,
        begin=lambda: torch.set_num_threads(options.threads),  # torch keeps it per thread
        local_only=not keys.wanted and options.host in _LOOPBACK,
    )
    log_to_stderr()
    host, port = listening.getsockname()[:2]
    _listen(listening, options)
    sys.stderr.write(_welcome(service, _address(host, port)))
    sys.setswitchinterval(_GIL_TURN_S)
    server = uvicorn_server(create_app(service), options, hangups=hangups)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn raises it again when all is done
    server.run(sockets=[listening])


def uvicorn_server(app: Any, options: Serving, *, hangups: Sequence[int] = ()) -> Any:  # noqa: ANN401  (uvicorn is an extra)
    """A server for an application, not yet running; it reloads at once if it was hung up on."""
    import uvicorn

    from personalize.api.connection import patient

    service: Service = app.state.service

    async def with_signals(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  (ASGI)
        if scope["type"] == "lifespan":
            _reload_on_hangup(service, hangups)
        await app(scope, receive, send)

    return uvicorn.Server(
        uvicorn.Config(
            with_signals,
            http=patient(  # type: ignore[arg-type]  (it takes a factory)
                head_s=options.limits.header_s, reading_s=options.limits.body_s
            ),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(options.limits.drain_s),
        )
    )


def read_configuration(arguments: Sequence[str]) -> Serving:
    """The configuration that a command line names.

    Raises:
        InputError: If it cannot be read, or names something that is not there.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(
        prog="personalize serve",
        exit_on_error=False,
        description="Answer requests over HTTP, and show the page to steer by hand.",
    )
    parser.add_argument("--config", action="config", help="YAML file, such as serve.yaml")
    parser.add_class_arguments(Serving)
    try:
        parsed = parser.parse_args(list(arguments))
        options = parser.instantiate(parsed).as_dict()
        options.pop("config", None)
        return Serving(**options)
    except (ArgumentError, ValueError) as error:
        raise InputError(f"The configuration does not fit: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words if words.endswith(".") else f"{words}."


def _check_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"Serving needs {error.name}; install the extra [serve]: pip install "
            "'personalize[serve]'."
        ) from error


def _listening(options: Serving) -> socket.socket:
    """A socket that is bound before anything is loaded, so a taken port is known at once."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # named as TCP, because only then does asyncio send answers without waiting to fill a packet
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host, options.port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise _cannot_listen(options, error) from error
    return listening


def _listen(listening: socket.socket, options: Serving) -> None:
    """Take connections; only now is it known whether another server bound the port as well."""
    try:
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _cannot_listen(options, error) from error


def _cannot_listen(options: Serving, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error).rstrip(".")
    return InputError(
        f"Cannot listen on {options.host}:{options.port}: {reason}; choose another --port."
    )


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _welcome(service: Service, address: str) -> str:
    facts = service.operations.generation.facts()
    lines = [f"The page: {address}   What can be asked: {address}docs"]
    for name, what in (("items", "Recommendations"), ("scenes", "Driving")):
        missing = facts[f"{name}_missing"]
        lines.append(f"{what}: {'ready' if missing is None else f'not served. {missing}'}")
    return "\n".join(lines) + "\n"


def _reload_on_hangup(service: Service, earlier: Sequence[int]) -> None:
    async def reload() -> None:
        try:
            await service.reload()
        except ApiError as error:
            sys.stderr.write(f"Not reloaded: {error.message}\n")

    running: set[asyncio.Task] = set()

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(reload())
        running.add(task)
        task.add_done_callback(running.discard)

    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)
    except (NotImplementedError, RuntimeError, ValueError):  # not the main thread
        return
    if earlier:
        begin()
