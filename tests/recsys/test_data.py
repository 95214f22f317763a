"""The data module: splits, row shapes, preferences, and nothing from a target or after it."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import ArtifactMismatch, InputError
from personalize.conditioning.selection import All, Latest, Nothing, Oracle, Retrieved
from recsys.data import InteractionDataModule
from recsys.stored_catalogue import load_catalogue
from tests.recsys.small_artifacts import (
    write_preferences,
    write_semantic_ids,
    write_tables,
    write_vectors,
)

HISTORIES = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2], [1, 2, 0]]


def _vector(text: str) -> np.ndarray:
    """A vector that depends on the text alone."""
    values = np.random.default_rng(list(text.encode())).normal(size=8)
    return values / np.linalg.norm(values)


def _artifacts(folder, histories, reviews) -> dict[str, Any]:
    """Tables, vectors and preferences; every review is read as one preference from then on."""
    item_count = 1 + max(item for history in histories for item in history)
    titles = [f"thing {n}" for n in range(item_count)]
    texts = sorted({*titles, *reviews.values()})
    preferences = [
        {
            "subject_id": user,
            "valid_from": position + 1,
            "preference_number": 0,
            "text": text,
            "polarity": "avoid" if position % 3 == 2 else "like",
        }
        for (user, position), text in sorted(reviews.items())
    ]
    values = np.stack([_vector(text) for text in texts])
    return {
        "tables": write_tables(folder / "tables", histories, item_count=item_count, texts=reviews),
        "vectors": write_vectors(
            folder / "vectors", values, [texts.index(title) for title in titles], texts
        ),
        "preferences": write_preferences(folder / "preferences", preferences),
    }


def _seen(data, loader):
    """All a model sees of each target, by (user, target item): items, texts and their vectors."""
    seen = {}
    for batch in loader:
        for row, target in batch.target_mask.nonzero().tolist():
            history = batch.history_item_ids[row][batch.history_mask[row]].tolist()
            if batch.target_mask.shape[1] > 1:
                history = history[: target + 1]
            mask = batch.preference_mask[row, target]
            text_ids = batch.preference_text_ids[row, target][mask]
            item_texts = [data.catalogue.texts[data.catalogue.item_text_ids[i]] for i in history]
            seen[tuple(history), batch.target_item_ids[row, target].item()] = (
                [data.catalogue.texts[text_id] for text_id in text_ids],
                data.catalogue.text_vectors[text_ids].tolist(),
                batch.preference_avoid[row, target][mask].tolist(),
                item_texts,
            )
    return seen


@pytest.mark.parametrize("rows", ["prefixes", "sequences"])
@pytest.mark.parametrize("policy", [Latest(), All(), Retrieved(), Oracle()])
@given(place=st.integers(1, 5), words=st.sampled_from(["I love it", "zzz", "thing 3 is great"]))
@settings(max_examples=6)
def test_the_targets_own_review_and_later_ones_change_nothing(
    tmp_path_factory, rows, policy, place, words
):
    histories = [[0, 1, 2, 3, 4, 5]]
    plain = {(0, position): f"review {position}" for position in range(6)}
    planted = plain | {(0, later): f"{words} {later}" for later in range(place, 6)}
    seen = []
    for reviews in (plain, planted):
        paths = _artifacts(tmp_path_factory.mktemp("run"), histories, reviews)
        data = InteractionDataModule(
            **paths, rows=rows, training_policies=[policy], evaluation_policy=policy
        )
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        seen.append({key: what for loader in loaders for key, what in _seen(data, loader).items()})
    unchanged = {
        key: what for key, what in seen[0].items() if key[1] <= place
    }  # the item at position p is item p
    assert unchanged
    assert unchanged == {key: what for key, what in seen[1].items() if key[1] <= place}
    if place < 5:  # and the sentence does arrive where it may be known
        assert any("".join(seen[0][key][0]) != "".join(seen[1][key][0]) for key in seen[0])


def test_training_never_sees_a_held_out_interaction(tmp_path):
    tables = write_tables(tmp_path / "tables", HISTORIES, item_count=6)
    for rows in ("prefixes", "sequences"):
        data = InteractionDataModule(tables, rows=rows, batch_size=2)
        keys = {key for batch in data.train_dataloader() for key in _pairs(batch)}
        assert keys == {(0, 1), (1, 2), (2, 3), (5, 4)}
        final = InteractionDataModule(tables, rows=rows, batch_size=2, train_on_validation=True)
        keys = {key for batch in final.train_dataloader() for key in _pairs(batch)}
        assert keys == {(0, 1), (1, 2), (2, 3), (3, 4), (5, 4), (4, 3), (1, 2)}


def _pairs(batch):
    """Last item and target of every real target."""
    for row, target in batch.target_mask.nonzero().tolist():
        last = target if batch.target_mask.shape[1] > 1 else batch.history_mask[row].sum() - 1
        yield (
            batch.history_item_ids[row, last].item(),
            batch.target_item_ids[row, target].item(),
        )


@pytest.mark.parametrize("rows", ["prefixes", "sequences"])
def test_validation_and_test_ask_one_target_after_the_whole_past(tmp_path, rows):
    tables = write_tables(tmp_path / "tables", HISTORIES, item_count=6)
    data = InteractionDataModule(tables, rows=rows, maximum_history=4)
    (validation,), (test,) = data.val_dataloader(), data.test_dataloader()
    histories = [
        row[mask].tolist()
        for batch in (validation, test)
        for row, mask in zip(batch.history_item_ids, batch.history_mask, strict=True)
    ]
    assert histories == [[0, 1, 2, 3], [5, 4], [1], [1, 2, 3, 4], [5, 4, 3], [1, 2]]
    for batch, targets in ((validation, [4, 3, 2]), (test, [5, 2, 0])):
        assert batch.target_mask.sum(dim=1).tolist() == [1, 1, 1]
        assert batch.target_item_ids[batch.target_mask].tolist() == targets


def test_prefixes_and_sequences_learn_the_same_targets_with_the_same_preferences(tmp_path):
    reviews = {(u, p): f"review {u} {p}" for u, h in enumerate(HISTORIES) for p in range(len(h))}
    paths = _artifacts(tmp_path, HISTORIES, reviews)
    seen = []
    for rows in ("prefixes", "sequences"):
        data = InteractionDataModule(**paths, rows=rows, training_policies=[Oracle()])
        seen.append(_seen(data, data.train_dataloader()))
    assert seen[0] == seen[1]


def test_one_policy_is_drawn_for_every_row_and_epoch(tmp_path):
    histories = [[0, 1, 2, 3, 4, 5]] * 30
    reviews = {(u, p): f"review {u} {p}" for u in range(30) for p in range(6)}
    paths = _artifacts(tmp_path, histories, reviews)
    data = InteractionDataModule(**paths, training_policies=[Nothing(), All()], batch_size=200)
    loader = data.train_dataloader()
    shares = [next(iter(loader)).preference_mask[..., 0] for _ in range(2)]
    again = next(iter(data.train_dataloader())).preference_mask[..., 0]
    assert torch.equal(shares[0], again)
    assert 0.3 < shares[0].float().mean() < 0.7
    loader.set_epoch(5)
    assert not torch.equal(shares[0], next(iter(loader)).preference_mask[..., 0])


def test_the_catalogue_holds_codes_texts_and_vectors(tmp_path):
    paths = _artifacts(tmp_path, HISTORIES, {(0, 0): "review"})
    codes = [[n // 3, n % 3, 0] for n in range(6)]
    semantic_ids = write_semantic_ids(tmp_path / "codes", codes, [2, 3, 1])
    catalogue = load_catalogue(paths["tables"], paths["vectors"], semantic_ids)
    assert catalogue.item_codes.tolist() == codes
    assert catalogue.level_sizes == (2, 3, 1)
    assert [catalogue.texts[n] for n in catalogue.item_text_ids] == [f"thing {n}" for n in range(6)]
    assert catalogue.item_text_mask.all()
    np.testing.assert_allclose(catalogue.text_vectors[0], _vector(catalogue.texts[0]), rtol=1e-6)
    bare = load_catalogue(paths["tables"])
    assert (bare.item_count, bare.level_sizes, bare.text_vectors.shape) == (6, (), (0, 0))


def test_items_without_a_text_are_masked(tmp_path):
    tables = write_tables(tmp_path / "tables", HISTORIES, item_count=6)
    vectors = write_vectors(tmp_path / "v", np.eye(2), [1, None, 0, None, None, 0], ["a", "b"])
    catalogue = load_catalogue(tables, vectors)
    assert catalogue.item_text_ids.tolist() == [1, 0, 0, 0, 0, 0]
    assert catalogue.item_text_mask.tolist() == [True, False, True, False, False, True]


def test_artifacts_that_do_not_fit_are_refused(tmp_path):
    tables = write_tables(tmp_path / "tables", HISTORIES, item_count=6)
    few = write_vectors(tmp_path / "few", np.eye(2), [0, 1], ["a", "b"])
    with pytest.raises(ArtifactMismatch, match=r"\(vectors\) numbers 2 items, the tables number 6"):
        load_catalogue(tables, few)
    wide = write_semantic_ids(tmp_path / "wide", [[5, 0]] * 6, [2, 3])
    with pytest.raises(ArtifactMismatch, match=r"codes that do not fit its level sizes \(2, 3\)"):
        load_catalogue(tables, None, wide)
    short = write_semantic_ids(tmp_path / "short", [[1, 0]] * 4, [2, 3])
    with pytest.raises(ArtifactMismatch, match=r"\(semantic_ids\) numbers 4 items"):
        load_catalogue(tables, None, short)
    with pytest.raises(ArtifactMismatch, match="holds vectors, but reviews is needed"):
        load_catalogue(few)


def test_options_that_make_no_sense_are_refused(tmp_path):
    tables = write_tables(tmp_path / "tables", [[0, 1, 2]], item_count=3)
    with pytest.raises(InputError, match="no training interaction with another one before it"):
        InteractionDataModule(tables)
    with pytest.raises(InputError, match="maximum_history must be at least 1, got 0"):
        InteractionDataModule(tables, maximum_history=0)
    whole = write_tables(tmp_path / "whole", HISTORIES, item_count=6)
    preferences = write_preferences(tmp_path / "preferences", [])
    with pytest.raises(InputError, match=r"data\.preferences needs data\.vectors"):
        InteractionDataModule(whole, preferences=preferences)


def test_hashes_name_every_artifact_that_was_read(tmp_path):
    paths = _artifacts(tmp_path, HISTORIES, {(0, 0): "review"})
    data = InteractionDataModule(**paths)
    assert set(data.input_hashes()) == {"tables", "vectors", "preferences"}
    assert all(len(value) == 64 for value in data.input_hashes().values())
    assert data.input_paths()["tables"] == paths["tables"]
