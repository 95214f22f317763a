"""`recsys fit-edits`: contexts at the ends of an attribute, maps that move what is recommended."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from data_prep.artifact import read_artifact, read_manifest
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS
from personalize.steering.edits import edited
from personalize.steering.stored_maps import read_maps
from recsys import activation_maps
from recsys.__main__ import main
from recsys.activation_maps import (
    item_attributes,
    learnt_histories,
    next_items_mean,
    reading,
)
from recsys.baselines.popularity import Popularity
from recsys.collate import Ragged, prefix_batch
from recsys.histories import Histories
from recsys.load import LoadedRecommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.mender_emb import MenderEmb
from recsys.stored_catalogue import load_catalogue
from tests.recsys.retriever_fixtures import TINY, small_batch, small_catalogue
from tests.recsys.small_artifacts import write_semantic_ids, write_tables, write_vectors

ITEMS = 24


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fit_edits")
    random = np.random.default_rng(0)
    popular = 1.0 / np.arange(1, ITEMS + 1)
    histories = [
        random.choice(ITEMS, 8, replace=False, p=popular / popular.sum()).tolist()
        for _ in range(30)
    ]
    codes = [[n // 6, n % 6] for n in range(ITEMS)]
    texts = [f"thing {n}" for n in range(ITEMS)]
    return {
        "tables": write_tables(folder / "tables", histories, item_count=ITEMS),
        "vectors": write_vectors(
            folder / "vectors", random.normal(size=(ITEMS, 8)), list(range(ITEMS)), texts
        ),
        "semantic_ids": write_semantic_ids(folder / "semantic_ids", codes, [4, 6]),
    }


@pytest.fixture(params=["causal", "mender"])
def loaded(request, paths, monkeypatch) -> LoadedRecommender:
    """An untrained recommender in the place of a checkpoint's; its manifest is that of tables."""
    torch.manual_seed(0)
    catalogue = load_catalogue(paths["tables"], paths["vectors"], paths["semantic_ids"])
    recommender = (
        CausalRetriever(catalogue, size=CausalSize(width=16))
        if request.param == "causal"
        else MenderEmb(catalogue, size=replace(TINY, encoder_layers=1, decoder_layers=1))
    )
    found = LoadedRecommender(recommender.eval(), catalogue, paths["tables"], paths, 20, False)
    monkeypatch.setattr(activation_maps, "load_recommender", lambda *_, **__: found)
    return found


def options(out: Path, *more: str) -> list[str]:
    few = ["--rows", "8", "--share", "0.4", "--steps", "12", "--sparsity", "0.01"]
    return ["fit-edits", "--checkpoint", "run", "--out", str(out), *few, *more]


def test_maps_are_written_and_move_the_encoder(loaded, paths, tmp_path, capsys):
    assert main(options(tmp_path / "maps")) == 0
    assert "popularity: cost" in capsys.readouterr().err
    checkpoint = read_manifest(paths["tables"]).content_hash
    sets = read_maps(tmp_path / "maps", checkpoint=checkpoint)
    assert list(sets) == ["popularity", "rating", "recency"]  # no item has a price
    notes = read_manifest(tmp_path / "maps").notes["fits"]["popularity"]
    assert notes["cost_after"] < notes["cost_before"]
    assert "encoder.norm_out" in sets["popularity"] or "encoder.norm" in sets["popularity"]
    recommender = loaded.recommender
    few = np.arange(4)
    histories = Ragged.from_lists([[1, 2], [3], [4, 5, 6], [7]]).last(3)
    batch = prefix_batch(few, histories, few)
    plain = recommender.recommend(batch, count=5)
    with torch.no_grad(), edited(recommender, sets["popularity"], 1.0):
        moved = recommender.recommend(batch, count=5)
    assert not torch.equal(plain.scores, moved.scores)
    assert torch.equal(recommender.recommend(batch, count=5).scores, plain.scores)


@pytest.mark.parametrize("loaded", ["causal"], indirect=True)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(loaded, tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        more = ["--dimensions", "recency", "--steps", "3", "--seed", seed]
        assert main(options(tmp_path / name, *more)) == 0
    first, again, other = (read_manifest(tmp_path / name).content_hash for name in "abc")
    assert first == again
    assert first != other


@pytest.mark.parametrize("loaded", ["causal"], indirect=True)
def test_what_cannot_be_fitted_is_one_sentence(loaded, tmp_path, capsys):
    for more, sentence in (
        (["--dimensions", "charm"], "no dimension charm; known are popularity, rating, recency"),
        (["--modules", "decoder.*"], "no module that matches"),
        (["--rows", "1000"], "Edits of popularity cannot be fitted: an end needs rows of 1000"),
        (["--share", "0.9"], "share must be above 0"),
        (["--steps", "0"], "at least one step"),
    ):
        assert main(options(tmp_path / "none", *more)) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "none").exists()


def test_a_recommender_without_an_encoder_is_refused():
    catalogue = small_catalogue()
    with pytest.raises(InputError, match="Popularity has no encoder to edit"):
        reading(Popularity(catalogue), small_batch(catalogue))


def test_attributes_come_from_training_alone(paths):
    found = item_attributes(paths["tables"])
    assert list(found) == ["popularity", "rating", "recency"]
    met = read_artifact(paths["tables"], kind="reviews").table(INTERACTIONS)
    counts = np.zeros(ITEMS)
    for row in met.iter_rows(named=True):
        counts[row["item_id"]] += row["split"] == "train"
    values, known = found["popularity"]
    np.testing.assert_allclose(values, np.log1p(counts))
    assert known.all()
    assert (found["rating"][1] == (counts > 0)).all()


def test_what_comes_next_is_of_training_alone(paths):
    met = read_artifact(paths["tables"], kind="reviews").table(INTERACTIONS)
    learnt = met.filter(pl.col("split") == "train")
    assert len(learnt) < len(met)
    assert sorted(learnt_histories(paths["tables"]).item_ids) == sorted(learnt["item_id"])


def test_a_context_is_judged_by_its_next_three_items_of_the_same_person():
    interactions = pl.DataFrame(
        {
            "user_id": [0, 0, 0, 0, 0, 1, 1],
            "position": [0, 1, 2, 3, 4, 0, 1],
            "item_id": [0, 1, 2, 3, 4, 5, 6],
            "split": ["train"] * 7,
        }
    )
    values = np.array([100.0, 1.0, 2.0, 6.0, 8.0, 100.0, 7.0])
    known = np.array([True, True, True, True, True, True, False])
    means, there = next_items_mean(
        Histories.from_interactions(interactions), np.array([1, 3, 4, 6]), (values, known)
    )
    assert means.tolist() == [3.0, 7.0, 8.0, 0.0]
    assert there.tolist() == [True, True, True, False]
