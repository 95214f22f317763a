"""What goes wrong around the server: rude clients, wrong keys, kills, floods. Nothing hangs."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

import httpx2 as httpx
import pytest
import yaml

from data_prep.errors import InputError
from personalize.api.app import create_app
from personalize.api.configuration import Serving
from personalize.api.keys import ApiKeys, KeyEntry
from personalize.api.limits import Limits
from personalize.api.served import Current
from personalize.api.service import Service
from tests.personalize.api.served_here import Running, served
from tests.personalize.api.small_halves import Small, SmallItems, Still

PROJECT = Path(__file__).parents[3]
LIMITS = Limits(body_bytes=1_000_000, header_s=0.5, body_s=0.5, waiting_requests=64)


def entry(key: str, **settings) -> KeyEntry:
    return KeyEntry(name=key, sha256=hashlib.sha256(key.encode()).hexdigest(), **settings)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    with served(Serving(root=root, items=Small(), scenes=Still(), limits=LIMITS)) as server:
        yield server


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not come about")


def error_of(answer: httpx.Response) -> dict:
    return answer.json()["error"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /v1/retrieve HTTP/1.1\r\nHost: a\r\n", None),
        (b"", b"400"),
        (b"POST /v1/retrieve HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{", b"408"),
    ],
)
def test_a_client_that_sends_a_byte_now_and_then_is_let_go(running: Running, head, status):
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as rude:
        rude.sendall(head)
        received = b""
        began_s = time.monotonic()
        while time.monotonic() - began_s < 15:
            try:
                rude.sendall(b"x")
                rude.settimeout(0.1)
                part = rude.recv(4096)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            if not part:
                break
            received += part
        else:
            pytest.fail("the connection is still open")
    assert received.split(b" ")[1:2] == ([status] if status else [])
    assert httpx.get(f"{running.address}/healthz").status_code == 200


def test_a_client_that_is_slow_but_done_in_time_is_answered(running):
    body = b'{"k": 1}'
    head = "POST /v1/retrieve HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as slow:
        for part in (head[:20].encode(), head[20:].encode(), body[:3], body[3:]):
            slow.sendall(part)
            time.sleep(0.05)
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_body_of_100_megabytes_is_refused_without_being_read(running):
    def body():
        for _ in range(100):
            yield b"x" * 1_000_000

    announced = {"Content-Length": "100000000", "Content-Type": "application/json"}
    for headers in (announced, {"Content-Type": "application/json"}):  # the second one is chunked
        try:
            answer = httpx.post(f"{running.address}/v1/retrieve", content=body(), headers=headers)
        except (httpx.WriteError, httpx.ReadError):  # it hung up on us while we were sending
            continue
        assert answer.status_code == 413
        assert error_of(answer)["code"] == "body_too_large"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(
            b"POST /v1/retrieve HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
        )
        assert b" 413 " in client.recv(200)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "invalid", ""),
        (b'{"preferences": ' + b'[{"text":' * 50_000, "invalid", ""),
        (b"{", "invalid_json", "no JSON"),
        (b"", "invalid_value", "must be a JSON object"),
        (b"\xff\xfe", "invalid", ""),
        (b'"text"', "invalid_value", "must be a JSON object"),
        (b'{"k": 0}', "invalid_value", "k: Input should be greater than or equal to 1"),
        (b'{"k": 1001}', "invalid_value", "less than or equal to 1000"),
        (b'{"k": 1e400}', "invalid_value", "k: "),
        (b'{"preferences": [{"text": "a", "strength": NaN}]}', "invalid_value", "finite number"),
        (b'{"preferences": [{"text": "a", "strength": Infinity}]}', "invalid_value", "finite"),
        (b'{"preferences": [{"text": "a", "strength": 1.5}]}', "invalid_value", "less than or"),
        (b'{"preferences": [{}]}', "invalid_value", "either a text or an attribute"),
        (b'{"filtres": {}}', "invalid_value", "filtres: Extra inputs are not permitted"),
        (b'{"collection": "scenes"}', "invalid_value", "has a text, a style or a scene"),
        (b'{"collection": "scenes", "style": {"speed": NaN}}', "invalid_value", "finite number"),
        (b'{"collection": "roads"}', "invalid_value", "items or scenes"),
        (b'{"k": 3, "k": "x"}', "invalid_value", "k: "),
    ],
)
def test_a_body_that_cannot_be_understood_is_refused_in_a_sentence(running, body, code, message):
    answer = httpx.post(
        f"{running.address}/v1/retrieve", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert error_of(answer)["code"].startswith(code)
    assert message in error_of(answer)["message"]
    assert "\n" not in error_of(answer)["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/page/..%2f..%2fapp.py",
        "/page/../../pyproject.toml",
        "/page/%2e%2e%2fapi%2fapp.py",
        "/page//etc/passwd",
        "/page/__init__.py",
        "/v1/items/..%2f..%2fetc%2fpasswd",
        "/v1/scenes/../../../etc/passwd",
        "/v1/items/nobody",
        "/v1/users/nobody",
        "/v1/scenes/nowhere",
        "/nothing",
    ],
)
def test_a_path_that_leads_nowhere_is_not_found(running, path):
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while part := raw.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert b" 404 " in head.split(b"\r\n")[0]
    assert json.loads(body)["error"]["type"] == "not_found_error"


def test_an_item_that_does_not_exist_is_named(running):
    answer = httpx.post(f"{running.address}/v1/retrieve", json={"history": ["item-1", "nope"]})
    assert answer.status_code == 404
    assert error_of(answer) == {
        "message": "There is no item nope.",
        "type": "not_found_error",
        "code": "not_found",
        "param": "history",
    }


def test_a_failure_of_ours_says_nothing_and_the_next_request_is_answered(running, caplog):
    answer = httpx.post(f"{running.address}/v1/retrieve", json={"user": "explode"})
    assert answer.status_code == 500
    assert "kaboom" not in answer.text
    assert error_of(answer)["type"] == "server_error"
    assert httpx.get(f"{running.address}/readyz").status_code == 200
    assert httpx.post(f"{running.address}/v1/retrieve", json={}).status_code == 200


def test_keys_are_asked_for_counted_and_only_an_administrators_reloads(tmp_path):
    keys = ApiKeys(
        [entry("team"), entry("slow", requests_per_s=0.01, burst=2), entry("boss", admin=True)]
    )
    with served(Serving(root=tmp_path, items=Small()), keys) as running:
        client = httpx.Client(base_url=running.address)

        def ask(path: str, key: str | None, method: str = "GET") -> httpx.Response:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            return client.request(method, path, headers=headers)

        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert ask(path, None).status_code == 200
        for key in (None, "wrong", "tea", "teamm"):
            refused = ask("/v1/info", key)
            assert refused.status_code == 401
            assert error_of(refused)["code"] == "invalid_api_key"
            assert refused.headers["www-authenticate"] == "Bearer"
        assert ask("/v1/info", "team").status_code == 200
        assert ask("/admin/reload", None, "POST").status_code == 401
        assert error_of(ask("/admin/reload", "team", "POST"))["code"] == "not_admin"
        assert ask("/admin/reload", "boss", "POST").json() == {"generation": 2}
        assert [ask("/v1/info", "slow").status_code for _ in range(3)] == [200, 200, 429]
        assert int(ask("/v1/info", "slow").headers["retry-after"]) >= 1
        assert ask("/v1/info", "team").status_code == 200


def test_a_flood_of_10000_requests_is_answered_one_way_or_the_other(tmp_path):
    limits = Limits(waiting_requests=32, batch_requests=4, request_s=30.0)
    serving = Serving(root=tmp_path, items=Small(pause_s=0.005), limits=limits)
    service = Service(Current(lambda: serving), keys=ApiKeys([]), limits=limits)
    app = create_app(service)

    async def request(method: str, path: str, body: bytes = b"") -> tuple[int, dict[bytes, bytes]]:
        answered: list = []
        head = [(b"content-type", b"application/json"), (b"host", b"here")]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": head,
        }
        bodies = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict:
            return bodies.pop() if bodies else await asyncio.Future()

        async def send(message: MutableMapping) -> None:
            answered.append(message)

        await app(scope, receive, send)
        return answered[0]["status"], dict(answered[0]["headers"])

    async def flood() -> tuple[list[int], int, int]:
        longest, alive = 0, 0

        async def one() -> int:
            status, headers = await request("POST", "/v1/retrieve", b'{"k": 1}')
            assert status == 200 or headers[b"retry-after"] == b"1"
            return status

        async def watch() -> None:
            nonlocal longest, alive
            while True:
                assert (await request("GET", "/healthz"))[0] == 200
                alive += 1
                longest = max(longest, len(service.batches))

        watching = asyncio.create_task(watch())
        found = await asyncio.gather(*(one() for _ in range(10_000)))
        watching.cancel()
        assert await one() == 200
        await service.batches.close()
        return found, longest, alive

    found, longest, alive = asyncio.run(flood())
    assert set(found) == {200, 429}
    assert found.count(200) >= 32
    assert longest <= 32
    assert alive > 1


def test_what_a_client_has_left_is_not_computed(tmp_path):
    serving = Serving(root=tmp_path, items=Small(pause_s=0.3), limits=Limits(batch_requests=1))
    with served(serving) as running:
        half = running.service.current.generation.items
        assert isinstance(half, SmallItems)
        before = len(half.batches)
        for _ in range(5):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{running.address}/v1/retrieve", json={}, timeout=0.1)
        time.sleep(0.7)
        assert len(running.service.batches) == 0
        assert len(half.batches) - before < 5
        left = 'personalize_requests_total{method="POST",route="/v1/retrieve",status="499"} 5.0'
        assert left in httpx.get(f"{running.address}/metrics").text


def test_logs_hold_no_word_of_a_request(running, caplog):
    with caplog.at_level("INFO", logger="personalize.api"):
        httpx.post(
            f"{running.address}/v1/retrieve",
            json={"preferences": [{"text": "a most private wish"}], "history": ["item-secret"]},
        )
        httpx.get(f"{running.address}/v1/items/private-item")
        wait_until(lambda: len(caplog.records) >= 2)  # a line is written after the answer
    lines = [json.dumps(record.__dict__.get("facts", {})) for record in caplog.records]
    assert any('"route": "/v1/retrieve"' in line and '"status": 404' in line for line in lines)
    assert any('"route": "/v1/items/{item}"' in line for line in lines)
    for line in [*lines, *(record.getMessage() for record in caplog.records)]:
        assert "private" not in line
        assert "secret" not in line


def test_metrics_count_requests_by_pattern_and_batches(running):
    for _ in range(3):
        httpx.post(f"{running.address}/v1/retrieve", json={})
    httpx.get(f"{running.address}/v1/items/item-1")
    text = httpx.get(f"{running.address}/metrics").text
    assert 'personalize_requests_total{method="POST",route="/v1/retrieve",status="200"}' in text
    assert 'route="/v1/items/{item}"' in text
    assert "item-1" not in text
    assert 'personalize_batch_size_count{operation="retrieve_items"}' in text
    assert "personalize_queue_length 0.0" in text


def configuration(folder: Path, **settings) -> Path:
    path = folder / "serve.yaml"
    items = {
        "class_path": "tests.personalize.api.small_halves.Small",
        "init_args": {"added": "added.jsonl", "pause_s": settings.pop("pause_s", 0.0)},
    }
    path.write_text(yaml.safe_dump({"root": str(folder), "port": 0, "items": items} | settings))
    return path


class Process:
    """`personalize serve` as a process of its own."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "personalize", "serve", "--config", str(path)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        assert first.startswith("The page: http://127.0.0.1:"), first
        self.address = first.split()[2].rstrip("/")
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines += list(self.process.stderr)

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(timeout=30)
        self.reader.join(timeout=10)
        return status


def _arrived(client: httpx.Client) -> int:
    """Requests that the server has begun to read and not yet answered, this one aside."""
    line = next(
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith("personalize_requests_in_flight ")
    )
    return int(float(line.split()[1])) - 1


def test_a_process_reloads_survives_a_kill_and_stops_gracefully(tmp_path):
    path = configuration(tmp_path, pause_s=0.3)
    server = Process(path)
    client = httpx.Client(base_url=server.address, timeout=30)
    os.kill(server.process.pid, signal.SIGHUP)
    for _ in range(1000):
        if client.get("/v1/info").json()["generation"] == 2:
            break
        time.sleep(0.01)
    else:
        pytest.fail("a hangup did not reload")

    acknowledged: list[str] = []
    threading.Timer(0.3, server.process.kill).start()
    for number in range(100_000):
        item = f"new-{number}"
        items = [{"id": item, "title": f"Title of {item}", "description": "x" * 10_000}]
        try:
            answer = client.post("/v1/items", json={"items": items})
        except httpx.TransportError:
            break
        assert answer.json()["items"][0]["status"] == "added"
        acknowledged.append(item)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert acknowledged

    server = Process(path)
    client = httpx.Client(base_url=server.address, timeout=30)
    found = client.get("/v1/items", params={"query": "Title of", "count": 1}).json()
    assert found["total"] in (len(acknowledged), len(acknowledged) + 1)  # one may be unanswered
    for item in acknowledged[:: max(1, len(acknowledged) // 20)]:
        assert client.get(f"/v1/items/{item}").json()["title"] == f"Title of {item}"

    answers: list[int] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.address}/v1/retrieve", json={}, timeout=30).status_code)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    while _arrived(client) + len(answers) < 4:  # on a busy machine a request takes its time to come
        time.sleep(0.02)
    assert server.stop(signal.SIGTERM) == 0
    for asker in askers:
        asker.join()
    assert answers == [200] * 4
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.address}/healthz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "The configuration does not fit"),
        ({"limits": {"texts": 0}}, "texts must be positive, got 0"),
        ({"keys": "/nowhere/keys.yaml"}, "/nowhere/keys.yaml cannot be read"),
        ({"host": "203.0.113.1"}, "Cannot listen on 203.0.113.1"),
        ({"items": {"class_path": "no.such.Thing"}}, "does not fit"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_in_a_sentence(tmp_path, changes, message):
    from personalize.api.serve import run

    path = configuration(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        run(arguments=["--config", str(path)])


def test_what_lies_outside_of_the_root_is_refused(tmp_path):
    serving = Serving(root=tmp_path, items=Small(added=Path("../added.jsonl")))
    with pytest.raises(InputError, match="lies outside"):
        serving.open()
