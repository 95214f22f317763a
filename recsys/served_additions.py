"""Items added while serving: texts, vectors and codes of them, and a model that knows them.

The journal keeps every item as it was sent, with the codes it was given. Codes that were given
once stay: a restart reads them again and assigns none anew.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.messages import AddedItem, NewItem
from personalize.api.retriever import Retriever
from recsys.catalogue import Catalogue
from recsys.dense import DenseRetriever, dense_retriever
from recsys.growth import ItemWords, grown_catalogue, grown_recommender
from recsys.load import LoadedRecommender
from recsys.recommender import Recommender
from recsys.semantic_id.assign import free_id
from recsys.semantic_id.quantizer import Quantizer
from recsys.served_items import ItemFacts, ServedItems

Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Trained:
    """What was trained, as it was read; nothing that is added changes it.

    Attributes:
        loaded: The recommender.
        catalogue: Its items, with texts if there are any.
        items: What is known of them.
        quantizer: Gives codes to texts that came later; None where items have no codes.
        changes: Options of the recommender that were changed.
        codes_hash: Content hash of the semantic IDs.
    """

    loaded: LoadedRecommender
    catalogue: Catalogue
    items: ServedItems
    quantizer: Quantizer | None
    changes: Mapping[str, Any]
    codes_hash: str


@dataclass(frozen=True)
class Entry:
    """One item of the journal.

    Attributes:
        item: As it was sent.
        codes: Semantic ID it was given, or has since training.
        codes_hash: Content hash of the semantic IDs its codes belong to.
    """

    item: NewItem
    codes: tuple[int, ...]
    codes_hash: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Entry":
        """The entry a record of the journal holds.

        Raises:
            ArtifactMismatch: If it holds none.
        """
        try:
            item = NewItem.model_validate(record["item"])
            return cls(item, tuple(record["codes"]), record["semantic_ids"])
        except (KeyError, TypeError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise ArtifactMismatch(f"The journal of items holds no item: {line}.") from error

    def record(self) -> dict[str, Any]:
        """Plain JSON values from which `from_record` makes the same entry."""
        return {
            "item": self.item.model_dump(mode="json"),
            "codes": list(self.codes),
            "semantic_ids": self.codes_hash,
        }


@dataclass(frozen=True)
class Served:
    """Everything an answer is made of, at one moment; replaced whole, never changed.

    Attributes:
        recommender: Trained, and grown by what was added.
        catalogue: All items, with texts if there are any.
        items: What is known of them.
        space: What is searched by vectors; None where there is nothing to search by.
        keys: What every item is found by; no columns where there is no space.
        words: Text and vector of every item that was added or changed, by number.
    """

    recommender: Recommender
    catalogue: Catalogue
    items: ServedItems
    space: DenseRetriever | None
    keys: Tensor
    words: Mapping[int, ItemWords]

    @classmethod
    def as_trained(cls, trained: Trained) -> "Served":
        """Before anything was added."""
        loaded = trained.loaded
        return cls._of(loaded.recommender, trained.catalogue, trained.items, {})

    def grown(self, trained: Trained, entries: Sequence[Entry], encode: Encode) -> "Served":
        """With items added or changed; of several entries for one item the last one counts."""
        facts, codes = _numbered(self.items, entries)
        texts = {number: entry.text or "" for number, entry in facts.items()}
        vectors = _one_by_one(encode, list(texts.values()))
        words = dict(self.words) | {
            number: ItemWords(text, vector)
            for (number, text), vector in zip(texts.items(), vectors, strict=True)
        }
        base = trained.catalogue
        new_codes = torch.cat([self.catalogue.item_codes[base.item_count :].long(), codes])
        catalogue = grown_catalogue(base, words=words, new_codes=new_codes)
        recommender = grown_recommender(trained.loaded, catalogue, trained.changes)
        items = self.items.changed(facts, catalogue.item_codes)
        return Served._of(recommender, catalogue, items, words)

    @classmethod
    def _of(
        cls,
        recommender: Recommender,
        catalogue: Catalogue,
        items: ServedItems,
        words: Mapping[int, ItemWords],
    ) -> "Served":
        try:
            space = dense_retriever(recommender, catalogue)
        except ValueError:  # neither a dense head nor texts: no search by vectors
            return cls(recommender, catalogue, items, None, torch.zeros(len(items), 0), words)
        with torch.no_grad():
            return cls(recommender, catalogue, items, space, space.dense_keys().float(), words)


def put_keys(retriever: Retriever, served: Served, item_ids: Sequence[int]) -> None:
    """Let items be found by their present keys."""
    numbers = np.array(sorted(set(item_ids)), np.int64)
    retriever.put(numbers, served.keys[torch.from_numpy(numbers)].numpy())


def accepted(
    served: Served, trained: Trained, items: Sequence[NewItem], encode: Encode
) -> tuple[list[Entry], list[AddedItem]]:
    """Entries for the journal, and what is to be answered to each item.

    An unseen item gets the codes of its text and the smallest free collision digit; where none is
    free it is refused, and the others are not. A known one keeps its codes.
    """
    codes = served.catalogue.item_codes.tolist()
    known = {entry.key: tuple(row) for entry, row in zip(served.items.facts, codes, strict=True)}
    taken = set(known.values())
    unseen = [item for item in items if item.id not in known]
    assigned = dict(zip([i.id for i in unseen], _assigned(trained, unseen, encode), strict=True))
    entries, answers = [], []
    for item in items:
        status = "changed" if item.id in known else "added"
        if item.id not in known:
            try:
                known[item.id] = _free_id(trained, taken, item.id, assigned[item.id])
            except InputError as error:
                answers.append(
                    AddedItem(id=item.id, status="refused", semantic_id=None, reason=str(error))
                )
                continue
            taken.add(known[item.id])
        found = known[item.id]
        entries.append(Entry(item, found, trained.codes_hash))
        answers.append(AddedItem(id=item.id, status=status, semantic_id=list(found), reason=None))
    return entries, answers


def reassigned(
    served: Served, trained: Trained, entries: Sequence[Entry], encode: Encode
) -> list[Entry]:
    """Entries of a journal with codes of the present semantic IDs; those that have them keep them.

    Raises:
        InputError: If an item finds no free digit among the present semantic IDs.
    """
    if all(entry.codes_hash == trained.codes_hash for entry in entries):
        return list(entries)
    found, answers = accepted(served, trained, [entry.item for entry in entries], encode)
    for answer in answers:
        if answer.status == "refused":
            raise InputError(f"The journal of items does not fit the semantic IDs: {answer.reason}")
    return found


def _numbered(
    items: ServedItems, entries: Sequence[Entry]
) -> tuple[dict[int, ItemFacts], Int[Tensor, "new level"]]:
    """Facts by number, and the codes of those that are new."""
    facts: dict[int, ItemFacts] = {}
    numbers: dict[str, int] = {}
    codes: list[tuple[int, ...]] = []
    for entry in entries:
        number = items.known(entry.item.id)
        if number is None:
            number = numbers.get(entry.item.id)
        if number is None:
            number = numbers[entry.item.id] = len(items) + len(codes)
            codes.append(entry.codes)
        facts[number] = ItemFacts.of(entry.item)
    width = len(entries[0].codes) if entries else 0
    return facts, torch.tensor(codes, dtype=torch.long).view(len(codes), width)


def _assigned(
    trained: Trained, items: Sequence[NewItem], encode: Encode
) -> Int[np.ndarray, "item level"]:
    """What the quantizer makes of the items' texts."""
    if trained.quantizer is None or not items:
        return np.zeros((len(items), 0), np.int64)
    vectors = _one_by_one(encode, [ItemFacts.of(item).text or "" for item in items])
    return trained.quantizer.assign(torch.from_numpy(vectors)).numpy()


def _free_id(
    trained: Trained, taken: set[tuple[int, ...]], key: str, codes: np.ndarray
) -> tuple[int, ...]:
    sizes = trained.catalogue.level_sizes
    return free_id(taken, sizes, key, codes.tolist()) if sizes else ()


def _one_by_one(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """Vectors that do not depend on which texts were added together, to the last bit."""
    return np.concatenate([np.asarray(encode([text]), np.float32) for text in texts])
