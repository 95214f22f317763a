"""The recommender as the steerability evaluation asks it: people, goals of lists, quality."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import Artifact, read_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS, PREFERENCES, TEXTS
from personalize.conditioning.selection import Latest, PreferenceIndex
from personalize.evaluation.goal_space import GoalDimension, GoalSpace, fitted_limits
from personalize.evaluation.steerable import TUNING, Outcome, Steerable, SteerableSource
from personalize.steering.chain import Chain
from personalize.steering.goals import Goals, no_goals
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.collate import prefix_batch, windows
from recsys.goal_words import GoalTeller, goal_words
from recsys.goals import MEANINGS, ItemGoals, normalized_items
from recsys.histories import Histories, Stretches
from recsys.load import LoadedRecommender, load_recommender
from recsys.opened_chain import OpenedChain, opened_chain
from recsys.proposals import Proposer, TrieProposer, proposer
from recsys.ranking import ndcg_at_k, recall_at_k, target_ranks
from recsys.recommender import Filters
from recsys.retriever.generative import recent_history
from recsys.retriever.lookahead import TriePrior, population_prior
from recsys.row_preferences import Asked, PreferenceSource
from recsys.steered import PLAIN, ItemRequest, SteeredItems
from recsys.stored_goals import item_goals, strongest_aspects

LEAST_RANGE = 1e-3
PRIOR_ROWS, SEED_ROWS, ROWS_AT_ONCE = 48, 2048, 256
POOL, STEEPEST = 512, 60.0


@dataclass(frozen=True)
class Questions:
    """One question per person: what came before, and the item that followed.

    Attributes:
        batch: Histories, preferences and targets.
        aspects: The aspect each person cares about most by then; -1 is none.
        tuning: Which of them strengths may be tuned on.
        aspect_names: Names of all aspects, by number.
    """

    batch: HistoryBatch
    aspects: Int[Tensor, " row"]
    tuning: Bool[np.ndarray, " row"]
    aspect_names: tuple[str, ...]

    @property
    def people_of_prior(self) -> HistoryBatch:
        """Those whose recommendations the prior of a look-ahead is the mean of."""
        rows = np.flatnonzero(self.tuning)[:PRIOR_ROWS]
        return self.batch.rows(torch.from_numpy(rows))


class Items(SteerableSource):
    """A trained recommender and the people it is steered for.

    Strengths are tuned on every second person, asked for the item of the validation split, and
    reported on the others, asked for that of the test split: the two share nobody.

    Args:
        checkpoint: A checkpoint, or a run whose best one is taken.
        preferences: Artifact `preferences`: what people are known to like, and what is said of
            aspects. None asks without preferences.
        tables: Artifact `reviews`, where it is no longer where the run found it.
        vectors: Artifact `vectors`, likewise.
        semantic_ids: Artifact `semantic_ids`, likewise.
        count: Items in a list.
        width: Candidates; see `recsys.proposals.proposer`.
        preference_count: Most preferences of a person.
        category: See `recsys.stored_goals.item_goals`.
        brand: Likewise.
        told: Whether goals can be told in words, which takes the embedded sentence model.
        changes: Options of the recommender to change, by dotted name.
        exclude_history: Leave out items of the history.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        checkpoint: Path,
        preferences: Path | None = None,
        tables: Path | None = None,
        vectors: Path | None = None,
        semantic_ids: Path | None = None,
        count: int = 10,
        width: int | None = None,
        preference_count: int = 5,
        category: str | None = None,
        brand: str | None = None,
        told: bool = True,
        changes: dict[str, str] | None = None,
        exclude_history: bool = False,
    ) -> None:
        self.checkpoint, self.preferences, self.tables = checkpoint, preferences, tables
        self.vectors, self.semantic_ids, self.width = vectors, semantic_ids, width
        self.count, self.preference_count = count, preference_count
        self.category, self.brand, self.told = category, brand, told
        self.changes, self.exclude_history = changes, exclude_history

    def open(self) -> "SteerableItems":
        """Read the artifacts."""
        loaded = load_recommender(
            self.checkpoint,
            tables=self.tables,
            vectors=self.vectors,
            semantic_ids=self.semantic_ids,
            changes=self.changes,
        )
        return self.opened(loaded)

    def opened(self, loaded: LoadedRecommender) -> "SteerableItems":
        """Read the rest, of a recommender that was read before."""
        goals, aspects, notes = item_goals(
            loaded.paths["tables"],
            loaded.catalogue,
            preferences=self.preferences,
            category=self.category,
            brand=self.brand,
        )
        return SteerableItems(self, loaded, self._questions(loaded, aspects), goals, notes)

    def _questions(self, loaded: LoadedRecommender, aspects: tuple[str, ...]) -> Questions:
        tables = read_artifact(loaded.paths["tables"], kind="reviews")
        histories = Histories.from_interactions(tables.table(INTERACTIONS))
        length = loaded.maximum_history
        parts = [
            (histories.prefixes(("validation",), maximum_history=length), True),
            (histories.prefixes(("test",), maximum_history=length), False),
        ]
        chosen, flags = [], []
        for stretches, tuning in parts:
            users = histories.user_ids[stretches.starts + stretches.lengths]
            last = np.append(users[1:] != users[:-1], True)
            kept = np.flatnonzero(last & ((users % 2 == 0) == tuning))
            chosen.append(Stretches(*(part[kept] for part in _parts(stretches))))
            flags.append(np.full(len(kept), tuning))
        rows = Stretches(*(np.concatenate(part) for part in zip(*map(_parts, chosen), strict=True)))
        if not len(rows) or flags[0].size == 0 or flags[1].size == 0:
            raise InputError(
                f"{tables.folder} has nobody with an item in the validation split and nobody with "
                "one in the test split; split it again."
            )
        targets = rows.starts + rows.lengths
        known = None
        index: Mapping[tuple[int, int], int] = {}
        past = windows(histories.item_ids, rows.starts, rows.lengths)
        users, positions = histories.user_ids[targets], histories.positions[targets]
        if self.preferences is not None and len(loaded.catalogue.text_vectors):
            stated = read_artifact(self.preferences, kind="preferences")
            index = strongest_aspects(stated, aspects)
            asked = Asked(users, positions, histories.item_ids[targets], past)
            known = _source(self, loaded, stated).chosen((Latest(),), asked)
        batch = prefix_batch(np.arange(len(rows)), past, histories.item_ids[targets], known)
        cared = [
            index.get((user, position), -1)
            for user, position in zip(users.tolist(), positions.tolist(), strict=True)
        ]
        return Questions(batch, torch.tensor(cared), np.concatenate(flags), aspects)


class SteerableItems(Steerable):
    """See `Items`.

    Attributes:
        space: The goals with their limits.
        goals: Goal values of the items.
        questions: Who is asked.
        notes: What goals are about, by name, or why one was left out.
        facts: See the class it implements.
    """

    quality_names = ("ndcg@10", "recall@10")

    def __init__(
        self,
        source: Items,
        loaded: LoadedRecommender,
        questions: Questions,
        goals: ItemGoals,
        notes: Mapping[str, str],
    ) -> None:
        """Fit the limits of the goal space on people that strengths are tuned on."""
        self._source, self.questions, self._recommender = source, questions, loaded.recommender
        self.notes = notes
        self._loaded, self._chains = loaded, dict[Chain, OpenedChain]()
        self._filters = Filters(exclude_history=source.exclude_history)
        self._length = (questions.batch.history_mask.sum(1)).numpy()
        with torch.no_grad():
            self._proposer = self._search()
            self.space, self.goals = self._fitted(goals)
        self._teller = self._telling(loaded.catalogue, notes) if source.told else None
        tables = read_manifest(loaded.paths["tables"])
        self.facts: Mapping[str, Any] = {
            "simulated": bool(tables.notes.get("simulated", False)),
            "generator": type(loaded.recommender).__name__,
            "checkpoint": str(loaded.folder),
            "tables": str(loaded.paths["tables"]),
            "items": loaded.catalogue.item_count,
            "list length": source.count,
            "proposes from": (
                "the trie" if isinstance(self._proposer, TrieProposer) else "the whole catalogue"
            ),
            "goals": dict(notes),
        }

    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """Numbers of the people of a split."""
        return np.flatnonzero(self.questions.tuning == (split == TUNING))

    def groups(self, contexts: Int[np.ndarray, " row"]) -> Sequence[str]:
        """By how much is known of a person: thirds of the length of the history."""
        low, high = np.quantile(self._length, [1 / 3, 2 / 3])
        names = np.array(["short history", "middle history", "long history"])
        length = self._length[contexts]
        return names[(length > low).astype(int) + (length > high)].tolist()

    @torch.no_grad()
    def generate(
        self,
        contexts: Int[np.ndarray, " row"],
        goals: Goals | None,
        chain: Chain | None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """The list of every row."""
        chosen = torch.from_numpy(np.asarray(contexts, np.int64))
        batch, aspects = self.questions.batch.rows(chosen), self.questions.aspects[chosen]
        wanted = no_goals(len(chosen), len(self.space)) if goals is None else goals
        steered = SteeredItems(
            self._proposer, self.goals, self.space, self._opened(chain), teller=self._teller
        )
        started = time.perf_counter()
        found = steered.recommend(
            ItemRequest(batch, aspects, wanted, self._source.count, self._filters, seed)
        )
        seconds = (time.perf_counter() - started) / max(len(chosen), 1)
        items = found.found.item_ids
        raw, mask = self.goals.of_lists(items, aspects)
        ranks = target_ranks(items, batch.target_item_ids[:, 0])
        quality = {
            "ndcg@10": ndcg_at_k(ranks.ranks, ranks.found, k=10).numpy(),
            "recall@10": recall_at_k(ranks.ranks, ranks.found, k=10).numpy(),
        }
        return Outcome(raw.numpy(), mask.numpy(), quality, float(found.calls), seconds)

    def pool(
        self, contexts: Int[np.ndarray, " row"]
    ) -> tuple[Float[np.ndarray, "row candidate goal"], Bool[np.ndarray, "row candidate goal"]]:
        """Lists that would be possible: the best by random multipliers of goals and some chance."""
        aspects = self.questions.aspects[torch.from_numpy(np.asarray(contexts, np.int64))]
        distinct, place = aspects.unique(return_inverse=True)
        generator = torch.Generator().manual_seed(0)
        count = len(self.goals.values)
        steep = STEEPEST * torch.rand(POOL, 1, generator=generator).square()
        multipliers = steep * torch.randn(POOL, len(self.space), generator=generator)
        chance = -torch.rand(POOL, count, generator=generator).clamp_min(1e-9).log().neg().log()
        raws, masks = [], []
        for aspect in distinct.tolist():
            every = torch.arange(count)[None]
            values, mask = self.goals.of_items(every, torch.tensor([aspect]))
            features = normalized_items(values, mask, self.space)[0]
            lists = (multipliers @ features.T + chance).topk(self._source.count, 1).indices
            raw, known = self.goals.of_lists(lists, torch.full((POOL,), aspect))
            raws.append(raw)
            masks.append(known)
        return torch.stack(raws)[place].numpy(), torch.stack(masks)[place].numpy()

    def _opened(self, chain: Chain | None) -> OpenedChain:
        """The chain with what it names, read once."""
        if chain is None:
            return PLAIN
        if chain not in self._chains:
            self._chains[chain] = opened_chain(chain, self._loaded)
        return self._chains[chain]

    def _search(self) -> Proposer:
        """The proposer; a search on the trie gets the prior of people of the tuning split."""
        plain = proposer(self._recommender, width=self._source.width)
        if not isinstance(plain, TrieProposer):
            return plain
        trie = plain.trie
        mean = population_prior(plain.decoder, self.questions.people_of_prior, trie)
        return proposer(self._recommender, width=self._source.width, prior=TriePrior(trie, mean))

    def _fitted(self, goals: ItemGoals) -> tuple[GoalSpace, ItemGoals]:
        """Limits from what is recommended unsteered, and from what people really met."""
        rows = torch.from_numpy(np.flatnonzero(self.questions.tuning)[:SEED_ROWS])
        batch, aspects = self.questions.batch.rows(rows), self.questions.aspects[rows]
        count = self._source.count
        own = [
            self._proposer.propose(part, None, PLAIN, filters=self._filters).items[:, :count]
            for part in (
                batch.rows(places) for places in torch.arange(len(rows)).split(ROWS_AT_ONCE)
            )
        ]
        latest, real = recent_history(batch, count)
        met = latest.masked_fill(~real, -1).flip(1)  # the newest counts most, as the best does
        seeds = [goals.of_lists(items, aspects) for items in (torch.cat(own), met)]
        raw, mask = (torch.cat([seed[part] for seed in seeds]) for part in (0, 1))
        low, high = fitted_limits(raw, mask)
        kept = [
            (name, float(a), float(b))
            for name, a, b in zip(goals.names, low, high, strict=True)
            if float(b - a) > LEAST_RANGE
        ]
        if not kept:
            raise InputError("nothing can be wanted of these items: no goal varies among lists.")
        space = GoalSpace(
            tuple(GoalDimension(name, "", MEANINGS[name], a, b) for name, a, b in kept)
        )
        return space, goals.kept(space.names)

    def _telling(self, catalogue: Catalogue, notes: Mapping[str, str]) -> GoalTeller | None:
        if not (self._recommender.weighs_preferences and len(catalogue.text_vectors)):
            return None
        from personalize.conditioning.text import SentenceEncoder

        words = goal_words(self.space.names, notes)
        encode = SentenceEncoder().encode
        return GoalTeller(self.space.names, words, encode, catalogue.text_vectors)


def _source(source: Items, loaded: LoadedRecommender, stated: Artifact) -> PreferenceSource:
    vectors = read_artifact(loaded.paths["vectors"], kind="vectors")
    catalogue = loaded.catalogue
    return PreferenceSource(
        PreferenceIndex.from_frames(stated.table(PREFERENCES), vectors.table(TEXTS)),
        catalogue.text_vectors.numpy(),
        catalogue.item_text_ids.numpy(),
        catalogue.item_text_mask.numpy(),
        source.preference_count,
    )


def _parts(stretches: Stretches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return stretches.starts, stretches.lengths, stretches.first_targets
