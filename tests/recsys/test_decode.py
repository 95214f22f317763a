"""The beam search beside exhaustive scoring, transformers' generate and uncached decoding."""

import dataclasses

import pytest
import torch
from transformers import GenerationConfig, T5ForConditionalGeneration

from recsys.recommender import Filters
from recsys.retriever.decode import BeamSearch, CodeDecoder, Scoring
from recsys.retriever.guidance import GuidedDecoder
from recsys.retriever.t5_weights import copy_t5_weights
from recsys.retriever.tiger import Tiger
from recsys.semantic_id.codec import BEGIN_TOKEN, SPECIAL_TOKENS
from recsys.semantic_id.trie import SemanticIdTrie
from tests.oracles.exhaustive_decoding import item_scores
from tests.recsys.retriever_fixtures import LEVEL_SIZES, TINY, rows_of, small_batch, small_catalogue
from tests.recsys.test_transformer import small_t5

SCORINGS: list[Scoring] = ["raw", "renormalized"]
VOCABULARY = SPECIAL_TOKENS + sum(LEVEL_SIZES)
pytestmark = pytest.mark.usefixtures("_no_gradients")


@pytest.fixture
def _no_gradients():
    with torch.no_grad():
        yield


def tiger(catalogue, **options) -> Tiger:
    torch.manual_seed(5)
    return Tiger(catalogue, size=TINY, **options).eval()


def assert_best(found, scores, count):
    """The found items are those of the highest scores, in order, nothing allowed left out."""
    expected, order = scores.topk(count)
    order = order.masked_fill(expected == -torch.inf, -1)
    assert torch.equal(found.item_ids, order)
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_wide_beam_equals_exhaustive_scoring(scoring):
    catalogue = small_catalogue(items=40)
    model, batch = tiger(catalogue), small_batch(catalogue)
    search = BeamSearch(width=40, scoring=scoring)
    found = search(model, batch, model.trie, count=40)
    assert_best(found, item_scores(model, batch, catalogue.item_codes, scoring=scoring), 40)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("exclude_history", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_filters_equal_exhaustive_scoring_of_what_is_allowed(scoring, exclude_history, listed):
    catalogue = small_catalogue(items=30)
    model, batch = tiger(catalogue), small_batch(catalogue, steps=9)
    allowed = torch.arange(30) % 3 != 1 if listed else None
    filters = Filters(exclude_history=exclude_history, allowed_items=allowed)
    sets = [
        {
            item
            for item in range(30)
            if (allowed is None or allowed[item])
            and not (exclude_history and item in history[mask])
        }
        for history, mask in zip(batch.history_item_ids, batch.history_mask, strict=True)
    ]
    found = BeamSearch(30, scoring)(model, batch, model.trie, count=30, filters=filters)
    scores = item_scores(model, batch, catalogue.item_codes, allowed=sets, scoring=scoring)
    assert_best(found, scores, 30)


def test_filtered_items_take_no_beam():
    # A beam as narrow as the count still finds as many items as are asked for.
    catalogue = small_catalogue(items=50)
    model, batch = tiger(catalogue), small_batch(catalogue, rows=6, steps=30)
    allowed = torch.arange(50) % 2 == 0
    filters = Filters(exclude_history=True, allowed_items=allowed)
    for count in (1, 3, 9):
        found = BeamSearch(1)(model, batch, model.trie, count=count, filters=filters)
        for row in range(6):
            items = found.item_ids[row].tolist()
            seen = set(batch.history_item_ids[row][batch.history_mask[row]].tolist())
            assert len(set(items)) == count
            assert not set(items) & seen
            assert all(item >= 0 and allowed[item] for item in items)


def test_fewer_allowed_than_asked_for():
    catalogue = small_catalogue(items=8)
    model, batch = tiger(catalogue), small_batch(catalogue)
    found = BeamSearch(5)(model, batch, model.trie, count=11)
    assert (found.item_ids[:, :8].sort(1).values == torch.arange(8)).all()
    assert (found.item_ids[:, 8:] == -1).all()
    assert (found.scores[:, 8:] == -torch.inf).all()
    nothing = Filters(allowed_items=torch.zeros(8, dtype=torch.bool))
    for scoring in SCORINGS:
        found = BeamSearch(5, scoring)(model, batch, model.trie, count=3, filters=nothing)
        assert (found.item_ids == -1).all()
        assert (found.scores == -torch.inf).all()


class TokenDecoder:
    """Our network with the whole vocabulary as every level's codes, as `generate` scores it."""

    def __init__(self, model: Tiger) -> None:
        self.model = model

    def prepare(self, batch):
        return self.model.prepare(batch)

    def step(self, state, level, codes, parents):
        embedding = self.model.decoder.embedding
        codes = codes if level else torch.full_like(codes, BEGIN_TOKEN)
        hidden = self.model.decoder.decoder.step(embedding(codes), state, parents)
        return (hidden * embedding.embedding_dim**-0.5) @ embedding.weight.T


def generated(t5: T5ForConditionalGeneration, model: Tiger, batch, *, beams, renormalize):
    """Items and scores from transformers' constrained beam search."""
    tokens = model.item_tokens
    by_tokens = {tuple(row): item for item, row in enumerate(tokens.tolist())}
    following = {}
    for row in by_tokens:
        for level in range(len(row)):
            following.setdefault(row[:level], set()).add(row[level])
    history = (tokens[batch.history_item_ids] * batch.history_mask.unsqueeze(-1)).flatten(1)
    mask = batch.history_mask.repeat_interleave(tokens.shape[1], 1)
    answer = t5.generate(  # pyright: ignore[reportAttributeAccessIssue]
        input_ids=history,
        attention_mask=mask.long(),
        prefix_allowed_tokens_fn=lambda _, path: sorted(following[tuple(path.tolist()[1:])]),
        generation_config=GenerationConfig(
            do_sample=False, num_beams=beams, num_return_sequences=beams, length_penalty=0.0,
            max_new_tokens=tokens.shape[1], min_new_tokens=tokens.shape[1], early_stopping=False,
            renormalize_logits=renormalize, output_scores=True, return_dict_in_generate=True,
            pad_token_id=0, decoder_start_token_id=BEGIN_TOKEN, use_cache=True,
        ),
    )  # fmt: skip
    items = [by_tokens[tuple(row[1:])] for row in answer.sequences.tolist()]
    shape = (len(batch), beams)
    return torch.tensor(items).reshape(shape), answer.sequences_scores.reshape(shape)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("beams", [3, 7])
def test_equals_generate_of_transformers(scoring, beams):
    catalogue = small_catalogue(items=60)
    # As many encoder as decoder layers: transformers sizes its cache by the encoder's.
    t5 = small_t5(
        vocab_size=VOCABULARY,
        num_layers=3,
        relative_attention_num_buckets=TINY.buckets,
        relative_attention_max_distance=TINY.max_distance,
    )
    model, batch = tiger(catalogue), small_batch(catalogue, rows=5)
    copy_t5_weights(t5, model.encoder, model.decoder)
    trie = SemanticIdTrie(model.item_tokens, (VOCABULARY,) * len(LEVEL_SIZES))
    found = BeamSearch(beams, scoring)(TokenDecoder(model), batch, trie, count=beams)
    items, scores = generated(t5, model, batch, beams=beams, renormalize=scoring == "renormalized")
    assert torch.equal(found.item_ids, items)
    torch.testing.assert_close(found.scores, scores, rtol=1e-4, atol=1e-4)
    if scoring == "renormalized":  # then codes of other levels count for nothing
        ours = BeamSearch(beams, scoring)(model, batch, model.trie, count=beams)
        assert torch.equal(ours.item_ids, items)
        torch.testing.assert_close(ours.scores, scores, rtol=1e-4, atol=1e-4)


class Uncached:
    """Decodes every beam's whole path anew at each level."""

    def __init__(self, model: Tiger) -> None:
        self.model = model

    def prepare(self, batch):
        return {"encoded": self.model.encode(batch), "paths": None}

    def step(self, state, level, codes, parents):
        if level == 0:
            state["paths"] = codes.new_zeros(*codes.shape, 0)
        else:
            row = torch.arange(len(codes)).unsqueeze(1)
            state["paths"] = torch.cat((state["paths"][row, parents], codes.unsqueeze(-1)), 2)
        decoder, paths = self.model.decoder, state["paths"]
        logits = []
        for beam in range(paths.shape[1]):
            tokens = decoder.started_tokens(paths[:, beam])
            hidden = decoder.decoder(decoder.embedding(tokens), decoder.prepare(*state["encoded"]))
            logits.append(decoder.level_logits(level, hidden[:, -1]))
        return torch.stack(logits, 1)


@pytest.mark.parametrize("width", [2, 6, 13])
def test_cached_equals_uncached(width):
    catalogue = small_catalogue()
    model, batch = tiger(catalogue), small_batch(catalogue)
    search = BeamSearch(width)
    cached = search(model, batch, model.trie, count=width)
    uncached = search(Uncached(model), batch, model.trie, count=width)
    assert torch.equal(cached.item_ids, uncached.item_ids)
    torch.testing.assert_close(cached.scores, uncached.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("filters", [None, Filters(exclude_history=True)])
def test_a_batch_equals_its_rows_and_padding_changes_nothing(filters):
    catalogue = small_catalogue()
    model, batch = tiger(catalogue), small_batch(catalogue, rows=4)
    together = model.recommend(batch, count=7, filters=filters)
    for row in range(4):
        single = rows_of(batch, slice(row, row + 1))
        steps = int(single.history_mask.sum())
        single = dataclasses.replace(
            single,
            history_item_ids=single.history_item_ids[:, :steps],
            history_mask=single.history_mask[:, :steps],
        )
        alone = model.recommend(single, count=7, filters=filters)
        assert torch.equal(alone.item_ids[0], together.item_ids[row])
        torch.testing.assert_close(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-4)


def test_wider_beams_never_score_worse():
    catalogue = small_catalogue()
    model, batch = tiger(catalogue), small_batch(catalogue, rows=5)
    scores = [
        BeamSearch(width)(model, batch, model.trie, count=2).scores.sum() for width in (2, 8, 60)
    ]
    assert scores[0] <= scores[1] + 1e-5 <= scores[2] + 2e-5


def test_weight_one_guidance_is_the_model_itself():
    catalogue = small_catalogue()
    model, batch = tiger(catalogue), small_batch(catalogue)
    plain = BeamSearch(6)(model, batch, model.trie, count=6)
    guided = BeamSearch(6)(GuidedDecoder(model, 1.0), batch, model.trie, count=6)
    assert torch.equal(plain.item_ids, guided.item_ids)


def test_the_protocol_is_what_models_implement():
    assert isinstance(tiger(small_catalogue()), CodeDecoder)


def test_no_width_below_one():
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        BeamSearch(0)


def test_an_item_met_twice_does_not_hide_its_sibling():
    catalogue = small_catalogue(items=4)
    codes = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0], [2, 0, 0, 0]])
    catalogue = dataclasses.replace(catalogue, item_codes=codes)
    batch = rows_of(small_batch(catalogue, steps=2), slice(1, 2))
    batch = dataclasses.replace(batch, history_item_ids=torch.zeros(1, 2, dtype=torch.long))
    model = tiger(catalogue)
    found = model.recommend(batch, count=3, filters=Filters(exclude_history=True))
    assert sorted(found.item_ids[0].tolist()) == [1, 2, 3]
