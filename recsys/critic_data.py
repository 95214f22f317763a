"""`recsys critic`: a critic of items, learnt from what people rated.

A state is what a trained recommender makes of a history, an action the vector of an item, a reward
the rating it was given, and the next state that of the history with the item.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS
from personalize.conditioning.selection import Latest
from personalize.rewards.critic import Critic, CriticContext, Transitions, returns_to_go
from personalize.rewards.critic_training import CriticTraining, fit_critic
from personalize.rewards.stored_critic import write_critic
from recsys.batch import HistoryBatch
from recsys.catalogue import Catalogue
from recsys.data import InteractionDataModule
from recsys.dense import DenseRetriever, dense_retriever
from recsys.load import LoadedRecommender, checkpoint_configuration, load_recommender
from recsys.recommender import ReadsHistoriesApart, Recommender
from recsys.retriever.generative import last_preferences, last_words
from recsys.retriever.preference_shift import mean_wishes

LOWEST_STARS, HIGHEST_STARS = 1.0, 5.0
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class CriticReader:
    """What a critic sees of histories, preferences and items.

    Attributes:
        recommender: In evaluation mode.
        catalogue: What it was built from.
        space: Where items have vectors: the recommender's own keys, else its texts'.
    """

    recommender: Recommender
    catalogue: Catalogue
    space: DenseRetriever

    @classmethod
    def of(cls, loaded: LoadedRecommender) -> "CriticReader":
        """The reader of a trained recommender.

        Raises:
            InputError: If items have no vectors.
        """
        try:
            space = dense_retriever(loaded.recommender, loaded.catalogue)
        except ValueError as error:
            raise InputError(
                f"{loaded.folder} was trained without vectors, so a critic sees nothing of its "
                "items; take a recommender that was trained with data.vectors."
            ) from error
        return cls(loaded.recommender, loaded.catalogue, space)

    @torch.no_grad()
    def context(self, batch: HistoryBatch) -> CriticContext:
        """Histories as the recommender reads them, and what is liked less what is avoided."""
        text_ids, mask, avoid = last_preferences(batch)
        vectors, strength = last_words(batch)
        words = self.catalogue.text_vectors.to(mask.device)
        told = (words[text_ids] if vectors is None else vectors) if len(words) else None
        if told is None:
            preference = torch.zeros(len(batch), 0)
        else:
            wishes = mean_wishes(told, mask, avoid, strength)
            preference = wishes.liked - wishes.avoided
        if isinstance(self.recommender, ReadsHistoriesApart):
            return CriticContext(self.recommender.read_histories(batch), preference)
        unasked = replace(batch, preference_mask=torch.zeros_like(batch.preference_mask))
        return CriticContext(self.space.dense_queries(unasked), preference)

    @torch.no_grad()
    def actions(self) -> Float[Tensor, "item action"]:
        """The vector of every item."""
        return self.space.dense_keys().float()


@dataclass(frozen=True)
class Logged:
    """Rated interactions of a split, by person and time.

    Attributes:
        contexts: What was known and wished before each.
        item_ids: What was met.
        rewards: 0 for one star to 1 for five.
        rated: Where stars were given; elsewhere the reward is the mean.
        ended: Whether it is its person's last one of the split.
        candidates: What the recommender would have offered instead.
    """

    contexts: CriticContext
    item_ids: Int[Tensor, " row"]
    rewards: Float[Tensor, " row"]
    rated: Bool[Tensor, " row"]
    ended: Bool[Tensor, " row"]
    candidates: Int[Tensor, "row candidate"]


def write_recommender_critic(  # noqa: PLR0913  (one parameter per option of the command)
    *,
    checkpoint: Path,
    out: Path,
    preferences: Path | None = None,
    candidates: int = 10,
    candidate_weight: float = 1.0,
    steps: int = 1500,
    width: int = 128,
    discount: float = 0.9,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write the artifact `critic` of a trained recommender.

    Its notes say how well it ranks interactions it has not seen: the rank correlation of worth and
    stars on the test split, beside that of the mean stars of the item in training.

    Args:
        checkpoint: A run, whose best one is taken, or a checkpoint.
        out: Folder to write.
        preferences: Artifact `preferences`. Default: the one trained on, if any.
        candidates: Items the recommender offers at every row, and as many drawn ones.
        candidate_weight: Of the candidates' term; 0 leaves it out.
        steps: Gradient steps.
        width: Of the critic's hidden layers.
        discount: What a rating one item later counts.
        seed: Of everything that is drawn.
        overwrite: Replace what is there.

    Raises:
        InputError: If nothing was rated, items have no vectors, or a number is out of range.
        ArtifactMismatch: If an artifact is damaged or not the one trained on.
    """
    if candidates < 1 or steps < 1 or width < 1 or not 0 <= discount < 1:
        raise InputError(
            "--candidates, --steps and --width must be at least 1 and --discount from 0 to below "
            f"1, got {candidates}, {steps}, {width} and {discount:g}."
        )
    loaded = load_recommender(checkpoint)
    reader = CriticReader.of(loaded)
    data = _data(loaded, preferences)
    logs = {
        split: logged(reader, data, split, candidates=candidates, seed=seed)
        for split in ("train", "test")
    }
    keys = reader.actions()
    training = transitions(logs["train"], keys, discount=discount)
    torch.manual_seed(seed)
    sizes = {name: getattr(training, name).shape[1] for name in ("state", "action", "preference")}
    critic = Critic(**sizes, width=width, discount=discount)
    losses = fit_critic(
        critic, training, CriticTraining(steps=steps, candidate_weight=candidate_weight, seed=seed)
    )
    facts = {"rows": len(training), **losses, **ranking_facts(critic, logs, keys)}
    write_critic(
        out,
        critic,
        command="recsys critic",
        configuration={
            "candidates": candidates,
            "candidate_weight": candidate_weight,
            "steps": steps,
            "width": width,
            "discount": discount,
            "seed": seed,
        },
        inputs={
            "checkpoint": read_manifest(loaded.folder).content_hash,
            **{n: read_manifest(path).content_hash for n, path in data.input_paths().items()},
        },
        facts={name: round(float(value), 4) for name, value in facts.items()},
        overwrite=overwrite,
    )
    sys.stderr.write(
        f"{len(training):,} ratings: worth and stars of the test split correlate by "
        f"{facts['worth_and_stars']:.3f}, an item's mean stars by {facts['mean_and_stars']:.3f}: "
        f"{out}\n"
    )


def logged(
    reader: CriticReader, data: InteractionDataModule, split: str, *, candidates: int, seed: int
) -> Logged:
    """What was rated in a split, with what would have been offered.

    Raises:
        InputError: If nothing in the split was rated.
    """
    loader: Iterable[HistoryBatch] = (
        data.every_training_row() if split == "train" else data.test_dataloader()
    )
    draw = torch.Generator().manual_seed(seed)
    contexts, offered, item_ids = [], [], []
    with torch.inference_mode():
        for batch in loader:
            contexts.append(reader.context(batch))
            found = reader.recommender.recommend(batch, count=candidates).item_ids
            drawn = torch.randint(reader.catalogue.item_count, found.shape, generator=draw)
            offered.append(torch.cat((torch.where(found < 0, drawn, found), drawn), 1))
            item_ids.append(batch.target_item_ids[:, 0])
    table = read_artifact(data.input_paths()["tables"], kind="reviews").table(INTERACTIONS)
    rows = (
        table.sort("user_id", "position")
        .with_columns(past=pl.int_range(pl.len()).over("user_id"))
        .filter((pl.col("split") == split) & (pl.col("past") > 0))
    )
    stars = rows["rating"].to_numpy().astype(np.float32)
    rated = np.isfinite(stars)
    if not rated.any():
        raise InputError(f"No interaction of the split {split} was rated, so nothing is learnt.")
    rewards = (np.nan_to_num(stars) - LOWEST_STARS) / (HIGHEST_STARS - LOWEST_STARS)
    users = rows["user_id"].to_numpy()
    return Logged(
        CriticContext(
            torch.cat([context.state for context in contexts]).clone(),
            torch.cat([context.preference for context in contexts]).clone(),
        ),
        torch.cat(item_ids).clone(),
        torch.from_numpy(np.where(rated, rewards, rewards[rated].mean()).astype(np.float32)),
        torch.from_numpy(rated),
        torch.from_numpy(np.append(users[1:] != users[:-1], values=True)),
        torch.cat(offered).clone(),
    )


def transitions(log: Logged, keys: Float[Tensor, "item action"], *, discount: float) -> Transitions:
    """From every interaction to the next one of the same person."""
    then = (torch.arange(len(log.ended)) + 1).clamp_max(len(log.ended) - 1)
    then = torch.where(log.ended, torch.arange(len(log.ended)), then)
    state, preference = log.contexts.state, log.contexts.preference
    return Transitions(
        state,
        preference,
        keys[log.item_ids],
        log.rewards,
        state[then],
        preference[then],
        log.ended,
        returns_to_go(log.rewards, log.ended, discount),
        keys[log.candidates],
    )


@torch.no_grad()
def ranking_facts(
    critic: Critic, logs: dict[str, Logged], keys: Float[Tensor, "item action"]
) -> dict[str, float]:
    """How well worth orders the stars of the test split, and how well an item's mean stars do."""
    test, train = logs["test"], logs["train"]
    worth = critic(keys[test.item_ids][:, None], test.contexts)[:, 0]
    sums = torch.zeros(len(keys)).index_add(0, train.item_ids, train.rewards)
    counts = torch.zeros(len(keys)).index_add(0, train.item_ids, torch.ones_like(train.rewards))
    mean = train.rewards.mean()
    smoothed = (sums + 5 * mean) / (counts + 5)
    rated = test.rated
    return {
        "worth_and_stars": rank_correlation(worth[rated], test.rewards[rated]),
        "mean_and_stars": rank_correlation(smoothed[test.item_ids][rated], test.rewards[rated]),
    }


def rank_correlation(first: Float[Tensor, " row"], second: Float[Tensor, " row"]) -> float:
    """Spearman's, equal values sharing their mean rank; 0 where one of them never changes."""
    ranks = [pl.Series(values.numpy()).rank("average").to_numpy() for values in (first, second)]
    spreads = [rank.std() for rank in ranks]
    if not all(spread > 0 for spread in spreads):
        return 0.0
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def _data(loaded: LoadedRecommender, preferences: Path | None) -> InteractionDataModule:
    stated = checkpoint_configuration(loaded.folder)["data"].get("preferences")
    said = preferences or (Path(stated) if stated and "vectors" in loaded.paths else None)
    return InteractionDataModule(
        loaded.paths["tables"],
        loaded.paths.get("vectors"),
        loaded.paths.get("semantic_ids"),
        said,
        training_policies=[Latest()],
        evaluation_policy=Latest(),
        rows="prefixes",
        evaluation_batch_size=ROWS_AT_ONCE,
        maximum_history=loaded.maximum_history,
    )
