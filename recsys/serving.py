"""Recommendations behind the API: which artifacts are served, and the half that answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.artifact import Artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import INTERACTIONS, ITEMS
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.journal import Journal
from personalize.api.ports import ItemsSource
from personalize.api.retriever import RetrieverSource
from personalize.api.steered import chain_inside
from personalize.checkpoint import KIND as CHECKPOINT
from personalize.checkpoint import generator_checkpoint
from personalize.conditioning.statement import Statement
from personalize.conditioning.text import EMBEDDED, SentenceEncoder
from personalize.preferences.aspects import read_aspects
from personalize.steering.chain import Chain
from recsys.embed import KIND as ITEM_VECTORS
from recsys.load import (
    LoadedRecommender,
    checkpoint_configuration,
    checkpoint_data_paths,
    load_recommender,
    worded_catalogue,
)
from recsys.opened_steering import opened_steering
from recsys.semantic_id.assign import stored_quantizer
from recsys.served_additions import Trained
from recsys.served_items import ServedItems
from recsys.served_people import ServedPeople
from recsys.served_questions import Asking
from recsys.served_reader import ConditioningChoice, ReviewReader
from recsys.served_recommender import ServedRecommender
from recsys.served_steering import ItemSteering
from recsys.served_texts import TextMemory


@dataclass(frozen=True)
class Items(ItemsSource):
    """Recommendations by a trained recommender, its catalogue and the people it was trained on.

    Attributes:
        checkpoint: A run, whose best checkpoint is taken, or a checkpoint.
        item_vectors: Artifact `item_vectors` of that checkpoint, from `recsys embed`.
        retriever: What searches them.
        preferences: Artifact `preferences` extracted from the same tables, for what is known of
            users; None where nothing is.
        tables: Artifact `reviews` it was trained on, where it is not where it was then.
        vectors: The same for its artifact `vectors`; one of one's own, where it was trained
            without.
        semantic_ids: The same for its artifact `semantic_ids`.
        added: File in which added items are kept; None where none can be added.
        encoder: Sentence model the vectors were made with: `embedded`, a folder or a name.
        aspects: File of the aspects; None takes the built-in ones.
        conditioning: What preferences that are read become.
        candidates: Items that are compared for every question at least; also the width of the
            beam. More where more items are asked for.
        changes: Options of the recommender to change, by dotted name, such as
            `{"ranking.guidance": 2}`; those that shape the weights cannot be changed.
        steering: Chains by name, which questions may ask for.
        goal_space: Artifact `steerability` whose limits the goals have. By default they are fitted
            as that evaluation fits them, which takes a second.
    """

    checkpoint: Path
    item_vectors: Path
    retriever: RetrieverSource
    preferences: Path | None = None
    tables: Path | None = None
    vectors: Path | None = None
    semantic_ids: Path | None = None
    added: Path | None = None
    encoder: str = EMBEDDED
    aspects: Path | None = None
    conditioning: ConditioningChoice = Statement
    candidates: int = 64
    changes: dict[str, Any] = field(default_factory=dict)
    steering: dict[str, Chain] | None = None
    goal_space: Path | None = None

    def __post_init__(self) -> None:
        """Refuse to compare nothing.

        Raises:
            ValueError: If `candidates` is not positive.
        """
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}.")

    def open(self, files: ServedFiles) -> "ServedRecommender":
        """Read the artifacts, each compared with its manifest, and what was added to them.

        Raises:
            NotServedError: If one is not there.
            InputError: If one is damaged, lies outside the root or does not fit the others.
        """
        folder = generator_checkpoint(files.there(self.checkpoint), "recommender")
        checkpoint = files.artifact(folder, kind=CHECKPOINT)
        opened = self._trained_on(folder, files)
        paths = {name: artifact.folder for name, artifact in opened.items()}
        loaded = load_recommender(folder, **paths, changes=self.changes)
        texts = self._texts(files, opened)
        catalogue = worded_catalogue(loaded, None if texts is None else texts.folder)
        sentences = self._sentences(texts)
        items = ServedItems.from_table(opened["tables"].table(ITEMS), catalogue.item_codes)
        codes = opened.get("semantic_ids")
        quantizer = None
        if codes is not None and codes.has("quantizer.safetensors") and catalogue.text_width:
            quantizer = stored_quantizer(codes, catalogue.text_width)
        trained = Trained(
            loaded=loaded,
            catalogue=catalogue,
            items=items,
            quantizer=quantizer,
            changes=self.changes,
            codes_hash="" if codes is None else codes.content_hash,
        )
        vectors = self._vectors(files, checkpoint)
        people = ServedPeople(opened["tables"], self._preferences(files, opened["tables"]))
        aspects = read_aspects(None if self.aspects is None else files.there(self.aspects))
        memory = TextMemory(catalogue, sentences.encode)
        asking = Asking(items, people, aspects, _preference_count(folder))
        reader = ReviewReader(
            sentences,
            aspects,
            opened["tables"].table(INTERACTIONS),
            self.conditioning(memory.vectors, catalogue.text_width or sentences.width),
        )
        return ServedRecommender(
            trained=trained,
            retriever=self.retriever.open(files, vectors_hash=vectors.content_hash),
            asking=asking,
            texts=memory,
            reader=reader,
            journal=None if self.added is None else Journal(files.inside(self.added)),
            candidates=self.candidates,
            steering=self._steering(files, loaded, sentences),
            hashes={
                "checkpoint": checkpoint.content_hash,
                "item_vectors": vectors.content_hash,
                **{name: artifact.content_hash for name, artifact in opened.items()},
            },
        )

    def _steering(
        self, files: ServedFiles, loaded: LoadedRecommender, sentences: SentenceEncoder
    ) -> ItemSteering | None:
        """What steers, if anything does."""
        if not self.steering:
            return None
        artifact = None
        if self.goal_space is not None:
            artifact = files.artifact(self.goal_space, kind="steerability")
        preferences = None if self.preferences is None else files.there(self.preferences)
        return opened_steering(
            {name: chain_inside(chain, files) for name, chain in self.steering.items()},
            loaded,
            preferences=preferences,
            evaluated=artifact,
            encode=sentences.encode,
        )

    def _trained_on(self, folder: Path, files: ServedFiles) -> dict[str, Artifact]:
        """The artifacts a checkpoint was trained on, compared with their manifests."""
        kinds = {"tables": "reviews", "vectors": "vectors", "semantic_ids": "semantic_ids"}
        named = {"tables": self.tables, "vectors": self.vectors, "semantic_ids": self.semantic_ids}
        paths = checkpoint_data_paths(folder)
        return {
            name: _where_it_lies(files, named[name], paths[name], kind=kind, of=folder)
            for name, kind in kinds.items()
            if name in paths
        }

    def _texts(self, files: ServedFiles, opened: Mapping[str, Artifact]) -> Artifact | None:
        """The artifact `vectors`: that of the training, else the one that is named here."""
        if "vectors" in opened or self.vectors is None:
            return opened.get("vectors")
        return files.artifact(self.vectors, kind="vectors")

    def _sentences(self, vectors: Artifact | None) -> SentenceEncoder:
        """The sentence model, if it is the one the vectors were made with."""
        sentences = SentenceEncoder(self.encoder)
        made_with = None if vectors is None else vectors.manifest.notes.get("encoder_sha256")
        if made_with not in (None, sentences.fingerprint):
            raise InputError(
                f"The vectors served were not made with the sentence model {self.encoder}; name "
                "theirs as encoder."
            )
        return sentences

    def _vectors(self, files: ServedFiles, checkpoint: Artifact) -> Artifact:
        vectors = files.artifact(self.item_vectors, kind=ITEM_VECTORS)
        if vectors.manifest.inputs.get("checkpoint") != checkpoint.content_hash:
            raise ArtifactMismatch(
                f"{vectors.folder} holds vectors of another checkpoint than {checkpoint.folder}; "
                "run recsys embed on this one."
            )
        return vectors

    def _preferences(self, files: ServedFiles, tables: Artifact) -> Artifact | None:
        if self.preferences is None:
            return None
        found = files.artifact(self.preferences, kind="preferences")
        if found.manifest.inputs.get("reviews", tables.content_hash) != tables.content_hash:
            raise ArtifactMismatch(
                f"{found.folder} was extracted from other tables than {tables.folder}; run "
                "personalize extract on these."
            )
        return found


def _where_it_lies(
    files: ServedFiles, named: Path | None, then: Path, *, kind: str, of: Path
) -> Artifact:
    """An artifact that a checkpoint was trained on: as it is named now, or where it was then."""
    if named is not None:
        return files.artifact(named, kind=kind)
    place = Path.cwd() / then
    if not place.exists():
        seen = "" if then.is_absolute() else f" as seen from {Path.cwd()}"
        option = "tables" if kind == "reviews" else kind
        raise NotServedError(
            f"{of} was trained on the {option} {then}, which are not there{seen}; start from the "
            f"folder it was trained in, or name them as {option} under items."
        )
    return files.artifact(place, kind=kind)


def _preference_count(folder: Path) -> int:
    """Most preferences per target the recommender was trained with."""
    return int(checkpoint_configuration(folder)["data"].get("preference_count", 3))
