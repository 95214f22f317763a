"""The one process that answers from artifacts until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from socket import socket
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from personalize.api.app import create_app
from personalize.api.configuration import Serving
from personalize.api.connection import patient
from personalize.api.errors import ApiError
from personalize.api.keys import ApiKeys
from personalize.api.listening import BACKLOG, LOOPBACK, address_of, take_connections
from personalize.api.monitor import log_to_stderr
from personalize.api.served import Current
from personalize.api.service import Service

_GIL_TURN_S = 0.0005
"""A computing thread lets the others in this often; the default holds them up for 5 ms."""


def serve(
    options: Serving,
    read_configuration: Callable[[], Serving],
    *,
    keys: ApiKeys,
    listening: socket,
    hangups: Sequence[int] = (),
) -> None:
    """Open what is configured and answer until the process is told to stop.

    Args:
        options: The configuration.
        read_configuration: The configuration as it is on disk when it is to be loaded.
        keys: Who may ask; everybody where there are none.
        listening: A socket that is bound.
        hangups: Grows by one for every hangup that came while it was starting.

    Raises:
        InputError: If what is configured cannot be served.
    """
    torch.set_num_threads(options.threads)
    service = Service(
        Current(read_configuration),
        keys=keys,
        limits=options.limits,
        begin=lambda: torch.set_num_threads(options.threads),  # torch keeps it per thread
        local_only=not keys.wanted and options.host in LOOPBACK,
    )
    log_to_stderr()
    take_connections(listening)
    sys.stderr.write(_welcome(service, address_of(listening)))
    sys.setswitchinterval(_GIL_TURN_S)
    server = uvicorn_server(create_app(service), options, hangups=hangups)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # uvicorn raises it again when all is done
    server.run(sockets=[listening])


def uvicorn_server(
    app: FastAPI, options: Serving, *, hangups: Sequence[int] = ()
) -> uvicorn.Server:
    """A server for an application, not yet running; it reloads at once if it was hung up on."""
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
            backlog=BACKLOG,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(options.limits.drain_s),
        )
    )


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
