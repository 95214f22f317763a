"""The half that recommends: its answers are what the model says, whoever is asked beside."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.artifact import read_artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.schema import PREFERENCES
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.messages import ItemQuery, ItemsFound, ReadRequest
from personalize.api.ports import RequestRefused
from recsys.collate import Ragged, RowPreferences, prefix_batch
from recsys.load import load_recommender
from recsys.recommender import Filters
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.decode import BeamSearch
from tests.recsys.served_world import (
    DrawnSentences,
    PlainSource,
    ServedWorld,
    causal_of,
    found,
    generator_of,
    keys,
    wish,
)
from tests.recsys.small_world import _vector, sentence

MODES = ("dense", "generative", "hybrid")
LIKED = wish(text=sentence("like:tone"))
AVOIDED = wish(text="Nothing heavy, please.", polarity="avoid")
WEAK = wish(attribute="price", strength=0.25)
HISTORY = ["i003", "i010", "i007"]


def batch_of(history, wishes):
    """One row, by hand: histories by number, wishes as texts with polarity and strength."""
    texts = [used.text for used in wishes]
    count = max(1, len(texts))
    preferences = RowPreferences(
        np.zeros((1, count), np.int64),
        np.array([[True] * len(texts) + [False] * (count - len(texts))]),
        np.array([[used.polarity == "avoid" for used in wishes] + [False] * (count - len(texts))]),
    )
    batch = prefix_batch(
        np.arange(1), Ragged.from_lists([history]).last(6), np.zeros(1, np.int64), preferences
    )
    vectors = np.zeros((1, 1, count, 16), np.float32)
    strength = np.zeros((1, 1, count), np.float32)
    for place, used in enumerate(wishes):
        vectors[0, 0, place] = _vector(used.text, 0)
        strength[0, 0, place] = used.strength
    return dataclasses.replace(
        batch,
        preference_vectors=torch.from_numpy(vectors),
        preference_strength=torch.from_numpy(strength),
    )


def test_dense_answers_are_the_best_dense_logits(world: ServedWorld):
    half, model = world.opened(), causal_of(load_recommender(world.root / "causal").recommender)
    answer = found(half, history=HISTORY, preferences=[LIKED, AVOIDED, WEAK], mode="dense", k=5)
    with torch.no_grad():
        batch = batch_of([3, 10, 7], answer.preferences)
        logits = model._dense_logits(*model._last_state(batch))[0]
    logits[[3, 10, 7]] = -torch.inf
    best = logits.topk(5)
    assert keys(answer) == [f"i{n:03d}" for n in best.indices.tolist()]
    assert [i.score for i in answer.items] == pytest.approx(best.values.tolist(), abs=1e-5)


@pytest.mark.parametrize("model", ["causal", "mender_emb", "tiger"])
def test_generative_answers_are_what_the_beam_finds(world: ServedWorld, model: str):
    recommender = generator_of(load_recommender(world.root / model).recommender)
    assert recommender.trie is not None
    answer = found(
        world.opened(model), history=HISTORY, preferences=[LIKED, WEAK], mode="generative", k=5
    )
    with torch.no_grad():
        batch = batch_of([3, 10, 7], answer.preferences)
        best = BeamSearch(width=8)(
            recommender.code_decoder(),
            batch,
            recommender.trie,
            count=8,
            filters=Filters(exclude_history=True),
        )
    assert keys(answer) == [f"i{n:03d}" for n in best.item_ids[0, :5].tolist()]
    assert [i.score for i in answer.items] == pytest.approx(best.scores[0, :5].tolist(), abs=1e-4)


@pytest.mark.parametrize("model", ["causal", "mender_emb", "tiger"])
def test_hybrid_answers_are_generated_and_ranked_by_vectors(world: ServedWorld, model: str):
    half = world.opened(model, candidates=4)
    asked = {"history": HISTORY, "preferences": [LIKED, WEAK]}
    generated = found(half, **asked, mode="generative", k=4)
    nearest = found(half, **asked, mode="dense", k=24)
    expected = [entry for entry in nearest.items if entry.item.id in keys(generated)]
    answer = found(half, **asked, mode="hybrid", k=4)
    assert keys(answer) == [entry.item.id for entry in expected]
    assert [entry.score for entry in answer.items] == pytest.approx(
        [entry.score for entry in expected], abs=1e-4
    )
    assert keys(answer) != keys(nearest)[:4]


@pytest.mark.parametrize("model", ["causal", "mender_emb", "tiger"])
def test_questions_do_not_influence_each_other(world: ServedWorld, model: str):
    half = world.opened(model)
    queries = [
        ItemQuery.model_validate(
            {
                "user": f"u{n % 12}",
                "mode": MODES[n % 3],
                "k": (3, 7, 20)[n % 3],
                "explain": n % 2 == 0,
                "preferences": ([], [LIKED], [LIKED, WEAK, AVOIDED], None)[n % 4],
                "filters": {
                    "seen": ("include", "exclude")[n % 2],
                    "deny": ["i005"] * (n % 5 == 0),
                },
            }
        )
        for n in range(24)
    ]
    together = half.retrieve(queries)
    for query, answer in zip(queries, together, strict=True):
        (alone,) = half.retrieve([query])
        assert isinstance(alone, ItemsFound)
        assert isinstance(answer, ItemsFound)
        assert keys(alone) == keys(answer)
        assert alone.compared == answer.compared
        for one, other in zip(alone.items, answer.items, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert one.score_change == pytest.approx(other.score_change, abs=1e-4)
            assert [r.preference for r in one.reasons if abs(r.score_change) > 1e-3] == [
                r.preference for r in other.reasons if abs(r.score_change) > 1e-3
            ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["causal", "mender_emb"])
def test_reasons_are_the_difference_of_asking_again(world: ServedWorld, model: str, mode: str):
    half = world.opened(model, candidates=32)  # all items are compared
    wishes = [LIKED, AVOIDED, WEAK]
    whole = {"history": HISTORY, "mode": mode, "k": 24}
    answer = found(half, **whole, preferences=wishes)
    without = found(half, **whole, preferences=[])
    left_out = [
        found(half, **whole, preferences=wishes[:n] + wishes[n + 1 :]) for n in range(len(wishes))
    ]
    assert answer.compared == 21
    for entry in answer.items:
        place = keys(without).index(entry.item.id)
        change = entry.score - without.items[place].score
        assert entry.score_change == pytest.approx(change, abs=1e-4)
        assert entry.rank_without_preferences == place + 1
        assert sorted(reason.preference for reason in entry.reasons) == [0, 1, 2]
        sizes = [abs(reason.score_change) for reason in entry.reasons]
        assert sizes == sorted(sizes, reverse=True)
        for reason in entry.reasons:
            other = left_out[reason.preference]
            place = keys(other).index(entry.item.id)
            change = entry.score - other.items[place].score
            assert reason.score_change == pytest.approx(change, abs=1e-4)
            assert reason.rank_without == place + 1
    assert any(abs(entry.score_change) > 1e-3 for entry in answer.items)


def test_the_only_preference_moves_as_much_as_all(world: ServedWorld):
    answer = found(world.opened(), history=HISTORY, preferences=[LIKED])
    for entry in answer.items:
        (reason,) = entry.reasons
        assert reason.score_change == entry.score_change
        assert reason.rank_without == entry.rank_without_preferences


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", ["causal", "mender_emb", "tiger"])
def test_no_strength_is_no_preference_to_the_last_bit(world: ServedWorld, model: str, mode: str):
    half = world.opened(model)
    nothing = found(half, history=HISTORY, preferences=[], mode=mode)
    weak = [wish(text="Something else.", strength=0.0), wish(attribute="sound", strength=0.0)]
    answer = found(half, history=HISTORY, preferences=weak, mode=mode)
    assert answer.items == nothing.items
    mixed = found(half, history=HISTORY, preferences=[weak[0], LIKED, weak[1]], mode=mode)
    alone = found(half, history=HISTORY, preferences=[LIKED], mode=mode)
    assert [(e.item.id, e.score) for e in mixed.items] == [
        (e.item.id, e.score) for e in alone.items
    ]
    assert {reason.preference for entry in mixed.items for reason in entry.reasons} <= {1}


@pytest.mark.parametrize("model", ["causal", "mender_emb"])
def test_the_order_of_preferences_is_irrelevant_to_the_last_bit(world: ServedWorld, model: str):
    half = world.opened(model)
    one = found(half, history=HISTORY, preferences=[LIKED, AVOIDED, WEAK])
    other = found(half, history=HISTORY, preferences=[WEAK, LIKED, AVOIDED])
    assert [(e.item.id, e.score) for e in one.items] == [(e.item.id, e.score) for e in other.items]
    back = {0: 1, 1: 2, 2: 0}
    for first, second in zip(one.items, other.items, strict=True):
        assert [back[reason.preference] for reason in first.reasons] == [
            reason.preference for reason in second.reasons
        ]


def test_a_model_without_preferences_says_they_changed_nothing(world: ServedWorld):
    answer = found(world.opened("tiger"), history=HISTORY, preferences=[LIKED], mode="generative")
    assert [used.text for used in answer.preferences] == [LIKED.text]
    assert {entry.score_change for entry in answer.items} == {0.0}
    assert [e.rank_without_preferences for e in answer.items] == list(
        range(1, len(answer.items) + 1)
    )


def test_a_model_that_reads_numbers_takes_only_words_it_knows(world: ServedWorld, monkeypatch):
    monkeypatch.setattr(CausalRetriever, "weighs_preferences", False)
    half, known = world.opened(), known_words(world)
    queries = [
        ItemQuery.model_validate({"history": HISTORY, "preferences": [wish]})
        for wish in (
            {"text": known},
            {"text": known, "strength": 0.5},
            {"text": "Words of my own."},
            {"text": "Words of my own.", "strength": 0},
        )
    ]
    as_known, *refused, silent = half.retrieve(queries)
    assert isinstance(as_known, ItemsFound)
    assert isinstance(silent, ItemsFound)
    assert any(entry.score_change for entry in as_known.items)
    for answer in refused:
        assert isinstance(answer, RequestRefused)
        assert "reads only preferences it knows the words of, at strength 1" in str(answer)


def known_words(world: ServedWorld) -> str:
    """Words of a preference that has a number."""
    table = read_artifact(world.root / "preferences", kind="preferences").table(PREFERENCES)
    return str(table["text"][0])


def test_texts_are_searched_where_there_is_no_dense_head(world: ServedWorld):
    half = world.opened("tiger")
    answer = found(half, history=["i003"], preferences=[LIKED, AVOIDED], mode="dense", k=3)
    liked, avoided = (_vector(used.text, 0) for used in answer.preferences)
    query = _vector("thing 3", 0) + liked - avoided
    scores = np.stack([_vector(f"thing {n}", 0) for n in range(24)]) @ query
    scores[3] = -np.inf
    best = np.argsort(-scores)[:3]
    assert keys(answer) == [f"i{n:03d}" for n in best]
    assert [e.score for e in answer.items] == pytest.approx(scores[best].tolist(), abs=1e-5)


def test_defaults_come_from_the_user(world: ServedWorld):
    half = world.opened()
    user = half.user("u3")
    answer = found(half, user="u3")
    assert answer.history == [step.item.id for step in user.history]
    assert [used.text for used in answer.preferences] == [p.text for p in user.preferences[:2]]
    assert {used.strength for used in answer.preferences} == {1.0}
    assert not set(keys(answer)) & set(answer.history)
    other = found(half, user="u3", history=HISTORY)
    assert other.history == HISTORY
    assert other.preferences == answer.preferences
    nobody = found(half)
    assert (nobody.history, nobody.preferences) == ([], [])
    assert len(nobody.items) == 10


def test_seen_items_beyond_what_is_read_are_left_out_too(world: ServedWorld):
    long = [f"i{n:03d}" for n in range(15)]  # the model reads the newest six
    for mode in MODES:
        answer = found(world.opened(), history=long, mode=mode, k=24)
        assert sorted(keys(answer)) == [f"i{n:03d}" for n in range(15, 24)]
        seen = found(world.opened(), history=long, mode=mode, k=24, filters={"seen": "include"})
        assert len(seen.items) == 24


@pytest.mark.parametrize("mode", MODES)
def test_more_than_there_is_gives_what_there_is(world: ServedWorld, mode: str):
    answer = found(world.opened(), mode=mode, k=1000)
    assert sorted(keys(answer)) == [f"i{n:03d}" for n in range(24)]
    none = found(world.opened(), mode=mode, filters={"allow": []})
    assert (none.items, none.compared) == ([], 0)
    few = found(world.opened(), mode=mode, filters={"allow": ["i002", "i009"], "deny": ["i002"]})
    assert keys(few) == ["i009"]


@pytest.mark.parametrize(
    ("query", "param", "status", "words"),
    [
        ({"user": "nobody"}, "user", 404, "no user 'nobody'"),
        ({"history": ["i001", "gone"]}, "history", 404, "no item 'gone'"),
        ({"filters": {"allow": ["gone"]}}, "filters.allow", 404, "no item 'gone'"),
        ({"filters": {"deny": ["gone"]}}, "filters.deny", 404, "no item 'gone'"),
        ({"filters": {"brands": ["Gone"]}}, "filters.brands", 400, "'Gone' among its brands"),
        ({"preferences": [{"attribute": "gone"}]}, "preferences", 400, "no attribute 'gone'"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(world: ServedWorld, query, param, status, words):
    half = world.opened()
    refused, answered = half.retrieve([ItemQuery(**query), ItemQuery(user="u1")])
    assert isinstance(refused, RequestRefused)
    assert (refused.param, refused.status) == (param, status)
    assert words in str(refused)
    assert isinstance(answered, ItemsFound)
    assert keys(answered) == keys(found(half, user="u1"))


@pytest.mark.parametrize("model", ["sasrec", "popularity"])
def test_a_model_without_codes_is_asked_by_vectors_alone(world: ServedWorld, model: str):
    half = world.opened(model)
    assert len(found(half, history=HISTORY, mode="dense").items) == 10
    (refused,) = half.retrieve([ItemQuery(history=HISTORY)])
    assert isinstance(refused, RequestRefused)
    assert f"{model} cannot be asked in the mode hybrid; it knows dense." in str(refused)
    half.self_query()


@pytest.mark.parametrize("model", ["causal", "mender_emb", "tiger"])
def test_it_can_answer_itself_and_says_what_it_serves(world: ServedWorld, model: str):
    half = world.opened(model)
    half.self_query()
    facts = half.facts()
    assert facts["modes"] == list(MODES)
    assert (facts["items"], facts["items_added"], facts["users"]) == (24, 0, 12)
    assert "price" in {attribute["name"] for attribute in facts["attributes"]}
    assert set(facts["artifacts"]) >= {"checkpoint", "item_vectors", "tables", "semantic_ids"}


def test_a_model_that_was_trained_without_preferences_says_so(own_world: ServedWorld):
    assert own_world.opened().facts()["reads_preferences"] is True
    assert own_world.opened("tiger").facts()["reads_preferences"] is False
    path = own_world.root / "causal" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["configuration"]["data"]["preferences"]
    path.write_text(json.dumps(manifest))
    assert own_world.opened().facts()["reads_preferences"] is False


def test_users_and_items_are_listed(world: ServedWorld):
    half = world.opened()
    assert half.users("U1", start=1, count=1).model_dump() == {"total": 3, "users": ["u10"]}
    page = half.items("thing 2", start=1, count=3)
    assert (page.total, [item.id for item in page.items]) == (6, ["i012", "i020", "i021"])
    assert half.items("", start=0, count=1).total == 24
    assert [item.id for item in half.items("I007 thing", start=0, count=9).items] == ["i007"]
    assert half.item("i007").title == "Thing 7"
    assert not half.item("i007").added
    for wrong in (half.item, half.user):
        with pytest.raises(RequestRefused, match="There is no") as refusal:
            wrong("gone")
        assert refusal.value.status == 404
    view = half.user("u3")
    reviews = {step.review_id: step.review for step in view.history}
    assert [step.position for step in view.history] == list(range(len(view.history)))
    assert view.preferences
    for preference in view.preferences:
        for quote in preference.evidence:
            said = reviews[quote.source] or ""
            assert said[quote.start : quote.end] == quote.quote != ""


def test_a_scene_is_not_read_here(world: ServedWorld):
    with pytest.raises(RequestRefused, match="read in reviews"):
        world.opened().read(ReadRequest(scene="grid"))


def test_nothing_outside_the_root_is_opened(world: ServedWorld, tmp_path: Path):
    with pytest.raises(NotServedError, match="is not there"):
        world.opened(checkpoint=Path("gone"))
    with pytest.raises(InputError, match="lies outside"):
        world.opened(checkpoint=Path("../elsewhere"))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "causal").symlink_to(world.root / "causal")
    with pytest.raises(InputError, match="lies outside"):
        world.items().open(ServedFiles(tmp_path / "inner"))


def test_data_of_the_training_outside_the_root_is_refused(own_world: ServedWorld):
    inner = own_world.root / "inner"
    inner.mkdir()
    (own_world.root / "causal").rename(inner / "causal")
    with pytest.raises(InputError, match=r"tables lies outside"):
        own_world.items().open(ServedFiles(inner))


def test_data_of_the_training_that_moved_is_named_and_can_be_named(own_world: ServedWorld):
    asked = [ItemQuery(user="u3", k=3)]
    before = own_world.opened().retrieve(asked)
    moved = {name: Path(f"moved_{name}") for name in ("tables", "vectors", "semantic_ids")}
    for name, path in moved.items():
        (own_world.root / name).rename(own_world.root / path)
    with pytest.raises(NotServedError, match=r"trained on the tables .*name them as tables under"):
        own_world.opened()
    with pytest.raises(NotServedError, match=r"the vectors .*name them as vectors under items"):
        own_world.opened(tables=moved["tables"], vectors=None)
    with pytest.raises(NotServedError, match=r"the semantic_ids .*as semantic_ids under items"):
        own_world.opened("causal", **moved | {"semantic_ids": None})
    assert own_world.opened("causal", **moved).retrieve(asked) == before
    manifest = own_world.root / "causal" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f"{own_world.root}/", ""))
    with pytest.raises(
        NotServedError, match=r"trained on the tables tables, which .* as seen from /"
    ):
        own_world.opened()
    with pytest.raises(NotServedError, match="gone is not there"):
        own_world.opened("causal", **moved | {"tables": Path("gone")})
    with pytest.raises(InputError, match="lies outside"):
        own_world.opened("causal", **moved | {"tables": Path("../elsewhere")})


def test_artifacts_that_do_not_fit_are_refused(own_world: ServedWorld, monkeypatch):
    root = own_world.root
    wrong = root / "mender_emb_vectors"
    with pytest.raises(ArtifactMismatch, match="another checkpoint"):
        own_world.opened(item_vectors=wrong, retriever=PlainSource(wrong))
    monkeypatch.setattr(DrawnSentences, "fingerprint", "another")
    manifest = root / "vectors" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"notes": {}', '"notes": {"encoder_sha256": "drawn"}'))
    with pytest.raises(InputError, match="not made with the sentence model embedded"):
        own_world.opened()
    manifest.write_text(text)
    reviews = root / "preferences" / "manifest.json"
    reviews.write_text(
        reviews.read_text().replace('"inputs": {}', '"inputs": {"reviews": "another"}')
    )
    with pytest.raises(ArtifactMismatch, match="extracted from other tables"):
        own_world.opened()
    weights = root / "causal" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactMismatch, match="was changed after it was written"):
        own_world.opened()


def test_a_comparison_of_nothing_is_refused(world: ServedWorld):
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        world.items(candidates=0)
