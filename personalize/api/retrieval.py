"""The paths that ask the two halves: preferences, retrieval, plans, items, users and scenes."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import BaseModel, Discriminator, Tag
from pydantic_core import to_json

from personalize.api.messages import (
    Item,
    ItemQuery,
    ItemsAdded,
    ItemsFound,
    ItemsPage,
    ItemsToAdd,
    PlanAnswer,
    PlanRequest,
    PreferencesAnswer,
    ReadRequest,
    SceneQuery,
    ScenesFound,
    ScenesPage,
    SceneView,
    UserPage,
    UserView,
)
from personalize.api.service import Operations, Service


def _collection(query: Any) -> str:  # noqa: ANN401  (whatever a client sent)
    if isinstance(query, dict):
        return str(query.get("collection", "items"))
    return str(getattr(query, "collection", "items"))


AnyQuery = Annotated[
    Annotated[ItemQuery, Tag("items")] | Annotated[SceneQuery, Tag("scenes")],
    Discriminator(
        _collection,
        custom_error_type="unknown_collection",
        custom_error_message="collection must be items or scenes",
    ),
]
Words = Annotated[str, Query(max_length=200, description="Words to look for.")]
Start = Annotated[int, Query(ge=0, le=10_000_000, description="How many to pass over.")]
Count = Annotated[int, Query(ge=1, le=200, description="How many to return.")]
Name = Annotated[str, Path(max_length=256)]

items_router = APIRouter(prefix="/v1", tags=["recommendations"])
scenes_router = APIRouter(prefix="/v1", tags=["driving"])
shared_router = APIRouter(prefix="/v1", tags=["both halves"])


def answer(message: BaseModel) -> Response:
    """A message as it travels; it was checked when it was made."""
    return Response(to_json(message), media_type="application/json")


def _service(request: Request) -> Service:
    return request.app.state.service


async def _called(request: Request, run: Callable[[Operations], BaseModel]) -> Response:
    """What a half replies to a call, as it travels."""
    return answer(await _service(request).call(run))


@shared_router.post("/retrieve", response_model=ItemsFound | ScenesFound)
async def retrieve(
    request: Request,
    query: Annotated[
        AnyQuery,
        Body(
            openapi_examples={
                "items": {"value": ItemQuery.model_config["json_schema_extra"]["examples"][0]},  # type: ignore[index]
                "scenes": {"value": SceneQuery.model_config["json_schema_extra"]["examples"][0]},  # type: ignore[index]
            }
        ),
    ],
) -> Response:
    """Find items for a history and preferences, or scenes for a situation or a style."""
    return await retrieved(_service(request), query)


async def retrieved(service: Service, query: ItemQuery | SceneQuery) -> Response:
    """What is found, as it travels.

    Raises:
        ApiError: If the half is not served or refuses the query.
    """
    if isinstance(query, SceneQuery):
        return answer(await service.ask(service.operations.retrieve_scenes, query))
    return answer(await service.ask(service.operations.retrieve_items, query))


@shared_router.post("/preferences", response_model=PreferencesAnswer)
async def preferences(request: Request, asked: ReadRequest) -> Response:
    """Read preferences in reviews or in a scene, and the vector they condition on."""

    def read(operations: Operations) -> PreferencesAnswer:
        half = operations.items if asked.scene is None else operations.scenes
        return half.read(asked)

    return await _called(request, read)


@scenes_router.post("/plan", response_model=PlanAnswer)
async def plan(request: Request, asked: PlanRequest) -> Response:
    """Plan in a scene, in one or several styles, with sub-scores."""
    service = _service(request)
    return answer(await service.ask(service.operations.plan, asked))


@items_router.post("/items", response_model=ItemsAdded)
async def add_items(request: Request, asked: ItemsToAdd) -> Response:
    """Add or change items; they are found at once, and after a restart."""
    return answer(ItemsAdded(items=await _service(request).add(asked)))


@items_router.get("/items", response_model=ItemsPage)
async def items(
    request: Request, query: Words = "", start: Start = 0, count: Count = 20
) -> Response:
    """Look for items by words of their id, title, brand or category."""
    return await _called(request, lambda asked: asked.items.items(query, start=start, count=count))


@items_router.get("/items/{item:path}", response_model=Item)
async def item(request: Request, item: Name) -> Response:
    """Show one item."""
    return await _called(request, lambda asked: asked.items.item(item))


@items_router.get("/users", response_model=UserPage)
async def users(
    request: Request, query: Words = "", start: Start = 0, count: Count = 20
) -> Response:
    """Look for users by their id."""
    return await _called(request, lambda asked: asked.items.users(query, start=start, count=count))


@items_router.get("/users/{user:path}", response_model=UserView)
async def user(request: Request, user: Name) -> Response:
    """Show a user's history, reviews and what was read in them."""
    return await _called(request, lambda asked: asked.items.user(user))


@scenes_router.get("/scenes", response_model=ScenesPage)
async def scenes(
    request: Request, query: Words = "", start: Start = 0, count: Count = 20
) -> Response:
    """Look for scenes by words of their description."""
    return await _called(
        request, lambda asked: asked.scenes.scenes(query, start=start, count=count)
    )


@scenes_router.get("/scenes/{scene:path}", response_model=SceneView)
async def scene(request: Request, scene: Name) -> Response:
    """Show a scene from above."""
    return await _called(request, lambda asked: asked.scenes.scene(scene))
