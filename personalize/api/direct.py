"""The paths that are asked most, answered without the framework's own way through a request.

FastAPI declares and documents them as all others, but takes longer to hand a request over than its
share of a batch takes to answer. So the door reads their bodies itself; both ways give the same
answers (`tests/personalize/api/test_direct.py`).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from personalize.api.embeddings import EmbeddingsRequest, embedded
from personalize.api.errors import ApiError, invalid
from personalize.api.retrieval import AnyQuery, retrieved
from personalize.api.service import Service


@dataclass(frozen=True)
class DirectPath:
    """A path that takes a message and gives an answer.

    Attributes:
        adapter: Reads the message.
        answer: Answers it.
    """

    adapter: TypeAdapter
    answer: Callable[[Service, Any], Awaitable[Response]]

    async def __call__(self, service: Service, body: bytes) -> Response:
        """The answer to a body, or why there is none."""
        try:
            return await self.answer(service, self.adapter.validate_json(body or b"null"))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=True, include_input=False)
            located = [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
            return invalid(located).response()
        except ApiError as error:
            return error.response()


DIRECT_PATHS: Mapping[str, DirectPath] = {
    "/v1/embeddings": DirectPath(TypeAdapter(EmbeddingsRequest), embedded),
    "/v1/retrieve": DirectPath(TypeAdapter(AnyQuery), retrieved),
}


def direct_path(method: str, path: str, headers: Mapping[str, str]) -> DirectPath | None:
    """Who answers a request without the framework, if anybody."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method != "POST" or kind != "application/json":
        return None
    return DIRECT_PATHS.get(path)
