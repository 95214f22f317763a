"""Reloading: checked, loaded beside, swapped in one step; what is broken is refused."""

import threading
from pathlib import Path

import httpx2 as httpx
import pytest

from personalize.api.configuration import Serving
from personalize.api.limits import Limits
from tests.personalize.api.served_here import Running, served
from tests.personalize.api.small_halves import Small, Still


@pytest.fixture
def running(tmp_path):
    (tmp_path / "names").write_text("alpha\n")
    items = Small(names=Path("names"), added=Path("added.jsonl"), pause_s=0.002)
    limits = Limits(waiting_requests=5000)
    with served(Serving(root=tmp_path, items=items, scenes=Still(), limits=limits)) as server:
        yield server


def reload(running: Running) -> httpx.Response:
    return httpx.post(f"{running.address}/admin/reload", timeout=60)


def has(running: Running, item: str) -> bool:
    return httpx.get(f"{running.address}/v1/items/{item}").status_code == 200


def test_what_is_new_on_disk_is_served_after_a_reload_and_not_before(running, tmp_path):
    (tmp_path / "names").write_text("alpha\nbeta\n")
    assert has(running, "alpha")
    assert not has(running, "beta")
    assert reload(running).json() == {"generation": 2}
    assert has(running, "beta")
    assert httpx.get(f"{running.address}/v1/info").json()["generation"] == 2


@pytest.mark.parametrize("damage", ["broken\n", None])
def test_what_is_broken_is_refused_and_the_old_goes_on(running, tmp_path, damage):
    if damage is None:
        (tmp_path / "names").write_bytes(b"gamma")
        (tmp_path / "added.jsonl").write_bytes(b"no checksum\n")
    else:
        (tmp_path / "names").write_text(damage)
    refused = reload(running)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "not_loaded"
    assert has(running, "alpha")
    assert not has(running, "gamma")
    assert httpx.get(f"{running.address}/readyz").status_code == 200
    assert httpx.get(f"{running.address}/v1/info").json()["generation"] == 1


def test_a_half_that_has_gone_is_said_to_be_missing(running, tmp_path):
    (tmp_path / "names").unlink()
    assert reload(running).status_code == 200
    info = httpx.get(f"{running.address}/v1/info").json()
    assert info["items"] is None
    assert "names is not there" in info["items_missing"]
    assert info["scenes"] is not None


def test_what_is_added_while_the_next_generation_loads_is_in_it(running, monkeypatch):
    current = running.service.current
    load = current.load

    def slow():
        loaded = load()
        body = {"items": [{"id": "late", "title": "Late"}]}
        assert httpx.post(f"{running.address}/v1/items", json=body).status_code == 200
        return loaded

    monkeypatch.setattr(current, "load", slow)
    assert reload(running).json() == {"generation": 2}
    assert has(running, "late")


def test_no_request_fails_and_no_answer_is_mixed_while_reloading_under_load(running, tmp_path):
    stop = threading.Event()
    statuses: list[int] = []
    mixed: list[list[str]] = []

    def ask() -> None:
        with httpx.Client(base_url=running.address, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/v1/retrieve", json={"k": 1000})
                statuses.append(answer.status_code)
                names = [one["item"]["id"] for one in answer.json()["items"]]
                versions = {name for name in names if name.startswith("version")}
                if len(versions) > 1:
                    mixed.append(sorted(versions))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for number in range(8):
        (tmp_path / "names").write_text(f"version-{number}\n")
        assert reload(running).json() == {"generation": number + 2}
    stop.set()
    for asker in askers:
        asker.join()
    assert set(statuses) == {200}
    assert len(statuses) > 50
    assert mixed == []


def test_a_second_reload_at_the_same_time_is_refused(running):
    with running.service.current._loading:
        refused = reload(running)
    assert refused.status_code == 409
    assert "Another reload is under way" in refused.json()["error"]["message"]
    assert reload(running).status_code == 200
