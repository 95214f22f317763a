"""A chat server that answers by a script, over real HTTP, and can be told to fail."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    Attributes:
        content: The model's text, wrapped into a chat completion.
        status: HTTP status.
        headers: Further headers.
        raw: The whole body instead of a chat completion.
        hang_s: Seconds to wait before answering.
        cut: Send only half of the announced body.
    """

    content: str = '{"opinions": []}'
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hang_s: float = 0.0
    cut: bool = False


Script = Callable[[int, dict[str, Any]], Reply]


@dataclass
class Record:
    """Requests a server has seen."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


def opinions(*entries: tuple[str, str, str]) -> str:
    """A valid answer: aspect, polarity and evidence of each opinion."""
    return json.dumps(
        {
            "opinions": [
                {"aspect": a, "polarity": p, "strength": "clear", "evidence": e}
                for a, p, e in entries
            ]
        }
    )


def shown_review(body: dict[str, Any]) -> str:
    """The review inside a request, between its two delimiter lines."""
    lines = body["messages"][1]["content"].split("\n")
    return "\n".join(lines[1:-1])


@contextmanager
def scripted_server(script: Script) -> Iterator[Record]:
    """A server on a free port; `script` gets the request's number, from 0, and its body."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            with lock:
                number = len(record.bodies)
                record.bodies.append(body)
                record.keys.append(self.headers.get("Authorization"))
            reply = script(number, body)
            time.sleep(reply.hang_s)
            content = reply.raw if reply.raw is not None else completion(reply.content)
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.cut else content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that has gone away is part of the script."""

    server = Server(("127.0.0.1", 0), Handler)
    record = Record(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completion(content: str) -> bytes:
    """A chat completion that cost ten tokens in and five out."""
    return json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": content}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }
    ).encode()
