"""The application: paths, errors and the door, put together around a service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from data_prep.artifact import package_version
from personalize.api import embeddings, operation, retrieval
from personalize.api.errors import ANSWERS, ApiError, invalid, our_fault
from personalize.api.guard import Guard
from personalize.api.service import Service

_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(service: Service) -> FastAPI:
    """The application that answers with a service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.closing = True
        await service.batches.close()

    app = FastAPI(
        title="personalize",
        version=package_version(),
        description="Recommendations and driving, steered by preferences.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ANSWERS,
    )
    app.state.service = service
    for router in (
        embeddings.router,
        retrieval.shared_router,
        retrieval.items_router,
        retrieval.scenes_router,
        operation.router,
    ):
        app.include_router(router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Guard, service=service)
    _drop_default_422(app)
    return app


async def _api_error(request: Request, error: Exception) -> Response:
    return (error if isinstance(error, ApiError) else our_fault()).response()


async def _invalid(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    return invalid(problems).response()


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(getattr(error, "detail", "")).rstrip(".")
    code = _CODES.get(status, "invalid_request")
    headers = dict(getattr(error, "headers", None) or {})
    return ApiError(status, f"{detail}.", code, headers=headers).response()


def _drop_default_422(app: FastAPI) -> None:
    """Invalid requests are answered with 400, so the document must not promise 422."""
    make = app.openapi

    def openapi() -> dict:
        document = make()
        for path in document["paths"].values():
            for described in path.values():
                described["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return document

    app.openapi = openapi
