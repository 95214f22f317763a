"""The official OpenAI client against the server on a real socket, and the library beside it."""

import base64
import time

import httpx2 as httpx
import numpy as np
import openai
import pytest

from personalize.api.configuration import Serving
from personalize.api.limits import Limits
from personalize.conditioning.text import SentenceEncoder
from tests.personalize.api.served_here import Running, served

TEXTS = ["light and quiet", "A sturdy backpack for long trails.", "fast", "schön und 安静"]
MODEL = "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    limits = Limits(texts=70, text_characters=5000)
    with served(Serving(root=tmp_path_factory.mktemp("root"), limits=limits)) as server:
        yield server


@pytest.fixture(scope="module")
def client(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.address}/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def library() -> SentenceEncoder:
    return SentenceEncoder()


def batch_count(running: Running, operation: str) -> int:
    """How many batches of an operation were computed."""
    name = f'personalize_batch_size_count{{operation="{operation}"}} '
    lines = httpx.get(f"{running.address}/metrics").text.splitlines()
    return sum(int(float(line.removeprefix(name))) for line in lines if line.startswith(name))


def test_the_client_gets_what_the_library_gives_to_the_last_bit(client, library):
    found = client.embeddings.create(model=MODEL, input=TEXTS)  # asks for base64 by itself
    vectors = np.array([row.embedding for row in found.data], np.float32)
    assert [row.index for row in found.data] == [0, 1, 2, 3]
    np.testing.assert_array_equal(vectors, library.encode(TEXTS))
    assert found.model == MODEL
    counted = sum(library.token_counts(TEXTS))
    assert found.usage.prompt_tokens == found.usage.total_tokens == counted


def test_a_single_text_and_numbers_instead_of_base64(client, library):
    found = client.embeddings.create(model=MODEL, input=TEXTS[1], encoding_format="float")
    np.testing.assert_array_equal(
        np.array(found.data[0].embedding, np.float32), library.encode(TEXTS[1:2])[0]
    )


def test_base64_holds_little_endian_floats(running, library):
    body = {"model": MODEL, "input": TEXTS[0], "encoding_format": "base64"}
    found = httpx.post(f"{running.address}/v1/embeddings", json=body).json()
    raw = base64.b64decode(found["data"][0]["embedding"])
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4"), library.encode(TEXTS[:1])[0])


def test_fewer_dimensions_are_the_first_ones_at_length_one(client, library):
    found = client.embeddings.create(model=MODEL, input=TEXTS, dimensions=50)
    whole = library.encode(TEXTS)[:, :50]
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(
        np.array([row.embedding for row in found.data]), expected, rtol=0, atol=1e-7
    )


def test_many_texts_are_cut_into_batches_and_come_back_in_order(client, library):
    texts = [f"text number {number}" for number in range(70)]
    found = client.embeddings.create(model=MODEL, input=texts)
    np.testing.assert_allclose(
        np.array([row.embedding for row in found.data], np.float32),
        library.encode(texts),
        rtol=0,
        atol=1e-6,
    )


def test_models_are_named_as_the_client_expects(client):
    assert [model.id for model in client.models.list()] == [MODEL]


@pytest.mark.parametrize(
    ("changes", "error", "param", "message"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, None, "There is no model gpt-9"),
        ({"input": []}, openai.BadRequestError, None, "input must be 1 to 70 texts, got 0"),
        ({"input": ["a"] * 71}, openai.BadRequestError, None, "1 to 70 texts, got 71"),
        ({"input": ""}, openai.BadRequestError, "input", "at least 1 character"),
        ({"input": "a" * 5001}, openai.BadRequestError, "input", "5001 characters"),
        ({"input": [[1, 2]]}, openai.BadRequestError, "input", "valid string"),
        ({"dimensions": 385}, openai.BadRequestError, "dimensions", "must not exceed 384"),
        ({"dimensions": 0}, openai.BadRequestError, "dimensions", "greater than or equal to 1"),
        ({"encoding_format": "hex"}, openai.BadRequestError, "encoding_format", "'float'"),
        ({"extra_body": {"nonsense": 1}}, openai.BadRequestError, "nonsense", "not permitted"),
        ({"input": "word " * 300}, openai.BadRequestError, "input", "302 word pieces"),
    ],
)
def test_what_cannot_be_embedded_is_refused_as_openai_does(client, changes, error, param, message):
    with pytest.raises(error, match=message) as refused:
        client.embeddings.create(**{"model": MODEL, "input": "text"} | changes)
    body = refused.value.body
    assert set(body) == {"message", "type", "code", "param"}
    assert (body["param"] or "").split(".")[0] == (param or "")
    assert body["code"]


def test_a_text_that_is_too_long_is_named_by_its_place_and_the_rest_is_not_encoded(client, running):
    before = batch_count(running, "embed")
    texts = [*["short"] * 5, "word " * 300, *["short"] * 64]
    with pytest.raises(openai.BadRequestError, match="input 5 has 302 word pieces"):
        client.embeddings.create(model=MODEL, input=texts)
    while len(running.service.batches):
        time.sleep(0.01)
    client.embeddings.create(model=MODEL, input="short")  # comes after whatever is still there
    assert batch_count(running, "embed") - before < 4
    late = [*["short"] * 40, "word " * 300]
    with pytest.raises(openai.BadRequestError, match="input 40 has 302 word pieces"):
        client.embeddings.create(model=MODEL, input=late)


def test_a_text_that_is_too_long_is_cut_on_request_and_counts_what_was_read(client, library):
    found = client.embeddings.create(
        model=MODEL, input=["word " * 300, "b"], extra_body={"truncate": True}
    )
    assert found.usage.total_tokens == library.most_tokens + library.token_counts(["b"])[0]


def test_where_no_half_is_served_it_says_so(running):
    info = httpx.get(f"{running.address}/v1/info").json()
    assert info["items"] is None
    assert "not part of this server" in info["items_missing"]
    for path, body in (
        ("retrieve", {"k": 1}),
        ("retrieve", {"collection": "scenes", "text": "a"}),
        ("plan", {"scene": "a", "styles": [{"name": "a"}]}),
        ("items", {"items": [{"id": "a", "title": "A"}]}),
    ):
        answer = httpx.post(f"{running.address}/v1/{path}", json=body)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_served"
    assert httpx.get(f"{running.address}/readyz").status_code == 200
