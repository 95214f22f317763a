"""The smallest server that the page can live on: the two fake halves, and a key where one is set.

`python -m tests.page.small_app` serves it on port 8000, to try the page by hand.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import personalize.page
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from personalize.api.messages import (
    AddedItem,
    ItemQuery,
    ItemsAdded,
    ItemsToAdd,
    PlanRequest,
    ReadRequest,
    SceneQuery,
)
from personalize.api.ports import Half, RequestRefused
from tests.page.fake_halves import ATTRIBUTES, STYLE_DIMENSIONS, FakeItems, FakeScenes

POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
MISSING = "There are no {} to serve: {} is not there; make it with `{}`."


def small_app(
    items: FakeItems | None, scenes: FakeScenes | None, *, key: str | None = None
) -> FastAPI:
    """An app of the two halves, either of which may be missing."""
    app = FastAPI()

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Any]) -> Response:
        asked = request.headers.get("authorization")
        if key is not None and request.url.path.startswith("/v1/") and asked != f"Bearer {key}":
            return _error("This server asks for a key.", status=401)
        answer = await go_on(request)
        answer.headers["Content-Security-Policy"] = POLICY
        return answer

    @app.exception_handler(RequestRefused)
    async def refused(_: Request, error: RequestRefused) -> Response:
        return _error(str(error), status=error.status, param=error.param)

    folder = Path(personalize.page.__path__[0])

    @app.get("/")
    async def page() -> Response:
        return FileResponse(folder / "index.html")

    @app.get("/page/{name}")
    async def asset(name: str) -> Response:
        if not (folder / name).is_file():
            raise HTTPException(404)
        return FileResponse(folder / name)

    @app.get("/v1/info")
    async def info() -> dict[str, Any]:
        return {
            "items": None if items is None else items.facts(),
            "items_missing": MISSING.format("items", "demo/fit/causal", "make demo")
            if items is None
            else None,
            "scenes": None if scenes is None else scenes.facts(),
            "scenes_missing": MISSING.format("scenes", "demo-driving/scenes", "make demo-driving")
            if scenes is None
            else None,
            "attributes": [{"name": n, "text": row[0]} for n, row in ATTRIBUTES.items()],
            "style_dimensions": list(STYLE_DIMENSIONS),
            "generation": 1,
        }

    @app.post("/v1/retrieve")
    async def retrieve(query: ItemQuery | SceneQuery) -> Any:
        if isinstance(query, SceneQuery):
            return _one(_there(scenes).retrieve([query]))
        return _one(_there(items).retrieve([query]))

    @app.post("/v1/plan")
    async def plan(request: PlanRequest) -> Any:
        return _one(_there(scenes).plan([request]))

    @app.post("/v1/preferences")
    async def read(request: ReadRequest) -> Any:
        return _there(items if request.scene is None else scenes).read(request)

    @app.post("/v1/items")
    async def add(request: ItemsToAdd) -> ItemsAdded:
        answers = _there(items).add(request.items)
        return ItemsAdded(items=[one for one in answers if isinstance(one, AddedItem)])

    for path, half in (("items", items), ("users", items), ("scenes", scenes)):
        _add_lists(app, path, half)
    return app


def _add_lists(app: FastAPI, path: str, half: Any) -> None:
    """The list of something, and one of it by its id."""

    @app.get(f"/v1/{path}", name=path)
    async def some(query: str = "", start: int = 0, count: int = 20) -> Any:
        return getattr(_there(half), path)(query, start=start, count=count)

    @app.get(f"/v1/{path}/{{name:path}}", name=f"one of {path}")
    async def one(name: str) -> Any:
        return getattr(_there(half), path.removesuffix("s"))(name)


def _there(half: Half | None) -> Any:
    if half is None:
        raise RequestRefused("This half is not served here.", status=404)
    return half


def _one(answers: Sequence[Any]) -> Any:
    if isinstance(answers[0], RequestRefused):
        raise answers[0]
    return answers[0]


def _error(message: str, *, status: int, param: str | None = None) -> Response:
    body = {"message": message, "type": "invalid_request_error", "code": None, "param": param}
    return JSONResponse({"error": body}, status_code=status)


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(small_app(FakeItems(), FakeScenes()), port=8000)
