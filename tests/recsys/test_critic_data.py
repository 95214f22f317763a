"""Transitions from ratings, and `recsys critic` from a checkpoint to an artifact."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from data_prep.artifact import read_manifest
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS
from personalize.rewards.critic import Critic, CriticContext
from personalize.rewards.stored_critic import read_critic
from recsys.__main__ import main
from recsys.critic_data import (
    Logged,
    _data,
    logged,
    ranking_facts,
    transitions,
    write_recommender_critic,
)
from recsys.critic_reader import CriticReader
from recsys.load import load_recommender
from tests.recsys.served_world import ServedWorld


def small_log(ended: tuple[bool, ...] = (False, True, True)) -> Logged:
    rows = len(ended)
    return Logged(
        CriticContext(torch.arange(rows * 2.0).reshape(rows, 2), torch.zeros(rows, 0)),
        torch.tensor([2, 0, 1])[:rows],
        torch.tensor([1.0, 0.5, 0.25])[:rows],
        torch.tensor([True, True, False])[:rows],
        torch.tensor(ended),
        torch.tensor([[0], [1], [2]])[:rows],
    )


def test_transitions_lead_to_the_next_item_of_the_same_person():
    keys = torch.tensor([[0.0], [10.0], [20.0]])
    found = transitions(small_log(), keys, discount=0.5)
    assert found.action.tolist() == [[20.0], [0.0], [10.0]]
    assert found.next_state[0].tolist() == found.state[1].tolist()
    assert found.ended.tolist() == [False, True, True]
    assert found.to_go.tolist() == [1.25, 0.5, 0.25]
    assert found.candidates.tolist() == [[[0.0]], [[10.0]], [[20.0]]]


def test_facts_look_at_rated_rows_alone():
    log, keys = small_log(), torch.tensor([[0.0], [10.0], [20.0]])
    torch.manual_seed(0)
    critic = Critic(2, 1, width=4)
    found = ranking_facts(critic, {"train": log, "test": log}, keys)
    worth = critic(keys[log.item_ids][:, None], log.contexts)[:2, 0].detach()
    assert found["worth_and_stars"] == pytest.approx(1.0 if worth[0] > worth[1] else -1.0)
    assert found["mean_and_stars"] == pytest.approx(1.0)  # item 2 has the better mean


@pytest.mark.parametrize("model", ["causal", "mender_emb"])
def test_the_log_is_the_table(one_world: ServedWorld, model: str):
    loaded = load_recommender(one_world.root / model)
    reader = CriticReader.of(loaded)
    data = _data(loaded, None)
    table = pl.read_parquet(one_world.root / "tables" / "interactions.parquet")
    for split in ("train", "test"):
        log = logged(reader, data, split, candidates=3, seed=0)
        rows = table.sort("user_id", "position").filter(
            (pl.col("position") > 0) & (pl.col("split") == split)
        )
        assert log.item_ids.tolist() == rows["item_id"].to_list()
        assert log.rewards.tolist() == pytest.approx(((rows["rating"] - 1) / 4).to_list())
        last = rows.with_columns(
            last=pl.col("position") == pl.col("position").max().over("user_id")
        )
        assert log.ended.tolist() == last["last"].to_list()
        assert log.candidates.shape == (rows.height, 6)
        assert log.contexts.state.shape[0] == log.contexts.preference.shape[0] == rows.height
    assert log.contexts.preference.abs().sum() > 0


def test_a_state_knows_no_preference(one_world: ServedWorld):
    loaded = load_recommender(one_world.root / "mender_emb")
    reader = CriticReader.of(loaded)
    batch = next(iter(_data(loaded, None).test_dataloader()))
    with_them = reader.context(batch)
    from dataclasses import replace

    without = reader.context(
        replace(batch, preference_mask=torch.zeros_like(batch.preference_mask))
    )
    assert torch.equal(with_them.state, without.state)
    assert not torch.equal(with_them.preference, without.preference)
    assert without.preference.abs().sum() == 0


def test_the_door_writes_a_critic_for_its_checkpoint(one_world: ServedWorld, tmp_path: Path):
    command = ["critic", "--checkpoint", str(one_world.root / "causal"), "--steps", "3"]
    out = tmp_path / "critic"
    assert main([*command, "--width", "8", "--candidates", "2", "--out", str(out)]) == 0
    stored = read_critic(out)
    checkpoint = one_world.root / "causal"
    critic = stored.for_checkpoint(read_manifest(checkpoint).content_hash)
    loaded = load_recommender(checkpoint)
    reader = CriticReader.of(loaded)
    batch = next(iter(_data(loaded, None).test_dataloader()))
    actions = reader.actions()[None].expand(len(batch), -1, -1)
    worth = critic(actions, reader.context(batch))
    assert worth.shape == (len(batch), loaded.catalogue.item_count)
    assert worth.isfinite().all()
    assert {"rows", "worth_and_stars", "mean_and_stars", "iql", "cal_ql"} <= set(stored.facts)
    assert -1 <= stored.facts["worth_and_stars"] <= 1


def test_errors(one_world: ServedWorld, tmp_path: Path):
    with pytest.raises(InputError, match="was trained without vectors, so a critic sees nothing"):
        write_recommender_critic(checkpoint=one_world.root / "tiger", out=tmp_path / "out")
    for wrong in ({"candidates": 0}, {"steps": 0}, {"width": 0}, {"discount": 1.0}):
        with pytest.raises(InputError, match="must be at least 1 and --discount from 0 to below"):
            write_recommender_critic(
                checkpoint=one_world.root / "causal",
                out=tmp_path / "out",
                **wrong,  # pyright: ignore[reportArgumentType]
            )


def test_without_stars_nothing_is_learnt(one_world: ServedWorld, monkeypatch: pytest.MonkeyPatch):
    from data_prep.artifact import Artifact

    loaded = load_recommender(one_world.root / "causal")
    data, reader = _data(loaded, None), CriticReader.of(loaded)
    whole = Artifact.table

    def without_stars(self: Artifact, schema):
        frame = whole(self, schema)
        empty = pl.lit(None, pl.Float32).alias("rating")
        return frame.with_columns(empty) if schema is INTERACTIONS else frame

    monkeypatch.setattr(Artifact, "table", without_stars)
    with pytest.raises(InputError, match="No interaction of the split test was rated"):
        logged(reader, data, "test", candidates=1, seed=0)


def test_an_unrated_row_counts_as_the_mean(one_world: ServedWorld, monkeypatch: pytest.MonkeyPatch):
    from data_prep.artifact import Artifact

    loaded = load_recommender(one_world.root / "causal")
    data, reader = _data(loaded, None), CriticReader.of(loaded)
    whole = Artifact.table

    def with_gaps(self: Artifact, schema):
        frame = whole(self, schema)
        if schema is not INTERACTIONS:
            return frame
        stars = np.where(np.arange(frame.height) % 2, 5.0, 2.0).astype(np.float32)
        some = pl.Series("rating", stars).set(pl.Series(np.arange(frame.height) % 3 == 0), None)
        return frame.with_columns(some)

    monkeypatch.setattr(Artifact, "table", with_gaps)
    log = logged(reader, data, "test", candidates=1, seed=0)
    assert 0 < log.rated.sum() < len(log.rated)
    assert set(log.rewards[log.rated].tolist()) <= {0.25, 1.0}
    mean = log.rewards[log.rated].mean().item()
    assert log.rewards[~log.rated].tolist() == pytest.approx([mean] * int((~log.rated).sum()))
