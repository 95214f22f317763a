"""Items added while serving: found at once, after a restart, and by other processes."""

from pathlib import Path

import pytest
import torch

from data_prep.errors import ArtifactMismatch, InputError
from personalize.api.journal import Journal
from personalize.api.messages import AddedItem
from personalize.api.ports import RequestRefused
from tests.recsys.served_world import (
    DrawnSentences,
    ServedWorld,
    added,
    found,
    keys,
    new_item,
    wish,
)

MODELS = ("causal", "mender_emb", "tiger")
MODES = ("dense", "generative", "hybrid")
HISTORY = ["i003", "i010"]


def answers_of(half, mode: str):
    """What is found of everything."""
    answer = found(half, history=HISTORY, preferences=[wish(text="A tone.")], mode=mode, k=100)
    return {entry.item.id: entry for entry in answer.items}


@pytest.mark.parametrize("model", MODELS)
def test_an_added_item_is_found_at_once_and_after_a_restart(own_world: ServedWorld, model: str):
    half = own_world.opened(model)
    before = {mode: answers_of(half, mode) for mode in MODES}
    items = [
        new_item("new-1", "Bright tone", brand="Norvik", price_cents=500),
        new_item("new-2", "Heavy case", categories=["Cases"], description="Of oak."),
    ]
    answers = added(half, items)
    assert [(a.id, a.status, a.reason) for a in answers] == [
        ("new-1", "added", None),
        ("new-2", "added", None),
    ]
    item = half.item("new-2")
    assert (item.title, item.categories, item.description) == ("Heavy case", ["Cases"], "Of oak.")
    assert item.added
    assert item.semantic_id == answers[1].semantic_id
    assert half.items("norvik bright", start=0, count=5).total == 1
    assert (half.facts()["items"], half.facts()["items_added"]) == (26, 2)
    again = own_world.opened(model)
    for mode in MODES:
        live, replayed = answers_of(half, mode), answers_of(again, mode)
        assert set(live) == set(before[mode]) | {"new-1", "new-2"}
        assert list(live) == list(replayed)
        for key, entry in live.items():
            assert replayed[key].item == entry.item
            assert replayed[key].score == entry.score
    some = found(half, history=["new-1"], mode="hybrid", filters={"categories": ["Cases"]})
    assert keys(some) == ["new-2"]
    unseen = found(half, history=["new-1"], k=100)
    assert "new-1" not in keys(unseen)


@pytest.mark.parametrize("model", MODELS)
def test_one_by_one_is_as_together(own_world: ServedWorld, tmp_path: Path, model: str):
    items = [new_item(f"new-{n}", f"Thing of kind {n}") for n in range(5)]
    together = own_world.opened(model, added=Path("together.jsonl"))
    together.add(items)
    alone = own_world.opened(model, added=Path("alone.jsonl"))
    for item in items:
        alone.add([item])
    for mode in MODES:
        one, other = answers_of(together, mode), answers_of(alone, mode)
        assert [(k, e.item, e.score) for k, e in one.items()] == [
            (k, e.item, e.score) for k, e in other.items()
        ]


def test_codes_are_the_quantizers_with_the_next_free_digit(own_world: ServedWorld):
    half = own_world.opened()
    quantizer = half._trained.quantizer
    taken = {tuple(half.item(f"i{n:03d}").semantic_id) for n in range(24)}
    assert quantizer is not None
    for answer in added(half, [new_item(f"new-{n}", f"Sort {n}") for n in range(6)]):
        text = f"Sort {answer.id[-1]}."
        vector = torch.from_numpy(DrawnSentences().encode([text]))
        codes = tuple(quantizer.assign(vector)[0].tolist())
        digit = next(d for d in range(6) if (*codes, d) not in taken)
        assert answer.semantic_id == [*codes, digit]
        taken.add((*codes, digit))


def test_a_changed_item_keeps_its_codes_and_moves(own_world: ServedWorld):
    half = own_world.opened()
    before, codes = answers_of(half, "dense"), half.item("i005").semantic_id
    (answer,) = added(half, [new_item("i005", "Tone", brand="Other")])
    assert answer == AddedItem(id="i005", status="changed", semantic_id=codes, reason=None)
    after = answers_of(half, "dense")
    assert after["i005"].score != before["i005"].score
    assert after["i005"].item.brand == "Other"
    assert not after["i005"].item.added
    for key in set(before) - {"i005"}:
        assert after[key].score == pytest.approx(before[key].score, abs=1e-5)
    (twice,) = added(half, [new_item("i005", "Thing 5")])
    assert twice.status == "changed"
    assert len(half._retriever) == 24
    assert half.item("i005").title == "Thing 5"


def test_a_refused_item_leaves_the_rest(own_world: ServedWorld):
    half = own_world.opened()
    same = [new_item(f"same-{n}", "One and the same") for n in range(9)]  # six digits, some taken
    answers = added(half, [*same, new_item("other", "Of another kind")])
    status = [answer.status for answer in answers]
    assert status.count("refused") >= 3
    assert status[0] == status[-1] == "added"
    refused = answers[status.index("refused")]
    assert refused.semantic_id is None
    assert "items share already" in str(refused.reason)
    assert half.facts()["items_added"] == status.count("added")
    with pytest.raises(RequestRefused, match="There is no item 'same-8'"):
        half.item("same-8")
    assert own_world.opened().facts()["items_added"] == status.count("added")


def test_the_same_item_twice_is_added_then_changed(own_world: ServedWorld):
    half = own_world.opened()
    first, second = added(half, [new_item("new", "First"), new_item("new", "Second")])
    assert (first.status, second.status) == ("added", "changed")
    assert first.semantic_id == second.semantic_id
    assert half.item("new").title == "Second"
    assert half.facts()["items_added"] == 1


def test_what_another_process_adds_is_taken_over(own_world: ServedWorld):
    one, other = own_world.opened(), own_world.opened()
    one.add([new_item("new-1", "First")])
    other.catch_up()
    assert other.item("new-1").title == "First"
    other.add([new_item("new-2", "Second")])
    one.add([new_item("new-3", "Third")])  # writes after news it had not read
    assert [one.item(f"new-{n}").title for n in (1, 2, 3)] == ["First", "Second", "Third"]
    other.catch_up()
    other.catch_up()
    for mode in MODES:
        assert [(k, e.score) for k, e in answers_of(one, mode).items()] == [
            (k, e.score) for k, e in answers_of(other, mode).items()
        ]


def test_what_the_disk_does_not_take_is_not_served(own_world: ServedWorld, monkeypatch):
    half = own_world.opened()

    def full(journal: Journal, records: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    with pytest.raises(OSError, match="No space left"):
        half.add([new_item("new", "First")])
    assert half.facts()["items_added"] == 0
    assert len(half._retriever) == 24


def test_who_cannot_grow_says_so(own_world: ServedWorld):
    with pytest.raises(RequestRefused, match="name a file as added"):
        own_world.opened(added=None).add([new_item("new", "First")])
    with pytest.raises(InputError, match="knows items by their number alone"):
        own_world.opened("sasrec").add([new_item("new", "First")])
    with pytest.raises(InputError, match="without text vectors"):
        own_world.opened("tiger", vectors=None).add([new_item("new", "First")])


def test_a_journal_of_other_semantic_ids_is_assigned_anew(own_world: ServedWorld):
    half = own_world.opened()
    half.add([new_item("new", "First")])
    path = own_world.root / "added.jsonl"
    record = dict(Journal(path).entries[0])
    path.unlink()
    Journal(path).append([record | {"semantic_ids": "another", "codes": [0, 0, 0]}])
    assert own_world.opened().item("new").semantic_id == half.item("new").semantic_id
    path.unlink()
    Journal(path).append([{"something": "else"}])
    with pytest.raises(ArtifactMismatch, match="holds no item"):
        own_world.opened()


def test_a_path_of_the_journal_outside_the_root_is_refused(own_world: ServedWorld):
    with pytest.raises(InputError, match="lies outside"):
        own_world.opened(added=Path("../added.jsonl"))
