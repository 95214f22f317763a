"""SLOT Tunable, the recommender's half: contexts, candidates, judges, and a tuned checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import ITEMS
from personalize.checkpoint import KIND, generator_checkpoint
from personalize.conditioning.selection import Latest, SelectionPolicy
from personalize.evaluation.context_suite import INFERRED, NONE
from personalize.negative_copy import write_copy
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.tunable import (
    TEST,
    TRAINING,
    VALIDATION,
    Evaluation,
    Judged,
    Tunable,
    TunableSource,
)
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.follow_up_rewards import with_follow_ups
from recsys.item_candidates import ItemCandidates, spoilt_items
from recsys.item_categories import item_categories
from recsys.item_rewards import Collaborative, ItemReward, ItemWorld, chosen_judges
from recsys.item_world import item_world
from recsys.load import (
    LoadedRecommender,
    checkpoint_data_paths,
    load_recommender,
    worded_catalogue,
)
from recsys.policy import RetrieverPolicy, recommender_policy
from recsys.recommender import Filters
from recsys.retriever.decode import Scoring
from recsys.tuning_contexts import (
    OF_ANOTHER,
    REVERSED,
    UNSAID,
    ItemContexts,
    Preferences,
    RowLimits,
    item_contexts,
    preference_source,
)
from recsys.tuning_evaluation import ItemEvaluation, tuned_policy

ROWS_AT_ONCE = 256


class TunedItems(TunableSource):
    """A trained recommender and the interactions it is tuned on.

    Contexts are the rows it was trained and evaluated on. Preferences of a context use evidence
    strictly before its target, and by default they are chosen without looking at it.

    Args:
        checkpoint: A checkpoint, or a run whose best one is taken.
        preferences: Artifact `preferences`. Default: the one trained on, if any.
        tables: Artifact `reviews`, where it is no longer where the run found it.
        vectors: Artifact `vectors`, likewise; also gives texts to a recommender that was trained
            without any, for judges.
        semantic_ids: Artifact `semantic_ids`, likewise.
        changes: Options of the recommender to change, by dotted name.
        candidates: Which items are compared.
        limits: Most contexts of each split.
        judges: Rewards of items. Default: `USUAL`, but those of texts only where there are some.
        training_policy: How preferences of training rows are chosen. `Oracle` looks at the target
            and is an upper bound. Default: `Latest`.
        preference_count: Most preferences of a context. Default: as in training.
        scoring: See `RetrieverPolicy`.
        tastes: Groups by kind of history: so many clusters. 0 groups by its length.
        exclude_history: Leave items of the history out of evaluated lists.
        seed: Of which contexts are taken, of swapped preferences and of clusters.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        checkpoint: Path,
        preferences: Path | None = None,
        tables: Path | None = None,
        vectors: Path | None = None,
        semantic_ids: Path | None = None,
        changes: dict[str, str] | None = None,
        candidates: ItemCandidates = ItemCandidates(),  # noqa: B008  (frozen, and shown by --help)
        limits: RowLimits = RowLimits(),  # noqa: B008  (frozen, and shown by --help)
        judges: Sequence[ItemReward] | None = None,
        training_policy: SelectionPolicy | None = None,
        preference_count: int | None = None,
        scoring: Scoring = "renormalized",
        tastes: int = 0,
        exclude_history: bool = False,
        seed: int = 0,
    ) -> None:
        self.checkpoint, self.preferences, self.changes = checkpoint, preferences, changes
        self.tables, self.vectors, self.semantic_ids = tables, vectors, semantic_ids
        self.candidates, self.limits, self.judges = candidates, limits, judges
        self.training_policy, self.preference_count = training_policy, preference_count
        self.scoring: Scoring = scoring
        self.tastes, self.exclude_history, self.seed = tastes, exclude_history, seed

    def open(self) -> "TunableItems":
        """Read the artifacts.

        Raises:
            InputError: If one is not there or does not fit, or the recommender has no density.
        """
        trained_on = checkpoint_data_paths(generator_checkpoint(self.checkpoint, "recommender"))
        loaded = load_recommender(
            self.checkpoint,
            tables=self.tables,
            vectors=self.vectors if "vectors" in trained_on else None,
            semantic_ids=self.semantic_ids,
            changes=self.changes,
        )
        return TunableItems(self, loaded)


class TunableItems(Tunable[HistoryBatch]):
    """See `TunedItems`.

    Attributes:
        contexts_of: All contexts, with their targets.
        world: What judges and features know of the items.
        category_names: Kinds of items; see `item_categories`.
        annotator_names: Groups of histories, which are the groups of candidates.
    """

    def __init__(self, source: TunedItems, loaded: LoadedRecommender) -> None:
        self._source, self._loaded = source, loaded
        self.policy = recommender_policy(
            loaded.recommender, scoring=source.scoring, beam_width=max(source.candidates.beam, 20)
        )
        self.policy.eval()
        catalogue = worded_catalogue(loaded, source.vectors)
        self._trie = source.candidates.trie_of(loaded.catalogue)
        world = item_world(loaded, catalogue)
        self._judges = chosen_judges(source.judges, world)
        world = with_follow_ups(
            world,
            self._judges,
            loaded.paths["tables"],
            maximum_history=loaded.maximum_history,
        )
        self._worlds = {torch.device("cpu"): world}
        self.reward_names = tuple(judge.name for judge in self._judges)
        paths = _paths(source, loaded, has_texts=self.world.has_texts)
        self.contexts_of = _contexts(source, loaded, catalogue, paths, self.world)
        tables = read_artifact(paths["tables"], kind="reviews")
        self._categories = item_categories(tables.table(ITEMS), self.world.popularity)
        self.category_names = self._categories.names
        self._evaluation = ItemEvaluation(
            frozen_copy(self.policy),
            self.contexts_of,
            self.world,
            filters=Filters(exclude_history=source.exclude_history),
            tastes=source.tastes,
            seed=source.seed,
        )
        self.annotator_names = self._evaluation.group_names
        self.inputs: Mapping[str, str] = {
            "checkpoint": read_manifest(loaded.folder).content_hash,
            **{name: read_manifest(path).content_hash for name, path in paths.items()},
        }
        self.facts: Mapping[str, Any] = {
            "generator": type(loaded.recommender).__name__,
            "checkpoint": str(loaded.folder),
            "tables": str(loaded.paths["tables"]),
            "simulated": bool(tables.manifest.notes.get("simulated", False)),
            "items": loaded.catalogue.item_count,
            "tunes": "codes" if isinstance(self.policy, RetrieverPolicy) else "item scores",
            "contexts": {name: len(self.contexts(name)) for name in (TRAINING, VALIDATION, TEST)},
            "with preferences": "preferences" in paths,
            "validation was trained on": loaded.trained_on_validation,
            "rewards": list(self.reward_names),
        }

    @property
    def world(self) -> ItemWorld:
        """On the CPU."""
        return self._worlds[torch.device("cpu")]

    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """See `Tunable`."""
        return self.contexts_of.of_split(split)

    def batch(self, contexts: Int[Tensor, " row"]) -> HistoryBatch:
        """See `Tunable`; targets are there in shape only."""
        found = self.contexts_of.batch(contexts)
        found.target_item_ids.zero_()
        return found

    def targets(self, contexts: Int[Tensor, " row"]) -> Int[Tensor, "row 1"]:
        """See `Tunable`; under swapped preferences it is what was met next all the same."""
        return self.contexts_of.batch(contexts).target_item_ids

    def under_condition(
        self, contexts: Int[Tensor, " row"], condition: str
    ) -> Int[Tensor, " row"] | None:
        """The same histories, told nothing of what is preferred (`none`) or what is `inferred`."""
        if condition == INFERRED:
            return self.contexts_of.inferred(contexts)
        return self.contexts_of.under(contexts, UNSAID) if condition == NONE else None

    def category(
        self, contexts: Int[Tensor, " row"], responses: Int[Tensor, "row particle"]
    ) -> Int[Tensor, "row particle"]:
        """The kind of every item, among `category_names`."""
        return self._categories.numbers.to(responses.device)[responses]

    @torch.no_grad()
    def candidates(
        self, contexts: Int[Tensor, " row"], policy: Policy[HistoryBatch], *, seed: int
    ) -> Candidates:
        """See `Tunable`; the distance is 1 less the cosine between items' texts."""
        swaps = [OF_ANOTHER, REVERSED] if self._source.candidates.swapped else []
        found: dict[str, list[Tensor]] = {}
        for part in contexts.cpu().split(ROWS_AT_ONCE):
            items, kept = self._items(part, policy, seed)
            asked = [part, *(self.contexts_of.under(part, swap) for swap in swaps)]
            for numbers in asked:
                rows = self._rows(part, numbers, items, policy)
                rows["target"] &= bool(numbers is part)
                for name, values in rows.items():
                    found.setdefault(name, []).append(values[kept])
        rows = {name: torch.cat(values) for name, values in found.items()}
        responses, number = rows.pop("item").unique(return_inverse=True)
        gate = torch.ones_like(rows["target"])
        return Candidates(
            response=number, responses=responses, gate=gate, names=self.reward_names, **rows
        )

    def _items(
        self, contexts: Int[Tensor, " row"], policy: Policy[HistoryBatch], seed: int
    ) -> tuple[Int[Tensor, "row place"], Tensor]:
        """Target, the policy's answers and spoilt items, and which come first in their row."""
        batch, options = self.batch(contexts).to(_device(policy)), self._source.candidates
        parts = [self.targets(contexts)]
        for count, beam in ((options.beam, True), (options.drawn, False)):
            if count:
                drawn = policy.sample(batch, count, seed=seed, beam=beam)
                parts.append(drawn.responses.cpu())
        if self._trie is not None:
            target = parts[0][:, 0]
            parts.append(spoilt_items(self._trie, target, options.spoilt, seed=seed))
        items = torch.cat(parts, 1)
        return items, ~(items.unsqueeze(2) == items.unsqueeze(1)).tril(-1).any(2)

    def _rows(
        self,
        origins: Int[Tensor, " row"],
        contexts: Int[Tensor, " row"],
        items: Int[Tensor, "row place"],
        policy: Policy[HistoryBatch],
    ) -> dict[str, Tensor]:
        """What is known of items in contexts, by the names of `Candidates`."""
        device = _device(policy)
        scores = policy.log_prob(self.batch(contexts).to(device), items.to(device)).sum(-1)
        target = items == self.targets(contexts)
        if self.world.has_texts:
            vectors = self.world.item_vectors
            near = (vectors[items] * vectors[self.targets(contexts)]).sum(-1)
        else:
            near = target.float()
        groups = torch.from_numpy(self._evaluation.group_numbers(contexts.numpy()))
        return {
            "context": contexts[:, None].expand_as(items),
            "origin": origins[:, None].expand_as(items),
            "item": items,
            "target": target,
            "reward": self.judge(contexts, items).reward,
            "log_prob": scores.cpu(),
            "distance": torch.where(target, 0.0, 1 - near),
            "group": groups[:, None].expand_as(items),
        }

    @torch.no_grad()
    def judge(
        self, contexts: Int[Tensor, " row"], responses: Int[Tensor, "row particle"]
    ) -> Judged:
        """See `Tunable`; there are no safety gates."""
        batch = self.contexts_of.batch(contexts).to(responses.device)
        world = self._world_on(responses.device)
        rewards = [judge(world, batch, responses) for judge in self._judges]
        return Judged(torch.stack(rewards, -1), torch.ones_like(responses, dtype=torch.bool))

    @torch.no_grad()
    def features(
        self, contexts: Int[Tensor, " row"], responses: Int[Tensor, "row particle"]
    ) -> tuple[Float[Tensor, "row context_width"], Float[Tensor, "row particle response_width"]]:
        """See `Tunable`.

        Of a context: the mean of its history's texts, that of what is preferred, and how long the
        history is. Of an item: its text, its popularity, its rank by co-occurrence, its cosine with
        the history and with what is preferred.
        """
        batch = self.contexts_of.batch(contexts).to(responses.device)
        world = self._world_on(responses.device)
        history, wishes = world.history_vectors(batch), world.wishes(batch)
        length = batch.history_mask.sum(1, keepdim=True) / self._loaded.maximum_history
        vectors = world.item_vectors[responses]
        numbers = [
            world.popularity[responses],
            Collaborative()(world, batch, responses),
            (vectors @ history.unsqueeze(-1))[..., 0],
            world.matches(wishes, responses),
        ]
        return (
            torch.cat([history, wishes, length], 1),
            torch.cat([vectors, torch.stack(numbers, -1)], -1),
        )

    def evaluate(self, policy: Policy[HistoryBatch], split: str, *, seed: int = 0) -> Evaluation:
        """See `Tunable` and `ItemEvaluation`; nothing is drawn, so the seed means nothing."""
        return self._evaluation(policy, split)

    def write(
        self,
        policy: Policy[HistoryBatch],
        out: Path,
        *,
        command: str,
        options: Mapping[str, Any],
    ) -> None:
        """See `Tunable`: a checkpoint that `load_recommender` reads."""
        write_copy(
            read_artifact(self._loaded.folder, kind=KIND),
            tuned_policy(policy).recommender.state_dict(),
            out,
            command=command,
            prefixes=("recommender.",),
            options=options,
            section="tuning",
        )

    def _world_on(self, device: torch.device) -> ItemWorld:
        if device not in self._worlds:
            self._worlds[device] = self.world.to(device)
        return self._worlds[device]


def _device(policy: Policy[HistoryBatch]) -> torch.device:
    return next(policy.parameters()).device


def _paths(source: TunedItems, loaded: LoadedRecommender, *, has_texts: bool) -> Mapping[str, Path]:
    """Every artifact that is read, by the name of its option."""
    paths = dict(loaded.paths)
    trained_with = paths.pop("preferences", None)
    if source.vectors is not None:
        paths["vectors"] = source.vectors
    if source.preferences is not None and not has_texts:
        raise InputError("preferences need vectors, which hold the vectors of their texts.")
    stated = source.preferences or trained_with
    if has_texts and stated is not None:
        paths["preferences"] = stated
    return paths


def _contexts(
    source: TunedItems,
    loaded: LoadedRecommender,
    catalogue: Catalogue,
    paths: Mapping[str, Path],
    world: ItemWorld,
) -> ItemContexts:
    known = None
    if "preferences" in paths:
        settings = read_manifest(loaded.folder).configuration["data"]
        count = source.preference_count or int(settings.get("preference_count", 3))
        stored = preference_source(paths["preferences"], paths["vectors"], catalogue, count=count)
        known = Preferences(stored, source.training_policy or Latest(), Latest())
    return item_contexts(
        loaded.paths["tables"],
        known,
        maximum_history=loaded.maximum_history,
        limits=source.limits,
        seed=source.seed,
        item_vectors=world.item_vectors if world.has_texts else None,
    )
