"""The negative copy of a recommender, and decoders that are guided away from it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS
from personalize.checkpoint import KIND, WEIGHTS
from personalize.negative_copy import FineTuning
from recsys.__main__ import main
from recsys.batch import HistoryBatch
from recsys.catalogue import catalogue_sizes
from recsys.histories import Histories
from recsys.load import load_recommender
from recsys.negative import (
    SelfSampling,
    TrainingContexts,
    negative_recommender,
    nucleus,
    with_own_answers,
)
from recsys.recommender import Filters, Recommendations, Recommender
from recsys.retriever.causal import CausalRetriever
from recsys.retriever.causal_encoder import CausalSize
from recsys.retriever.decode import BeamSearch
from recsys.retriever.guidance import ContrastiveDecoder, GuidedDecoder, without_preferences
from recsys.retriever.mender_emb import MenderEmb
from recsys.retriever.tiger import Tiger
from recsys.stored_catalogue import load_catalogue
from tests.recsys.retriever_fixtures import TINY, small_batch, small_catalogue
from tests.recsys.small_artifacts import write_semantic_ids, write_tables, write_vectors

ITEMS = 12
CATALOGUE = small_catalogue()
CAUSAL = CausalSize(width=16, heads=2, layers=1, dropout=0.0, input_dropout=0.0)
HISTORIES = [[0, 1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 0, 1, 2], [3, 5, 7, 9]]


def mender(seed: int = 0) -> MenderEmb:
    torch.manual_seed(seed)
    return MenderEmb(CATALOGUE, size=TINY).eval()


class Fixed(Recommender):
    """Answers items 5, 3 and 8 with probabilities 0.5, 0.3 and 0.2; row 1 gets none at all."""

    def loss(self, batch: HistoryBatch) -> torch.Tensor:
        return torch.zeros(())

    def recommend(
        self, batch: HistoryBatch, *, count: int, filters: Filters | None = None
    ) -> Recommendations:
        items = torch.tensor([5, 3, 8]).repeat(len(batch), 1)
        scores = torch.tensor([0.5, 0.3, 0.2]).log().repeat(len(batch), 1)
        items[1], scores[1] = -1, -torch.inf
        return Recommendations(items[:, :count], scores[:, :count])


def test_answers_are_drawn_as_often_as_their_scores_say_and_none_from_below_the_nucleus():
    batch = small_batch(CATALOGUE, rows=4000)
    torch.manual_seed(0)
    drawn = with_own_answers(Fixed(), batch, SelfSampling(top_p=0.7))
    kept = torch.cat([drawn.target_item_ids[:1, 0], drawn.target_item_ids[2:, 0]])
    assert set(kept.tolist()) == {5, 3}
    assert float((kept == 5).float().mean()) == pytest.approx(0.625, abs=0.03)
    everything = with_own_answers(Fixed(), batch, SelfSampling(top_p=1.0))
    assert set(everything.target_item_ids[2:, 0].tolist()) == {5, 3, 8}


def test_a_row_without_answers_has_no_target_and_nothing_else_changes():
    batch = small_batch(CATALOGUE, rows=3)
    drawn = with_own_answers(Fixed(), batch, SelfSampling())
    assert drawn.target_mask[:, 0].tolist() == [True, False, True]
    assert drawn.target_item_ids[1, 0].item() == 0
    assert torch.equal(drawn.history_item_ids, batch.history_item_ids)


def test_the_best_alone_is_kept_where_the_share_is_small_and_all_where_it_is_one():
    logits = torch.tensor([[0.6, 0.4], [0.9, 0.1]]).log()
    assert torch.equal(nucleus(logits, 0.01), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert torch.allclose(nucleus(logits, 1.0), logits.exp())
    assert nucleus(torch.tensor([[0.0, -torch.inf]]), 1.0).tolist() == [[1.0, 0.0]]


def contexts() -> TrainingContexts:
    random = np.random.default_rng(0)
    lengths = random.integers(2, 7, 20)
    users = np.repeat(np.arange(20), lengths)
    starts = np.repeat(np.concatenate([[0], lengths.cumsum()[:-1]]), lengths)
    every = np.zeros_like(users)
    items = random.integers(0, 60, len(users))
    histories = Histories(items, users, np.arange(len(users)) - starts, every, starts)
    return TrainingContexts(histories, histories.prefixes(("train",), maximum_history=5))


def test_what_people_chose_is_not_in_the_contexts():
    batch = contexts()(np.arange(7))
    assert not batch.target_item_ids.any()
    assert not batch.preference_mask.any()
    assert batch.history_mask.any(1).all()


@pytest.mark.parametrize("kind", ["mender", "tiger", "causal"])
def test_a_copy_draws_nearer_to_what_the_recommender_answers_anyway(kind: str):
    """Its own answers become likelier; the recommender itself stays as it is."""
    torch.manual_seed(0)
    made = {
        "mender": lambda: MenderEmb(CATALOGUE, size=TINY),
        "tiger": lambda: Tiger(CATALOGUE, size=TINY),
        "causal": lambda: CausalRetriever(CATALOGUE, size=CAUSAL),
    }[kind]().eval()
    before = copy.deepcopy(made.state_dict())
    settings = FineTuning(steps=6, batch_size=16, learning_rate=2e-3 if kind == "causal" else 1e-2)
    sampling = SelfSampling(top_p=0.3, candidates=8)
    negative = negative_recommender(made, contexts(), settings, sampling)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert not negative.training
    batch = with_own_answers(made, without_preferences(contexts()(np.arange(30))), sampling)
    with torch.no_grad():
        assert float(negative.loss(batch)) < float(made.loss(batch)) - 0.01


def test_the_copy_learns_as_in_training_from_a_reference_in_use(monkeypatch):
    modes = []
    answers, loss = MenderEmb.recommend, MenderEmb.loss
    monkeypatch.setattr(
        MenderEmb,
        "recommend",
        lambda s, *a, **k: (modes.append(s.training), answers(s, *a, **k))[1],
    )
    monkeypatch.setattr(MenderEmb, "loss", lambda s, *a: (modes.append(s.training), loss(s, *a))[1])
    settings = FineTuning(steps=1, batch_size=4)
    negative = negative_recommender(mender(), contexts(), settings, SelfSampling())
    assert modes == [False, True]
    assert not negative.training


def test_the_same_seed_makes_the_same_copy_and_another_one_another():
    torch.manual_seed(0)
    made = CausalRetriever(CATALOGUE, size=CAUSAL)
    one, same, other = (
        negative_recommender(
            made, contexts(), FineTuning(steps=2, batch_size=4, seed=seed), SelfSampling()
        ).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def _logits(decoder, batch: HistoryBatch) -> list[torch.Tensor]:
    """Logits of all levels along the best beam of the first."""
    state = decoder.prepare(batch)
    codes = parents = torch.zeros(len(batch), 1, dtype=torch.long)
    found = []
    for level in range(4):
        logits = decoder.step(state, level, codes, parents)
        found.append(logits)
        codes = torch.full_like(codes, level % 3)
    return found


def test_contrast_of_weight_one_is_the_decoder_and_of_zero_the_other_one():
    model, other = mender(0), mender(1)
    batch = small_batch(CATALOGUE, rows=4)
    with torch.no_grad():
        good, bad = _logits(model, batch), _logits(other, without_preferences(batch))
        for weight, expected in ((1.0, good), (0.0, bad)):
            found = _logits(ContrastiveDecoder(model, other, weight), batch)
            for one, same in zip(found, expected, strict=True):
                assert torch.equal(one, same)
        twice = _logits(ContrastiveDecoder(model, other, 2.5), batch)
    for one, g, b in zip(twice, good, bad, strict=True):
        assert torch.allclose(one, 2.5 * g - 1.5 * b, atol=1e-4)


def test_contrast_with_itself_is_classifier_free_guidance():
    model, batch = mender(), small_batch(CATALOGUE, rows=4)
    with torch.no_grad():
        contrast = _logits(ContrastiveDecoder(model, model, 3.0), batch)
        guided = _logits(GuidedDecoder(model, 3.0), batch)
    for one, other in zip(contrast, guided, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_guidance_of_weight_one_is_the_decoder_to_the_last_bit():
    model, batch = mender(), small_batch(CATALOGUE, rows=4)
    both = small_batch(CATALOGUE, rows=4)
    with torch.no_grad():
        guided = _logits(GuidedDecoder(model, 1.0), batch)
        doubled = _logits(GuidedDecoder(model, 1.0), both)
        plain = _logits(model, batch)
    for one, other, alone in zip(guided, doubled, plain, strict=True):
        assert torch.equal(one, other)
        assert torch.allclose(one, alone, atol=1e-5)  # the batch is twice as large


def test_a_search_finds_the_same_items_under_a_contrast_of_weight_one():
    model, other = mender(0), mender(1)
    batch = small_batch(CATALOGUE, rows=5)
    with torch.no_grad():
        plain = BeamSearch(6)(model, batch, model.trie, count=6)
        decoder = ContrastiveDecoder(model, other, 1.0)
        contrast = BeamSearch(6)(decoder, batch, model.trie, count=6)
    assert torch.equal(plain.item_ids, contrast.item_ids)
    assert torch.equal(plain.scores, contrast.scores)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A Tiger of twelve items with random weights, as a run would have written it."""
    folder = tmp_path_factory.mktemp("negative")
    codes = [[item % 3, item // 3] for item in range(ITEMS)]
    tables = write_tables(folder / "tables", HISTORIES, item_count=ITEMS)
    ids = write_semantic_ids(folder / "ids", codes, (3, 4))
    vectors = write_vectors(
        folder / "vectors", np.eye(ITEMS), list(range(ITEMS)), [f"thing {n}" for n in range(ITEMS)]
    )
    size = {"width": 8, "heads": 2, "head_width": 4, "feedforward": 8, "encoder_layers": 1,
            "decoder_layers": 1}  # fmt: skip
    catalogue = load_catalogue(tables, vectors, ids)
    chosen = {"class_path": "recsys.retriever.tiger.Tiger", "init_args": {"size": size}}
    return _write(folder / "tiger", chosen, catalogue, (tables, vectors, ids), size)


def _write(folder: Path, chosen: dict, catalogue, paths: tuple[Path, Path, Path], size) -> Path:
    from recsys.retriever.transformer import NetworkSize

    torch.manual_seed(0)
    model = Tiger(catalogue, size=NetworkSize(**size))
    data = dict(zip(("tables", "vectors", "semantic_ids"), map(str, paths), strict=True))
    with create_artifact(
        folder, kind=KIND, command="recsys fit", inputs={},
        configuration={"model": {"recommender": chosen}, "data": data},
    ) as writer:  # fmt: skip
        weights = {f"recommender.{name}": value.contiguous().clone()
                   for name, value in model.state_dict().items()}  # fmt: skip
        writer.path(WEIGHTS).write_bytes(save(weights))
        writer.write_json("catalogue", catalogue_sizes(catalogue))
    return folder


def test_the_command_writes_a_checkpoint_like_the_one_it_read(checkpoint: Path, tmp_path: Path):
    out = tmp_path / "negative"
    options = ["--checkpoint", str(checkpoint), "--out", str(out), "--steps", "3"]
    assert main(["negative", *options, "--device", "cpu", "--top-p", "0.5"]) == 0
    made, source = load_recommender(out), load_recommender(checkpoint)
    assert type(made.recommender) is type(source.recommender)
    assert any(
        not torch.equal(value, source.recommender.state_dict()[name])
        for name, value in made.recommender.state_dict().items()
    )
    manifest = read_artifact(out, kind=KIND).manifest
    assert manifest.inputs["checkpoint"] == read_artifact(checkpoint, kind=KIND).content_hash
    assert manifest.configuration["negative"] == {
        "checkpoint": str(checkpoint), "steps": 3, "batch_size": 128, "learning_rate": 2e-4,
        "seed": 0, "top_p": 0.5, "candidates": 50,
    }  # fmt: skip


def test_contexts_end_before_a_training_interaction(checkpoint: Path):
    made = TrainingContexts.of(load_recommender(checkpoint))
    table = read_artifact(load_recommender(checkpoint).paths["tables"], kind="reviews")
    train = table.table(INTERACTIONS).filter(split="train")
    assert len(made) == sum(len(history) - 3 for history in HISTORIES)
    assert len(made) == train.height - len(HISTORIES)
    assert made(np.array([0])).history_item_ids.tolist() == [[0]]


def test_a_recommender_without_weights_is_refused(checkpoint: Path, tmp_path: Path, capsys):
    chosen = {"class_path": "recsys.baselines.popularity.Popularity", "init_args": {}}
    source = read_artifact(checkpoint, kind=KIND)
    with create_artifact(
        tmp_path / "popular", kind=KIND, command="recsys fit", inputs={},
        configuration=dict(source.manifest.configuration) | {"model": {"recommender": chosen}},
    ) as writer:  # fmt: skip
        counts = {"recommender.counts": torch.zeros(ITEMS)}
        writer.path(WEIGHTS).write_bytes(save(counts))
        writer.write_json("catalogue", source.json("catalogue"))
    options = ["--checkpoint", str(tmp_path / "popular"), "--out", str(tmp_path / "out")]
    assert main(["negative", *options]) == 2
    assert "Popularity, which has no weights; make a negative copy" in capsys.readouterr().err


def test_tables_without_a_training_history_are_refused(checkpoint: Path, tmp_path: Path):
    tables = write_tables(tmp_path / "tables", [[0, 1], [2, 3]], item_count=ITEMS)
    loaded = load_recommender(checkpoint, tables=tables)
    with pytest.raises(InputError, match="has no training history to learn from"):
        TrainingContexts.of(loaded)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"top_p": 0.0}, "--top-p must be above 0 and at most 1, got 0"),
        ({"top_p": 1.5}, "--top-p must be above 0 and at most 1, got 1.5"),
        ({"candidates": 0}, "--candidates must be at least 1, got 0"),
    ],
)
def test_sampling_out_of_range_is_refused(option: dict, message: str):
    with pytest.raises(InputError, match=message):
        SelfSampling(**option)
