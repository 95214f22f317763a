"""The OpenAPI document: what it promises is what is answered, and nothing makes the server fail."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from personalize.api.app import create_app
from personalize.api.configuration import Serving
from personalize.api.keys import ApiKeys
from personalize.api.limits import Limits
from personalize.api.served import Current
from personalize.api.service import Service
from tests.personalize.api.small_halves import Small, Still

EXAMPLES = 40
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    serving = Serving(root=tmp_path_factory.mktemp("root"), items=Small(), scenes=Still())
    return create_app(Service(Current(lambda: serving), keys=ApiKeys([]), limits=Limits()))


@pytest.fixture(scope="module")
def document(app):
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def statuses_of(operation, mode: GenerationMode) -> set[int]:
    """What an operation answers to many requests; each answer is checked."""
    found: set[int] = set()

    @settings(max_examples=EXAMPLES, suppress_health_check=SLOW, deadline=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        found.add(case.call_and_validate(checks=CHECKS).status_code)

    check()
    return found


def test_every_answer_is_as_promised(document):
    answered: dict[str, set[int]] = {}
    for found in document.get_all_operations():
        operation = found.ok()
        statuses = statuses_of(operation, GenerationMode.POSITIVE)
        if operation.body or operation.query or operation.path_parameters:
            statuses |= statuses_of(operation, GenerationMode.NEGATIVE)
        answered[operation.label] = statuses
    assert {200, 400} <= answered["POST /v1/retrieve"]
    assert {200, 400} <= answered["POST /v1/items"]
    assert answered["GET /healthz"] == {200}


def test_the_document_names_every_path_with_an_example_and_a_summary(app):
    document = app.openapi()
    paths = {
        "/v1/embeddings": "post",
        "/v1/models": "get",
        "/v1/preferences": "post",
        "/v1/retrieve": "post",
        "/v1/plan": "post",
        "/v1/items": "post",
        "/healthz": "get",
        "/readyz": "get",
        "/v1/info": "get",
        "/metrics": "get",
        "/admin/reload": "post",
    }
    for path, method in paths.items():
        described = document["paths"][path][method]
        assert described["summary"]
        assert described["description"]
        assert "422" not in described["responses"]
        if "requestBody" in described:
            body = described["requestBody"]["content"]["application/json"]
            name = body["schema"].get("$ref", "").rpartition("/")[2]
            known = document["components"]["schemas"].get(name, {})
            assert body.get("examples") or known.get("examples"), path
    assert "HTTPValidationError" not in json.dumps(document)
