"""Requests per second and latency of the API, beside a loop that calls the library directly.

    python benchmarks/serve.py --config configs/personalize/serve.yaml --json

A server runs in a process of its own and is asked by another one over loopback sockets that stay
open; the library is then called in this process with the same questions, one by one and in batches
of the server's own size. Every question is new: a text that was never encoded, or a user with a
wish of their own. Ratios are of one run; other work on the machine shows in both halves of them.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

CLIENTS = (1, 8, 64)
WARM = 40


@dataclass(frozen=True)
class Work:
    """A kind of request.

    Attributes:
        name: What it is called in the table.
        path: Where it is sent.
        body: The request with this number.
    """

    name: str
    path: str
    body: Callable[[int], dict[str, Any]]


def works(users: Sequence[str]) -> list[Work]:
    """All kinds of requests."""

    def user(number: int) -> str:
        return users[number % len(users)]

    def embedding(number: int) -> dict[str, Any]:
        return {"model": "all-minilm-l6-v2", "input": _text(number), "encoding_format": "base64"}

    def retrieval(mode: str) -> Callable[[int], dict[str, Any]]:
        return lambda number: {"user": user(number), "mode": mode, "k": 10}

    def typed(number: int) -> dict[str, Any]:
        wishes = [{"text": _text(number)}, {"attribute": "price", "polarity": "avoid"}]
        return {"user": user(number), "preferences": wishes, "k": 10}

    return [
        Work("embeddings", "/v1/embeddings", embedding),
        Work("retrieve dense", "/v1/retrieve", retrieval("dense")),
        Work("retrieve generative", "/v1/retrieve", retrieval("generative")),
        Work("retrieve hybrid", "/v1/retrieve", retrieval("hybrid")),
        Work("retrieve typed wish", "/v1/retrieve", typed),
    ]


def _text(number: int) -> str:
    return f"Looks for light things number {number} that are easy to carry on long walks."


class Numbers:
    """Numbers that were never given out."""

    def __init__(self) -> None:
        self._next = int(time.time()) % 1_000_000 * 1000

    def take(self, count: int) -> range:
        """So many new ones."""
        first = self._next
        self._next += count
        return range(first, first + count)


async def load(address: str, requests: Sequence[bytes], clients: int) -> tuple[float, list[float]]:
    """Seconds for all requests, and the latency of each; every client keeps its connection."""
    waiting = iter(requests)
    latencies_s: list[float] = []
    host, port = urlsplit(address).hostname, urlsplit(address).port

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for request in waiting:
            began_s = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            lower = head.lower()
            start = lower.index(b"content-length:") + 15
            await reader.readexactly(int(lower[start : lower.index(b"\r\n", start)]))
            latencies_s.append(time.perf_counter() - began_s)
        writer.close()

    began_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began_s, latencies_s


def request_bytes(path: str, body: dict[str, Any]) -> bytes:
    """A request as it goes over the wire."""
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


def ask_server(address: str, asked: Sequence[Work], counts: dict[int, int]) -> Iterator[dict]:
    """Rows of the table: every kind of request at every number of clients."""
    numbers = Numbers()
    for work in asked:
        warm = [request_bytes(work.path, work.body(n)) for n in numbers.take(WARM)]
        asyncio.run(load(address, warm, 4))
        for clients, count in counts.items():
            sent = [request_bytes(work.path, work.body(n)) for n in numbers.take(count)]
            took_s, latencies_s = asyncio.run(load(address, sent, clients))
            milliseconds = 1000 * np.array(latencies_s)
            yield {
                "work": work.name,
                "clients": clients,
                "requests_per_s": count / took_s,
                "p50_ms": float(np.percentile(milliseconds, 50)),
                "p99_ms": float(np.percentile(milliseconds, 99)),
            }


def call_library(config: str, asked: Sequence[Work], count: int) -> dict[str, dict[str, float]]:
    """The same work without a server: one by one, and in batches as large as the server's."""
    import torch

    from personalize.api.messages import ItemQuery
    from personalize.api.serve import read_configuration
    from personalize.api.served import Missing
    from personalize.api.text_model import Texts

    serving = read_configuration(["--config", config])
    torch.set_num_threads(serving.threads)
    opened = serving.open()
    items = opened.items
    if isinstance(items, Missing):
        raise SystemExit(f"recommendations are not served: {items.reason}")
    numbers = Numbers()
    found = {}
    for work in asked:
        if work.path == "/v1/embeddings":
            most = serving.limits.batch_texts

            def run(given: Sequence[int], work: Work = work) -> None:
                opened.text.embed([Texts((work.body(number)["input"],)) for number in given])
        else:
            most = serving.limits.batch_requests

            def run(given: Sequence[int], work: Work = work) -> None:
                replies = items.retrieve([ItemQuery(**work.body(number)) for number in given])
                if any(isinstance(reply, Exception) for reply in replies):
                    raise RuntimeError(f"{work.name}: {replies[0]}")

        run(numbers.take(WARM))
        single_ms = []
        for number in numbers.take(min(count, 150)):
            began_s = time.perf_counter()
            run([number])
            single_ms.append(1000 * (time.perf_counter() - began_s))
        given = numbers.take(count)
        began_s = time.perf_counter()
        for start in range(0, count, most):
            run(given[start : start + most])
        took_s = time.perf_counter() - began_s
        found[work.name] = {
            "single_p50_ms": float(np.median(single_ms)),
            "batched_per_s": count / took_s,
        }
    return found


def start_server(config: str, log: Path) -> tuple[subprocess.Popen, str, float]:
    """A server in a process of its own, its address, and the seconds until it was ready."""
    began_s = time.perf_counter()
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "personalize", "serve", "--config", config, "--port", "0"],
            stderr=stream,
        )
    while not log.read_text().startswith("The page: "):
        if server.poll() is not None:
            raise SystemExit(f"the server did not start: {log.read_text()}")
        time.sleep(0.05)
    ready_s = time.perf_counter() - began_s
    return server, log.read_text().split()[2].rstrip("/"), ready_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--config", default="configs/personalize/serve.yaml")
    parser.add_argument("--users", type=Path, help="file of user ids; default: town-user-000000...")
    parser.add_argument("--count", type=int, default=1500, help="requests per row (64 clients)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    users = (
        options.users.read_text().split()
        if options.users
        else [f"town-user-{number:06d}" for number in range(600)]
    )
    asked = works(users)
    if options.load:
        counts = {1: options.count // 8, 8: options.count // 2, 64: options.count}
        for row in ask_server(options.load, asked, counts):
            print(json.dumps(row), flush=True)
        return
    folder = tempfile.TemporaryDirectory()
    server, address, ready_s = start_server(options.config, Path(folder.name) / "log")
    words = [sys.executable, __file__, "--load", address, "--count", str(options.count)]
    words += ["--users", str(options.users)] if options.users else []
    asking = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in asking.stdout or ()]
    failed = asking.wait() != 0
    server.terminate()
    server.wait(timeout=60)
    if failed:
        raise SystemExit("the load did not end well; what it said stands above.")
    folder.cleanup()
    library = call_library(options.config, asked, options.count)
    print(f"ready after {ready_s:.1f} s")
    print(
        f"{'':<22}{'clients':>8}{'per s':>9}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'of library':>12}{'added ms':>10}"
    )
    for row in rows:
        beside = library[row["work"]]
        row["of_library"] = row["requests_per_s"] / beside["batched_per_s"]
        row["added_ms"] = row["p50_ms"] - beside["single_p50_ms"]
        added = f"{row['added_ms']:>10.2f}" if row["clients"] == 1 else ""
        print(
            f"{row['work']:<22}{row['clients']:>8}{row['requests_per_s']:>9.0f}{row['p50_ms']:>9.1f}"
            f"{row['p99_ms']:>9.1f}{row['of_library']:>12.2f}{added}"
        )
    if options.json:
        print(json.dumps({"ready_s": ready_s, "rows": rows, "library": library}))


if __name__ == "__main__":
    main()
