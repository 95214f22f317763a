"""The paths that skip the framework answer as those that go through it."""

import asyncio

import httpx2 as httpx
import pytest

from personalize.api import guard
from personalize.api.app import create_app
from personalize.api.configuration import Serving
from personalize.api.direct import DIRECT_PATHS
from personalize.api.keys import ApiKeys
from personalize.api.limits import Limits
from personalize.api.served import Current
from personalize.api.service import Service
from tests.personalize.api.small_halves import Small, Still

BODIES: dict[str, list[bytes]] = {
    "/v1/retrieve": [
        b"{}",
        b'{"k": 3, "history": ["item-1"], "preferences": [{"text": " light "}]}',
        b'{"collection": "scenes", "text": "a"}',
        b'{"collection": "roads"}',
        b'{"collection": "scenes"}',
        b'{"k": 0}',
        b'{"k": 2.0}',
        b'{"k": "2"}',
        b'{"k": true}',
        b'{"filters": {"most_price_cents": -1}}',
        b'{"preferences": [{}]}',
        b'{"preferences": [{"text": "a", "strength": 2}]}',
        b'{"history": ["nobody"]}',
        b'{"nonsense": 1}',
        b"[]",
        b'"text"',
        b"",
        b"null",
    ],
    "/v1/embeddings": [
        b'{"model": "all-minilm-l6-v2", "input": "light"}',
        b'{"model": "all-minilm-l6-v2", "input": ["a", "b"], "encoding_format": "base64"}',
        b'{"model": "gpt-9", "input": "light"}',
        b'{"model": "all-minilm-l6-v2", "input": []}',
        b'{"model": "all-minilm-l6-v2", "input": ["a", ""]}',
        b'{"model": "all-minilm-l6-v2", "input": [1]}',
        b'{"model": "all-minilm-l6-v2", "input": "a", "dimensions": 0}',
        b'{"input": "a"}',
        b"[]",
        b"",
    ],
}
CASES = [(path, body) for path, bodies in BODIES.items() for body in bodies]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    serving = Serving(root=tmp_path_factory.mktemp("root"), items=Small(), scenes=Still())
    return create_app(Service(Current(lambda: serving), keys=ApiKeys([]), limits=Limits()))


def asked(app, path: str, body: bytes, content_type: str = "application/json"):
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            headers = {"Content-Type": content_type}
            answer = await client.post(path, content=body, headers=headers)
        service = app.state.service
        await service.batches.close()  # its loop ends here
        service.batches = type(service.batches)(waiting=10, patience_s=10.0)
        return answer

    return asyncio.run(ask())


def test_every_direct_path_is_tried():
    assert set(BODIES) == set(DIRECT_PATHS)


@pytest.mark.parametrize(("path", "body"), CASES)
def test_both_ways_give_the_same_answer(app, monkeypatch, path, body):
    direct = asked(app, path, body)
    monkeypatch.setattr(guard, "direct_path", lambda *request: None)
    through = asked(app, path, body)
    assert direct.status_code == through.status_code
    assert direct.headers["content-type"] == through.headers["content-type"]
    assert direct.json() == through.json()


def test_what_is_not_called_json_goes_through_the_framework(app):
    answer = asked(app, "/v1/retrieve", b"{}", content_type="text/plain")
    assert answer.status_code == 400
