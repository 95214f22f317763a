"""`recsys critic`: a critic of items, learnt from what people rated.

A state is what a trained recommender makes of a history, an action the vector of an item, a reward
the rating it was given, and the next state that of the history with the item.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
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
from personalize.evaluation.rank_correlation import rank_correlation
from personalize.rewards.critic import Critic, CriticContext, Transitions, transitions_along
from personalize.rewards.critic_training import CriticTraining, fitted_critic
from personalize.rewards.stored_critic import write_critic
from recsys.batch import HistoryBatch
from recsys.critic_reader import CriticReader
from recsys.data import InteractionDataModule
from recsys.load import LoadedRecommender, checkpoint_configuration, load_recommender

LOWEST_STARS, HIGHEST_STARS = 1.0, 5.0
ROWS_AT_ONCE = 256


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
    settings = CriticTraining(steps=steps, candidate_weight=candidate_weight, seed=seed)
    critic, losses = fitted_critic(training, settings, width=width, discount=discount)
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
    return transitions_along(
        log.contexts,
        keys[log.item_ids],
        log.rewards,
        log.ended,
        keys[log.candidates],
        discount=discount,
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
        name: rank_correlation(said[rated].numpy(), test.rewards[rated].numpy())
        for name, said in (
            ("worth_and_stars", worth),
            ("mean_and_stars", smoothed[test.item_ids]),
        )
    }


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
