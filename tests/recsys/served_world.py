"""A small world behind the API: artifacts, models with drawn weights, a plain retriever."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from data_prep.artifact import create_artifact, read_manifest
from personalize.api.files import ServedFiles
from personalize.api.messages import AddedItem, ItemQuery, ItemsFound, NewItem, Wish
from personalize.api.retriever import EVERYTHING, Found, IdFilter, Retriever, RetrieverSource
from personalize.conditioning.text import SentenceEncoder
from recsys import serving
from recsys.baselines.popularity import Popularity
from recsys.baselines.sasrec import SASRec
from recsys.catalogue import catalogue_sizes
from recsys.embed import write_item_vectors
from recsys.recommender import Recommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.mender_emb import MenderEmb
from recsys.retriever.tiger import Tiger
from recsys.retriever.transformer import NetworkSize
from recsys.semantic_id.tokenize import run as tokenize
from recsys.served_recommender import ServedRecommender
from recsys.served_search import GeneratesCodes
from recsys.stored_catalogue import load_catalogue
from tests.recsys.retriever_fixtures import small_batch
from tests.recsys.small_world import WIDTH, World, _vector, make_world, write_world

MODELS: Mapping[str, tuple[type, Mapping[str, Any]]] = {
    "causal": (
        CausalRetriever,
        {"size": {"width": 16, "layers": 1, "heads": 2, "match": True}},
    ),
    "mender_emb": (
        MenderEmb,
        {
            "size": {
                "width": 16, "heads": 2, "head_width": 6, "feedforward": 20,
                "encoder_layers": 1, "decoder_layers": 2,
            }
        },
    ),
    "tiger": (
        Tiger,
        {
            "size": {
                "width": 16, "heads": 2, "head_width": 6, "feedforward": 20,
                "encoder_layers": 1, "decoder_layers": 2,
            }
        },
    ),
    "sasrec": (SASRec, {"width": 16, "layers": 1}),
    "popularity": (Popularity, {}),
}  # fmt: skip
_SIZES = {CausalRetriever: CausalSize, MenderEmb: NetworkSize, Tiger: NetworkSize}


class PlainRetriever(Retriever):
    """Every product with every vector."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.ids = np.arange(len(vectors))
        self.vectors = vectors
        self.searches = 0

    @property
    def width(self) -> int:
        return self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, queries: np.ndarray, *, count: int, only: IdFilter = EVERYTHING) -> Found:
        self.searches += 1
        allowed = np.ones(len(self.ids), bool)
        if only.only is not None:
            allowed &= np.isin(self.ids, only.only)
        if only.never is not None:
            allowed &= ~np.isin(self.ids, only.never)
        ids, scores = self.ids[allowed], queries @ self.vectors[allowed].T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        found = np.full((len(queries), count), -1, np.int64)
        best = np.full((len(queries), count), -np.inf, np.float32)
        found[:, : order.shape[1]] = ids[order]
        best[:, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
        return Found(found, best)

    def put(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        kept = ~np.isin(self.ids, ids)
        self.ids = np.concatenate([self.ids[kept], ids])
        self.vectors = np.concatenate([self.vectors[kept], vectors])

    def facts(self) -> Mapping[str, Any]:
        return {"class": "PlainRetriever", "vectors": len(self)}


@dataclass
class PlainSource(RetrieverSource):
    """Opens the vectors of an artifact."""

    folder: Path

    def open(self, files: ServedFiles, *, vectors_hash: str) -> PlainRetriever:
        artifact = files.artifact(self.folder, kind="item_vectors")
        assert artifact.content_hash == vectors_hash
        return PlainRetriever(np.array(artifact.arrays("item_vectors")["values"]))


class DrawnSentences(SentenceEncoder):
    """Vectors drawn by the text itself, as in `small_world`."""

    encoded: int = 0

    @property
    def width(self) -> int:
        return WIDTH

    @cached_property
    def fingerprint(self) -> str:
        return "drawn"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += len(texts)
        return np.stack([_vector(text, 0) for text in texts])


@dataclass
class ServedWorld:
    """Where everything lies.

    Attributes:
        root: The folder that is served.
        world: What it was made of.
    """

    root: Path
    world: World

    def items(self, model: str = "causal", **options: Any) -> serving.Items:
        """What serves a model; items can be added."""
        given = {
            "checkpoint": Path(model),
            "item_vectors": Path(f"{model}_vectors"),
            "retriever": PlainSource(Path(f"{model}_vectors")),
            "preferences": Path("preferences"),
            "vectors": Path("vectors"),
            "added": Path("added.jsonl"),
            "candidates": 8,
        }
        return serving.Items(**given | options)

    def opened(self, model: str = "causal", **options: Any) -> ServedRecommender:
        """A half that is ready."""
        return self.items(model, **options).open(ServedFiles(self.root))


def write_checkpoint(root: Path, name: str, *, seed: int = 0) -> Path:
    """A checkpoint of a model with drawn weights, as `recsys fit` writes one."""
    kind, options = MODELS[name]
    data = {n: str(root / n) for n in ("tables", "vectors", "semantic_ids", "preferences")}
    if name == "tiger":
        del data["vectors"]  # it reads none
    catalogue = load_catalogue(
        root / "tables", root / "vectors" if "vectors" in data else None, root / "semantic_ids"
    )
    torch.manual_seed(seed)
    size = {"size": _SIZES[kind](**options["size"])} if kind in _SIZES else dict(options)
    model = kind(catalogue, **size)
    for parameter in model.parameters():  # what starts at zero would do nothing
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    if model.surveys:
        model.survey([sequences_of(catalogue)])
    weights = {f"recommender.{n}": v.clone().contiguous() for n, v in model.state_dict().items()}
    with create_artifact(
        root / name,
        kind="checkpoint",
        command="test",
        configuration={
            "model": {
                "recommender": {
                    "class_path": f"{kind.__module__}.{kind.__qualname__}",
                    "init_args": dict(options),
                }
            },
            "data": data | {"maximum_history": 6, "preference_count": 2},
        },
        inputs={n: read_manifest(Path(p)).content_hash for n, p in data.items()},
    ) as writer:
        save_file(weights, writer.path("weights.safetensors"))
        writer.write_json("catalogue", catalogue_sizes(catalogue))
    return root / name


def sequences_of(catalogue):
    """Histories with a target after every step, for a prior to count."""
    batch = small_batch_of(catalogue)
    shape = (*batch.history_mask.shape, 1)
    nothing = torch.zeros(shape, dtype=torch.bool)
    return type(batch)(
        row_ids=batch.row_ids,
        history_item_ids=batch.history_item_ids,
        history_mask=batch.history_mask,
        target_item_ids=batch.history_item_ids.roll(-1, 1),
        target_mask=batch.history_mask,
        preference_text_ids=nothing.long(),
        preference_mask=nothing,
        preference_avoid=nothing,
    )


def small_batch_of(catalogue, rows: int = 12):
    """Some histories of the catalogue's items, without preferences."""
    if len(catalogue.texts) > catalogue.item_count:
        return small_batch(catalogue, rows=rows)
    known = type(catalogue)(**vars(catalogue) | {"texts": tuple("t" * (catalogue.item_count + 1))})
    return small_batch(known, rows=rows, preferences=0)


def make_served_world(root: Path) -> ServedWorld:
    """Tables, preferences, vectors, semantic IDs, and every model with its item vectors."""
    world = make_world(people=12, item_count=24)
    write_world(root, world)
    tokenize(
        vectors=root / "vectors",
        tables=root / "tables",
        out=root / "semantic_ids",
        levels=2,
        codes=4,
        components=4,
        collision_size=6,
    )
    for name in MODELS:
        write_checkpoint(root, name)
        write_item_vectors(
            checkpoint=root / name, out=root / f"{name}_vectors", vectors=root / "vectors"
        )
    return ServedWorld(root, world)


def copy_of(original: ServedWorld, folder: Path) -> ServedWorld:
    """The same world elsewhere, for tests that add items."""
    shutil.copytree(original.root, folder, dirs_exist_ok=True)
    for manifest in folder.glob("*/manifest.json"):
        manifest.write_text(manifest.read_text().replace(str(original.root), str(folder)))
    return ServedWorld(folder, original.world)


def found(half: ServedRecommender, **query: Any) -> ItemsFound:
    """The answer to one question that is not refused."""
    answer = half.retrieve([ItemQuery(**query)])[0]
    assert isinstance(answer, ItemsFound), answer
    return answer


def keys(answer: ItemsFound) -> list[str]:
    """Ids of what was found."""
    return [entry.item.id for entry in answer.items]


def new_item(key: str, title: str = "Thing", **facts: Any) -> NewItem:
    """An item to add."""
    return NewItem(id=key, title=title, **facts)


def added(half: ServedRecommender, items: Sequence[NewItem]) -> list[AddedItem]:
    """What became of items, none of which is refused as a question."""
    answers = half.add(items)
    assert all(isinstance(answer, AddedItem) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, AddedItem)]


def wish(**facts: Any) -> Wish:
    """A preference."""
    return Wish(**facts)


def generator_of(model: Recommender) -> GeneratesCodes:
    """The recommender, which generates."""
    assert isinstance(model, GeneratesCodes)
    return model


def causal_of(model: Recommender) -> CausalRetriever:
    """The recommender, which is a causal retriever."""
    assert isinstance(model, CausalRetriever)
    return model
