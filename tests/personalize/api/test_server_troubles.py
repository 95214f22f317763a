"""Troubles of the server itself: disks, files, signals, failing halves. It says so and goes on."""

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import httpx2 as httpx
import pytest
import yaml

from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.app import create_app
from personalize.api.configuration import Serving
from personalize.api.keys import ApiKeys
from personalize.api.limits import Limits
from personalize.api.listening import address_of, bound_socket, take_connections
from personalize.api.monitor import LOGGER, log_to_stderr
from personalize.api.ports import ItemsSource
from personalize.api.served import Current
from personalize.api.service import Service
from tests.personalize.api.served_here import Running, served
from tests.personalize.api.small_halves import Small, SmallItems

PROJECT = Path(__file__).parents[3]
NEW = {"items": [{"id": "new", "title": "New", "description": "x" * 15_000}]}


class Failing(ItemsSource):
    """Small recommendations that fail as a test wants."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def open(self, files) -> SmallItems:
        source = self

        class Half(SmallItems):
            def _fail(self) -> None:
                if source.error is not None:
                    raise source.error

            def retrieve(self, queries):
                self._fail()
                return super().retrieve(queries)

            def self_query(self):
                self._fail()

            def add(self, items):
                self._fail()
                return super().add(items)

        return Half(None, 0.0, {"one": "One"})


@pytest.fixture
def failing(tmp_path):
    source = Failing()
    with served(Serving(root=tmp_path, items=source)) as server:
        yield server, source


@pytest.fixture
def running(tmp_path):
    items = Small(added=Path("added.jsonl"), names=Path("names"))
    (tmp_path / "names").write_text("alpha")
    with served(Serving(root=tmp_path, items=items)) as server:
        yield server


def add(running: Running) -> httpx.Response:
    return httpx.post(f"{running.address}/v1/items", json=NEW)


def ask(running: Running) -> httpx.Response:
    return httpx.post(f"{running.address}/v1/retrieve", json={})


def test_a_full_disk_is_said_and_the_server_goes_on(running, tmp_path):
    assert add(running).status_code == 200
    size = (tmp_path / "added.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9000, hard))  # in the middle of a line
    try:
        refused = add(running)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    error = refused.json()["error"]
    assert error["message"] == "The items could not be written: File too large; none was added."
    assert error["code"] == "not_kept"
    assert ask(running).status_code == 200
    assert httpx.get(f"{running.address}/readyz").status_code == 200
    assert add(running).status_code == 200
    assert httpx.post(f"{running.address}/admin/reload").status_code == 200


@pytest.mark.parametrize("move", ["away", "cut"])
def test_a_journal_that_was_moved_away_is_said_and_not_written_with_a_hole(running, tmp_path, move):
    path = tmp_path / "added.jsonl"
    assert add(running).status_code == 200
    whole = path.read_bytes()
    if move == "away":
        path.unlink()
    else:
        path.write_bytes(whole[:100])
    refused = add(running)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "not_kept"
    assert str(path) in refused.json()["error"]["message"]
    assert ask(running).status_code == 200
    path.write_bytes(whole)
    assert add(running).status_code == 200


def test_a_file_that_cannot_be_read_is_no_reload(running, tmp_path):
    (tmp_path / "names").unlink()
    (tmp_path / "names").mkdir()
    refused = httpx.post(f"{running.address}/admin/reload")
    assert refused.status_code == 409
    assert "Is a directory" in refused.json()["error"]["message"]
    assert ask(running).status_code == 200
    assert 'reloads_total{result="refused"} 1.0' in httpx.get(f"{running.address}/metrics").text


def test_what_is_refused_at_the_swap_is_a_conflict_and_no_failure_of_ours(running, monkeypatch):
    def catch_up(self) -> None:
        raise ArtifactMismatch("The journal is damaged.")

    monkeypatch.setattr(SmallItems, "catch_up", catch_up)
    refused = httpx.post(f"{running.address}/admin/reload")
    assert refused.status_code == 409
    assert refused.json()["error"]["message"] == "The journal is damaged."
    metrics = httpx.get(f"{running.address}/metrics").text
    assert 'batch_failures_total{operation="swap"}' not in metrics
    assert ask(running).status_code == 200


def test_a_database_that_is_down_is_not_ready_until_it_answers(failing):
    running, source = failing
    assert httpx.get(f"{running.address}/readyz").status_code == 200
    source.error = InputError("Qdrant does not answer at http://secret:1.")
    down = ask(running)
    assert (down.status_code, down.headers["retry-after"]) == (503, "5")
    assert down.json()["error"]["code"] == "not_answering"
    assert "secret" not in down.text
    assert httpx.get(f"{running.address}/readyz").status_code == 503
    assert httpx.get(f"{running.address}/healthz").status_code == 200
    source.error = None
    assert httpx.get(f"{running.address}/readyz").status_code == 200


def test_what_else_still_answers_hides_no_half_that_fails(failing):
    running, source = failing
    source.error = RuntimeError("broken")
    assert ask(running).status_code == 500
    texts = {"model": "all-minilm-l6-v2", "input": "still here"}
    assert httpx.post(f"{running.address}/v1/embeddings", json=texts).status_code == 200
    assert httpx.get(f"{running.address}/readyz").status_code == 503
    source.error = None
    assert httpx.get(f"{running.address}/readyz").status_code == 200
    asked = calls(running)
    assert httpx.get(f"{running.address}/readyz").status_code == 200
    assert calls(running) == asked  # once it answered, it is not asked again


def calls(running: Running) -> list[str]:
    """What the metrics say of batches of single calls."""
    text = httpx.get(f"{running.address}/metrics").text
    return [one for one in text.splitlines() if 'batch_size_count{operation="call"}' in one]


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("b"), StopIteration("c"), OSError()])
def test_whatever_fails_it_is_not_ready_and_the_next_question_is_answered(failing, error):
    running, source = failing
    source.error = error
    assert ask(running).status_code == 500
    unready = httpx.get(f"{running.address}/readyz")
    assert (unready.status_code, unready.json()["error"]["code"]) == (503, "not_ready")
    source.error = None
    assert ask(running).status_code == 200
    assert httpx.get(f"{running.address}/readyz").status_code == 200


def test_a_half_that_cannot_take_items_says_why(failing):
    running, source = failing
    source.error = InputError("No item can be added without text vectors.")
    refused = add(running)
    assert refused.status_code == 409
    assert refused.json()["error"]["message"] == "No item can be added without text vectors."


def test_a_log_line_says_where_and_never_what(capsys):
    loggers = [logging.getLogger(n) for n in ("personalize.api", "uvicorn.error", "asyncio")]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    try:
        log_to_stderr()
        for logger in loggers:
            try:
                try:
                    {}["a most private wish"]
                except KeyError as inner:
                    raise ValueError("another private text") from inner
            except ValueError as error:
                logger.exception("failed\nfuture: exception=ValueError('private')", exc_info=error)
        LOGGER.error("nothing is being handled", exc_info=True)
    finally:
        for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
            one.handlers, one.propagate, one.level = handlers, propagate, level
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["failed"] * 3 + ["nothing is being handled"]
    assert [line["level"] for line in lines] == ["error"] * 4
    for line in lines[:3]:
        assert line["trace"].index("KeyError") < line["trace"].index("ValueError")
        assert "test_server_troubles.py" in line["trace"]
        assert "another private text" not in line["trace"].replace('ValueError("another', "")
    assert "trace" not in lines[3]


async def asked(service: Service, method: str, path: str, headers=()) -> int:
    answered: list = []
    bodies = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict:
        return bodies.pop() if bodies else await asyncio.Future()

    async def send(message) -> None:
        answered.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": method, "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "headers": list(headers)}
    await create_app(service)(scope, receive, send)
    return answered[0]["status"]


def test_another_front_may_hand_over_odd_methods_and_lengths(tmp_path):
    serving = Serving(root=tmp_path, items=Small())
    service = Service(Current(lambda: serving), keys=ApiKeys([]), limits=Limits())
    for method in ("ODD1", "ODD2"):
        assert asyncio.run(asked(service, method, "/healthz")) == 405
    for length, status in ((b"\xb2", 200), (b"9" * 5000, 413), (b"x", 200), (b"3000000", 413)):
        found = asyncio.run(asked(service, "GET", "/healthz", [(b"content-length", length)]))
        assert found == status
    text = service.monitor.text().decode()
    assert "ODD" not in text
    assert 'method="other",route="/healthz",status="405"} 2.0' in text


def test_a_port_that_is_none_is_refused_in_a_sentence():
    message = "Cannot listen on 127.0.0.1:70000: bind.*0-65535; choose another --port"
    with pytest.raises(InputError, match=message):
        bound_socket("127.0.0.1", 70_000)


def test_two_that_start_at_once_on_one_port_are_told_apart():
    first = bound_socket("127.0.0.1", 0)
    port = first.getsockname()[1]
    second = bound_socket("127.0.0.1", port)  # bound as well, as long as nobody listens
    take_connections(first)
    with pytest.raises(InputError, match="Address already in use; choose another --port"):
        take_connections(second)
    with pytest.raises(InputError, match="Address already in use"):
        bound_socket("127.0.0.1", port)
    first.close()


SLOW = """
import time
from tests.personalize.api.small_halves import Small
class Slow(Small):
    def open(self, files):
        (files.root / "opening").touch()
        time.sleep(1.0)
        return super().open(files)
"""


def test_a_hangup_while_it_starts_reloads_when_it_has_started(tmp_path):
    (tmp_path / "slowly_opened.py").write_text(SLOW)
    settings = {"root": str(tmp_path), "port": 0, "items": {"class_path": "slowly_opened.Slow"}}
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(settings))
    process = subprocess.Popen(
        [sys.executable, "-m", "personalize", "serve", "--config", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{PROJECT}:{tmp_path}"},
    )
    try:
        while not (tmp_path / "opening").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        address = process.stderr.readline().split()[2].rstrip("/")
        for _ in range(1000):
            if httpx.get(f"{address}/v1/info", timeout=30).json()["generation"] == 2:
                break
            time.sleep(0.01)
        else:
            pytest.fail("the hangup was lost")
        rebound = httpx.get(f"{address}/v1/users", headers={"Host": "evil.example"})
        assert rebound.status_code == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("name", "address"),
    [(("::1", 8000, 0, 0), "http://[::1]:8000/"), (("127.0.0.1", 80), "http://127.0.0.1:80/")],
)
def test_an_address_is_written_as_browsers_read_it(name, address):
    listening = Mock(spec=socket.socket, **{"getsockname.return_value": name})
    assert address_of(listening) == address
