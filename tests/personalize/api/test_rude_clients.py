"""Clients that send what nobody should: each is answered in a sentence, and holds up no other."""

import json
import socket
import threading
import time
from pathlib import Path

import httpx2 as httpx
import pytest
from pydantic import ValidationError

from personalize.api.configuration import Serving
from personalize.api.connection import MOST_HEAD_BYTES
from personalize.api.direct import DIRECT_PATHS
from personalize.api.keys import ApiKeys
from personalize.api.limits import Limits
from personalize.api.ports import ItemsSource
from tests.personalize.api.served_here import Running, served
from tests.personalize.api.small_halves import Small, SmallItems, Still

LIMITS = Limits(header_s=2.0, body_s=0.4)
LONE = rb'"\ud800"'
JSON = b"application/json"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    items = Small(added=Path("added.jsonl"))
    with served(Serving(root=root, items=items, scenes=Still(), limits=LIMITS)) as server:
        yield server


def sent(running: Running, data: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to bytes on a connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as raw:
        try:
            raw.sendall(data)
            while part := raw.recv(65536):
                received += part
        except ConnectionError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def post(path: bytes, body: bytes, kind: bytes = JSON) -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: %s\r\n"
    return head % (path, kind) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(path: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: a", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize("kind", [JSON, b"Application/JSON; charset=utf-8"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (b"/v1/retrieve", b'{"user": %s}'),
        (b"/v1/retrieve", b'{"collection": %s}'),
        (b"/v1/retrieve", b'{"preferences": [{"text": %s}]}'),
        (b"/v1/retrieve", b"{%s: 1}"),
        (b"/v1/embeddings", b'{"model": "all-minilm-l6-v2", "input": %s}'),
        (b"/v1/embeddings", b'{"model": %s, "input": "a"}'),
        (b"/v1/preferences", b'{"reviews": [{"text": %s}]}'),
        (b"/v1/plan", b'{"scene": %s, "styles": [{"name": "a"}]}'),
        (b"/v1/plan", b'{"scene": "scene-0", "styles": [{"name": "a", "style": {%s: 0}}]}'),
        (b"/v1/items", b'{"items": [{"id": %s, "title": "a"}]}'),
        (b"/v1/items", b'{"items": [{"id": "a", "title": %s}]}'),
    ],
)
def test_half_a_character_is_refused(running, path, body, kind):
    status, answer = sent(running, post(path, body % LONE, kind))
    assert status == 400
    assert json.loads(answer)["error"]["message"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(b"/v1/items/%00"), 404),
        (get(b"/v1/items/%ff%fe"), 404),
        (get(b"/v1/items/%ed%a0%80"), 404),
        (get(b"/v1/items/\xff"), 400),
        (get(b"/v1/items/" + b"a" * 20_000), 400),
        (get(b"/v1/items?query=%00%ff"), 200),
        (get(b"/v1/items?" + b"&".join(b"a%d=1" % n for n in range(5000))), 200),
        (get(b"/v1/info", b"Authorization: Bearer \xff\xfe"), 200),
        (get(b"/healthz", method=b"OPTIONS"), 405),
        (get(b"/healthz", method=b"HEAD"), 405),
        (get(b"/healthz", method=b"NONSENSE"), 400),
        (get(b"/", b"Range: bytes=" + b"9" * 5000 + b"-"), 400),
        (get(b"/healthz", b"Content-Length: \xb2"), 400),
        (get(b"/healthz", b"Content-Length: 1", b"Content-Length: 2"), 400),
        (get(b"/healthz", b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
        (get(b"/healthz", b"Content-Length: " + b"9" * 5000), 400),
        (get(b"/healthz/"), 404),
        (get(b"/admin/reload/", method=b"POST"), 404),
    ],
)
def test_what_is_odd_about_a_head_is_no_failure_of_ours(running, data, status):
    assert sent(running, data)[0] == status


def test_a_head_without_end_is_cut_off(running):
    status, body = sent(running, get(b"/healthz", b"X: " + b"a" * (4 * MOST_HEAD_BYTES)))
    assert status == 431
    assert json.loads(body)["error"]["code"] == "head_too_large"
    assert sent(running, get(b"/healthz", b"X: " + b"a" * 50_000))[0] == 200


def test_heads_are_measured_one_by_one(running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        for _ in range(2 * MOST_HEAD_BYTES // 100_000 + 1):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000)
            time.sleep(0.05)  # what is there of the head is read before its end comes
            client.sendall(b"\r\n\r\n")
            received = b""
            while b"alive" not in received:
                part = client.recv(65536)
                assert part, "the connection was closed"
                received += part
            assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (b"/v1/embeddings", b'{"model": "a", "input": [' + b"1," * 500_000 + b"1]}"),
        (b"/v1/retrieve", b'{"filters": {"allow": [' + b"1," * 90_000 + b"1]}}"),
        (b"/v1/retrieve", b'{"filters": {"deny": [' + b"1," * 90_000 + b"1]}}"),
    ],
)
def test_a_body_with_many_mistakes_is_read_to_the_first_one(running, path, body):
    status, answer = sent(running, post(path, body))
    assert status == 400
    assert len(answer) < 500
    with pytest.raises(ValidationError) as found:  # all of them would take the loop seconds
        DIRECT_PATHS[path.decode()].adapter.validate_json(body)
    assert found.value.error_count() <= 2  # a text or a list of them: one mistake each


def test_a_name_that_was_sent_is_not_sent_back_at_any_length(running):
    status, answer = sent(running, post(b"/v1/retrieve", b'{"' + b"a" * 100_000 + b'": 1}'))
    assert status == 400
    assert len(answer) < 1000


def test_only_what_is_called_json_is_read_as_json(running):
    assert sent(running, post(b"/v1/retrieve", b"{}", b"application/json; charset=utf-8"))[0] == 200
    assert sent(running, post(b"/v1/retrieve", b"{}", b"application/jsonx"))[0] == 400
    assert sent(running, post(b"/v1/items", b"{}", b"text/plain"))[0] == 400


def test_a_client_that_reads_nothing_is_let_go(running):
    one = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    texts = ["a"] * 1000
    body = json.dumps({"model": "all-minilm-l6-v2", "input": texts}).encode()
    one += b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.socket() as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        rude.settimeout(20)
        rude.connect(("127.0.0.1", running.port))
        rude.sendall(one)
        time.sleep(3)
        received = b""
        try:
            while part := rude.recv(65536):
                received += part
        except ConnectionResetError:
            pass
    head, _, answer = received.partition(b"\r\n\r\n")
    announced = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert 0 < len(answer) < announced


def test_a_client_that_reads_slowly_gets_everything(running):
    body = json.dumps({"model": "all-minilm-l6-v2", "input": ["a"] * 1000}).encode()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.settimeout(20)
        slow.connect(("127.0.0.1", running.port))
        slow.sendall(post(b"/v1/embeddings", body))
        received, began_s = b"", time.monotonic()
        while part := slow.recv(262_144):
            received += part
            if time.monotonic() - began_s < 1.5:
                time.sleep(0.1)
    answer = json.loads(received.partition(b"\r\n\r\n")[2])
    assert len(answer["data"]) == 1000


class Stubborn(ItemsSource):
    """Small recommendations whose answers take as long as a test wants."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release

    def open(self, files) -> SmallItems:
        release = self.release

        class Waiting(SmallItems):
            def retrieve(self, queries):
                release.wait(20)
                return super().retrieve(queries)

        return Waiting(None, 0.0, {"one": "One"})


def test_a_computation_that_does_not_end_is_not_ready_but_alive(tmp_path):
    release = threading.Event()
    serving = Serving(root=tmp_path, items=Stubborn(release), limits=Limits(request_s=0.3))
    with served(serving) as running:
        late = httpx.post(f"{running.address}/v1/retrieve", json={})
        assert (late.status_code, late.headers["retry-after"]) == (503, "5")
        assert httpx.get(f"{running.address}/healthz").status_code == 200
        not_ready = httpx.get(f"{running.address}/readyz")
        assert not_ready.status_code == 503
        assert "does not end" in not_ready.json()["error"]["message"]
        release.set()
        for _ in range(200):
            if httpx.get(f"{running.address}/readyz").status_code == 200:
                break
            time.sleep(0.01)
        else:
            pytest.fail("it is not ready again")


def test_a_server_without_keys_answers_as_this_machine_alone(tmp_path):
    with served(Serving(root=tmp_path, items=Small()), ApiKeys([])) as running:
        running.service.local_only = True
        own = {"Host": f"localhost:{running.port}", "Origin": f"http://localhost:{running.port}"}
        good = [{}, {"Host": "LOCALHOST"}, {"Host": "[::1]:80"}, own]
        bad = [
            {"Host": "evil.example"},
            {"Host": "localhost.evil.example:8000"},
            {"Host": "localhost@evil.example"},
            {"Host": "[evil"},
            {"Host": ""},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Host": "localhost:1", "Origin": "http://localhost:2"},
        ]
        for headers, status in [(one, 200) for one in good] + [(one, 403) for one in bad]:
            answer = httpx.post(f"{running.address}/v1/retrieve", json={}, headers=headers)
            assert answer.status_code == status, headers
        for path in ("/", "/healthz", "/v1/users"):
            refused = httpx.get(f"{running.address}{path}", headers={"Host": "evil.example"})
            assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "not_local"
        running.service.local_only = False
        named = httpx.get(f"{running.address}/v1/users", headers={"Host": "evil.example"})
        assert named.status_code == 200


def test_a_body_that_is_a_little_too_large_in_pieces_is_refused(running):
    head = post(b"/v1/retrieve", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    for size, status in ((LIMITS.body_bytes, 400), (LIMITS.body_bytes + 1, 413)):
        pieces = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b" " * size)
        assert sent(running, head + pieces)[0] == status
