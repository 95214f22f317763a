"""`/v1/embeddings` and `/v1/models`, in the format of OpenAI's API."""

import base64
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field, StringConstraints
from pydantic_core import to_json

from personalize.api.errors import ApiError
from personalize.api.messages import Message
from personalize.api.service import Service, gathered
from personalize.api.text_model import Texts, shortened

EmbeddedText = Annotated[str, StringConstraints(min_length=1)]


class EmbeddingsRequest(Message):
    """Texts to turn into vectors."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "all-minilm-l6-v2", "input": ["light and quiet", "fast and loud"]}
            ]
        }
    )

    input: EmbeddedText | Annotated[list[EmbeddedText], Field(fail_fast=True)] = Field(
        description="One text or several; none may be empty."
    )
    model: str = Field(description="A name from `/v1/models`.")
    dimensions: int | None = Field(
        default=None, ge=1, description="Keep so many numbers, brought to length 1 again."
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="base64 holds little-endian 32-bit floats."
    )
    user: str | None = Field(default=None, max_length=256, description="Accepted and not used.")
    truncate: bool = Field(
        default=False,
        description="Read the beginning of texts that are too long, instead of refusing.",
    )


class Embedding(Message):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(Message):
    """Word pieces that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Message):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(Message):
    """One model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsAnswer(Message):
    """All models that can be asked."""

    object: Literal["list"]
    data: list[Model]


router = APIRouter(prefix="/v1", tags=["embeddings"])


@router.post("/embeddings", response_model=EmbeddingsAnswer)
async def embeddings(request: Request, asked: EmbeddingsRequest) -> Response:
    """Turn texts into vectors of length 1, as OpenAI's endpoint of the same name does."""
    return await embedded(request.app.state.service, asked)


async def embedded(service: Service, asked: EmbeddingsRequest) -> Response:
    """The vectors of the texts, as they travel.

    Raises:
        ApiError: If there is no such model, or a number or a text is out of range.
    """
    model, limits = service.operations.generation.text, service.limits
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    if asked.model != model.name:
        raise ApiError(
            404, f"There is no model {asked.model[:100]}, only {model.name}.", "model_not_found"
        )
    if not 1 <= len(texts) <= limits.texts:
        raise ApiError(
            400, f"input must be 1 to {limits.texts} texts, got {len(texts)}.", "invalid_value"
        )
    longest = max(map(len, texts))
    if longest > limits.text_characters:
        raise ApiError(
            400,
            f"A text of input has {longest} characters, more than {limits.text_characters}.",
            "invalid_value",
            "input",
        )
    if asked.dimensions is not None and asked.dimensions > model.width:
        raise ApiError(
            400,
            f"dimensions must not exceed {model.width}, got {asked.dimensions}.",
            "invalid_value",
            "dimensions",
        )
    operation, most = service.operations.embed, limits.batch_texts
    parts = [
        Texts(tuple(texts[first : first + most]), first, asked.truncate)
        for first in range(0, len(texts), most)
    ]
    found = await gathered([service.ask(operation, part, weight=len(part.texts)) for part in parts])
    vectors = [row for part in found for row in shortened(part.vectors, asked.dimensions)]
    tokens = sum(part.tokens for part in found)
    as_text = asked.encoding_format == "base64"
    body = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode()
                if as_text
                else row.tolist(),
            }
            for index, row in enumerate(vectors)
        ],
        "model": model.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Response(to_json(body), media_type="application/json")


@router.get("/models", response_model=ModelsAnswer)
async def models(request: Request) -> dict:
    """Name the models that `/v1/embeddings` takes."""
    service: Service = request.app.state.service
    name = service.operations.generation.text.name
    created = int(service.current.opened_at_s)
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": created, "owned_by": "personalize"}],
    }
