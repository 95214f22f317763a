"""What goes wrong, as the answer a client gets: one form for all, that of OpenAI's API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "server_error",
]
_TYPES: Mapping[int, ErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

_NO_OBJECT = {"model_type", "model_attributes_type", "missing"}
_WHOLE_BODY = {"body", "items", "scenes"}
_LONGEST_PLACE = 200  # characters; a name in it may be anything that somebody sent


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: ErrorType
    code: str
    param: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is none."""

    error: ErrorFacts


@dataclass
class ApiError(Exception):
    """An answer that says why there is none.

    Attributes:
        status: HTTP status.
        message: One sentence for the client.
        code: A word for the client's program.
        param: The field at fault, where there is one.
        headers: Headers of the answer, such as Retry-After.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The answer itself."""
        fallback = "invalid_request_error" if self.status < 500 else "server_error"
        facts = ErrorFacts(
            message=self.message,
            type=_TYPES.get(self.status, fallback),
            code=self.code,
            param=self.param,
        )
        return Response(
            to_json(ErrorBody(error=facts)),
            status_code=self.status,
            headers=self.headers,
            media_type="application/json",
        )


def later(message: str, code: str, *, status: int, retry_after_s: int) -> ApiError:
    """An error that is gone if the client asks again after a while."""
    return ApiError(status, message, code, headers={"Retry-After": str(retry_after_s)})


def our_fault() -> ApiError:
    """An error that no request is to blame for; what happened stands in the log alone."""
    return ApiError(
        500, "Something went wrong here; the log of the server says what.", "internal_error"
    )


def invalid(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of pydantic's complaints about a request, as one sentence."""
    first = problems[0]
    place = _place(first["loc"])
    kind = str(first["type"])
    if kind in _NO_OBJECT and len(first["loc"]) < 3 and first["loc"][-1] in _WHOLE_BODY:
        return ApiError(400, "The body must be a JSON object.", "invalid_value")
    if kind == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it is cut short")
        return ApiError(400, f"The body is no JSON: {reason}.", "invalid_json")
    param = ".".join(place)[:_LONGEST_PLACE] or None
    where = f"{param}: " if param else ""
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return ApiError(400, f"{where}{message}.", "invalid_value", param)


def _place(location: Sequence[int | str]) -> list[str]:
    """Where in a request a complaint is about, without what only pydantic calls by name."""
    inner = list(location[1:])
    if len(inner) > 1 and inner[0] in ("items", "scenes") and isinstance(inner[1], str):
        inner = inner[1:]  # the kind of a query, not a field
    return [str(part) for part in inner if str(part).isidentifier() or isinstance(part, int)]


ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request cannot be answered as it stands."},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong."},
    403: {"model": ErrorBody, "description": "The API key may not do this."},
    404: {"model": ErrorBody, "description": "What is asked about does not exist."},
    408: {"model": ErrorBody, "description": "The request was sent too slowly."},
    409: {"model": ErrorBody, "description": "Not now, or not with what is on disk."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {"model": ErrorBody, "description": "Too many requests; see Retry-After."},
    503: {"model": ErrorBody, "description": "Not ready, or it took too long."},
}
"""Answers that any path may give, for the OpenAPI document."""
