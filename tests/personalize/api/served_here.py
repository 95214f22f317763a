"""The server on a real socket, in a thread of the test."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from personalize.api.app import create_app
from personalize.api.configuration import Serving
from personalize.api.keys import ApiKeys
from personalize.api.served import Current
from personalize.api.server import uvicorn_server
from personalize.api.service import Service


@dataclass
class Running:
    """A server that answers."""

    address: str
    port: int
    service: Service


@contextmanager
def served(serving: Serving, keys: ApiKeys | None = None) -> Iterator[Running]:
    """Serve while the block runs."""
    current = Current(lambda: serving)
    service = Service(current, keys=keys or ApiKeys([]), limits=serving.limits)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = uvicorn_server(create_app(service), serving)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start.")
        time.sleep(0.01)
    try:
        yield Running(f"http://127.0.0.1:{port}", port, service)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
