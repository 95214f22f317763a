"""Scored proposals of a driving teacher as pools: what would the log have chosen among them?

A context is what a trained planner makes of a scene. The candidates are a teacher's drives in
several styles and some that were spoiled on purpose, with the five sub-scores of PDM as rewards;
the chosen one is the drive that stays nearest to the logged way. The log itself is no candidate.
Scenes are held out whole.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from data_prep.artifact import read_artifact
from driving.load import load_planner
from driving.planner.batch import PROBABILITIES
from driving.planner.learned import EncodesScenes
from driving.planning_rows import read_planning_rows
from driving.style.tables import SAMPLES
from personalize.conditioning.weight_adapter import Pools

MOST = 1600
HELD_OUT = 4
"""One scene in so many is held out."""


def planner_pools(run: Path) -> tuple[tuple[Tensor, Pools], tuple[Tensor, Pools]]:
    """Contexts and pools for training and for testing."""
    loaded = load_planner(run)
    if not isinstance(loaded.planner, EncodesScenes):
        raise TypeError(f"{type(loaded.planner).__name__} does not encode scenes.")
    arrays = read_artifact(loaded.paths["teacher"], kind="teacher").arrays("teacher")
    samples = read_artifact(loaded.paths["styles"], kind="styles").table(SAMPLES)
    samples = samples.filter(pl.col("split") == "train")
    known = arrays["sub_score_mask"][samples["sample_id"].to_numpy(), -1].all(-1)
    samples = samples.filter(pl.Series(known))
    chosen = np.unique(np.linspace(0, samples.height - 1, min(MOST, samples.height)).astype(int))
    samples = samples[chosen]
    rows = read_planning_rows(loaded.paths["scenes"], samples)
    with torch.no_grad():
        vectors = [
            loaded.planner.scene_vectors(rows.scenes.rows(slice(n, n + 256)))
            for n in range(0, len(rows), 256)
        ]
    contexts = torch.cat(vectors)
    ids = rows.sample_ids
    proposals = torch.from_numpy(np.array(arrays["proposals"][ids])).float()
    scores = torch.from_numpy(np.array(arrays["sub_scores"][ids])).float()
    mask = torch.from_numpy(np.array(arrays["sub_score_mask"][ids]))[:, :-1, : len(PROBABILITIES)]
    mask = mask.all(-1)
    distance = (proposals[:, :-1, :, :2] - proposals[:, -1:, :, :2]).norm(dim=-1).mean(-1)
    nearest = distance.masked_fill(~mask, torch.inf).argmin(1)
    pools = Pools(scores[:, :-1, : len(PROBABILITIES)], mask, nearest)
    _, recording = np.unique(samples["scene_id"].to_numpy(), return_inverse=True)
    test = torch.from_numpy(recording % HELD_OUT == HELD_OUT - 1)
    mean, deviation = contexts[~test].mean(0), contexts[~test].std(0).clamp_min(1e-6)
    contexts = (contexts - mean) / deviation
    kept, held = (~test).nonzero()[:, 0], test.nonzero()[:, 0]
    return (contexts[kept], pools.rows(kept)), (contexts[held], pools.rows(held))
