"""The paths for whoever runs the server: health, metrics, what is served, reload, the page."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.responses import FileResponse

from personalize.api.errors import ApiError
from personalize.api.service import Service

PAGE = Path(__file__).parent.parent / "page"
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class State(BaseModel):
    """The state of the server, in one word."""

    status: str


class Reloaded(BaseModel):
    """What answers from now on."""

    generation: int


router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=State)
async def alive() -> State:
    """Say that the process is alive; never waits behind the queue."""
    return State(status="alive")


@router.get("/readyz", response_model=State)
async def ready(request: Request) -> State:
    """Say that requests can be answered: artifacts are loaded and answered a question."""
    service: Service = request.app.state.service
    await service.check_ready()
    return State(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Give metrics for Prometheus."""
    service: Service = request.app.state.service
    return Response(service.monitor.text(), media_type="text/plain; version=0.0.4")


@router.get("/v1/info", response_model=dict[str, Any])
async def info(request: Request) -> dict[str, Any]:
    """Say what is served: models, content hashes, sizes, names of attributes and dimensions."""
    service: Service = request.app.state.service
    facts = await service.call(lambda operations: operations.generation.facts())
    items, scenes = facts["items"] or {}, facts["scenes"] or {}
    return facts | {
        "attributes": items.get("attributes", []),
        "style_dimensions": scenes.get("style_dimensions", []),
    }


@router.post("/admin/reload", response_model=Reloaded)
async def reload(request: Request) -> Reloaded:
    """Check and load what is on disk now, and let it answer; what is broken is refused."""
    service: Service = request.app.state.service
    return Reloaded(generation=await service.reload())


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """Show the page to steer by hand."""
    return _file("index.html")


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """Show what can be asked, with examples."""
    return _file("docs.html")


@router.get("/page/{name}", include_in_schema=False)
async def part_of_page(name: str) -> Response:
    """Give one file of the page."""
    return _file(name)


@cache
def _files() -> Mapping[str, Path]:
    return {path.name: path for path in PAGE.iterdir() if path.suffix in _TYPES}


def _file(name: str) -> Response:
    """A file of the page's folder, never of another one."""
    path = _files().get(name)
    if path is None:
        raise ApiError(404, "There is no such file.", "not_found")
    return FileResponse(
        path,
        media_type=_TYPES[path.suffix],
        headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"},
    )
