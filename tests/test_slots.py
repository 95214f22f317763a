"""Every variant of a slot obeys the slot's laws; variants are found by walking the folders."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeVar
from zlib import crc32

import numpy as np
import pytest
import torch

import personalize.conditioning
import recsys.semantic_id
from personalize.conditioning.attributes import Attributes
from personalize.conditioning.selection import PreferenceIndex, Question, SelectionPolicy
from personalize.conditioning.vector import Encoder
from personalize.preferences.record import Polarity, Preference
from recsys.semantic_id.imported import ImportedCodes
from recsys.semantic_id.quantizer import Quantizer
from recsys.semantic_id.residual_kmeans import ResidualKMeans
from recsys.semantic_id.rqvae import RqVae, RqVaeTraining

Slot = TypeVar("Slot")


def variants(package: ModuleType, slot: type[Slot]) -> list[type[Slot]]:
    """Every concrete class of a slot that a package's files define, by name."""
    found = set()
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, slot) and not inspect.isabstract(value):
                found.add(value)
    return sorted(found, key=lambda variant: variant.__name__)


# Quantizer

ITEMS, WIDTH = 60, 6
EMBEDDINGS = torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(0))
EMBEDDINGS[40:50] = EMBEDDINGS[30:40]
KNOWN_CODES = torch.randint(0, 5, (ITEMS, 2), generator=torch.Generator().manual_seed(1))


def fitted(variant: type[Quantizer], order: torch.Tensor | None = None) -> Quantizer:
    """A small quantizer of the kind, fitted to the embeddings in the order given."""
    order = torch.arange(ITEMS) if order is None else order
    if variant is ImportedCodes:
        model: Quantizer = ImportedCodes(KNOWN_CODES[order], (5, 5), width=WIDTH)
    elif variant is RqVae:
        settings = RqVaeTraining(steps=30, batch_size=16, restart_every=10)
        model = RqVae(WIDTH, levels=2, codes=7, hidden=(8,), latent=4, training=settings)
    else:
        model = variant(WIDTH, levels=2, codes=7)
    model.fit(EMBEDDINGS[order])
    return model


quantizers = pytest.mark.parametrize("variant", variants(recsys.semantic_id, Quantizer))


def test_all_quantizers_are_found():
    assert {ResidualKMeans, RqVae, ImportedCodes} <= set(variants(recsys.semantic_id, Quantizer))


@quantizers
def test_codes_lie_in_range(variant):
    model = fitted(variant)
    far = torch.cat([EMBEDDINGS, 100.0 * EMBEDDINGS, torch.zeros(1, WIDTH)])
    codes = model.assign(far)
    assert codes.shape == (2 * ITEMS + 1, len(model.level_sizes))
    assert bool((codes >= 0).all())
    assert bool((codes < torch.tensor(model.level_sizes)).all())
    assert model.reconstruct(codes).shape == far.shape


@quantizers
def test_fitting_twice_gives_the_same_codes(variant):
    model = fitted(variant)
    codes, weights = model.assign(EMBEDDINGS), model.state_dict()
    weights = {name: value.clone() for name, value in weights.items()}
    torch.rand(5)  # whatever torch's own seed has been used for
    for again in (model, fitted(variant)):
        again.fit(EMBEDDINGS)
        assert torch.equal(again.assign(EMBEDDINGS), codes)
        assert all(torch.equal(again.state_dict()[name], weights[name]) for name in weights)


@quantizers
def test_reordering_items_reorders_codes(variant):
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(2))
    codes = fitted(variant).assign(EMBEDDINGS)
    assert torch.equal(fitted(variant, order).assign(EMBEDDINGS[order]), codes[order])


@quantizers
def test_an_embedding_gets_the_same_codes_alone_and_among_others(variant):
    model = fitted(variant)
    codes = model.assign(EMBEDDINGS)
    for item in range(0, ITEMS, 7):
        assert torch.equal(model.assign(EMBEDDINGS[item : item + 1])[0], codes[item])
    assert model.assign(EMBEDDINGS[:0]).shape == (0, codes.shape[1])


@quantizers
def test_what_was_learnt_lies_in_the_state(variant):
    model, other = fitted(variant), fitted(variant)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.assign(EMBEDDINGS), model.assign(EMBEDDINGS))


@quantizers
def test_the_number_of_threads_changes_no_bit(variant):
    threads = torch.get_num_threads()
    states = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            states.append(fitted(variant).state_dict())
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# SelectionPolicy

policies = pytest.mark.parametrize("variant", variants(personalize.conditioning, SelectionPolicy))
TEXTS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)


def index_of(keep: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> PreferenceIndex:
    """Preferences of five subjects at six positions, or some of them."""
    random = np.random.default_rng(1)
    subjects, positions, number = (a.ravel() for a in np.mgrid[0:5, 0:6, 0:3])
    rows = np.ones(len(subjects), np.bool_) if keep is None else keep(subjects, positions)
    texts, avoid = random.integers(0, 8, len(subjects)), random.random(len(subjects)) < 0.3
    strength = np.float32(1.0) / (1.0 + number.astype(np.float32))
    return PreferenceIndex(
        subject_ids=subjects[rows],
        valid_from=positions[rows],
        text_ids=texts[rows],
        avoid=avoid[rows],
        strength=strength[rows],
    )


def questions(subjects: list[int], positions: list[int]) -> Question:
    """A question per subject, with vectors that differ by subject."""
    vectors = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)[subjects]
    return Question(np.array(subjects), np.array(positions), vectors, -vectors)


def same(left, right, rows=slice(None)):
    """Whether two selections agree."""
    return all(
        (getattr(left, name)[rows] == getattr(right, name)).all()
        for name in ("text_ids", "mask", "avoid", "strength")
    )


def test_all_policies_are_found():
    names = {v.__name__ for v in variants(personalize.conditioning, SelectionPolicy)}
    assert {"All", "Latest", "Nothing", "Oracle", "Retrieved"} <= names


@policies
@pytest.mark.parametrize("position", range(6))
def test_what_is_known_after_the_position_is_never_seen(variant, position):
    question = questions([0, 1, 2, 3, 4], [position] * 5)
    past = index_of(lambda _, valid_from: valid_from <= position)
    chosen = [
        variant().choose(i, question, text_vectors=TEXTS, count=4) for i in (index_of(), past)
    ]
    assert same(*chosen)


@policies
def test_a_text_is_chosen_once_and_strangers_get_nothing(variant):
    question = questions([0, 3, 8], [5, 2, 5])
    chosen = variant().choose(index_of(), question, text_vectors=TEXTS, count=20)
    for texts, mask in zip(chosen.text_ids, chosen.mask, strict=True):
        assert len(set(texts[mask])) == mask.sum()
        assert not mask[np.argmin(mask) :].any()  # real ones come first
    assert not chosen.mask[2].any()
    assert not chosen.text_ids[~chosen.mask].any()


@policies
def test_rows_do_not_influence_each_other(variant):
    question = questions([4, 0, 2, 2], [3, 5, 1, 4])
    together = variant().choose(index_of(), question, text_vectors=TEXTS, count=3)
    for row in range(4):
        alone = questions([int(question.subject_ids[row])], [int(question.positions[row])])
        one = variant().choose(index_of(), alone, text_vectors=TEXTS, count=3)
        assert same(together, one, slice(row, row + 1))


# Encoder


def some_vectors(texts: Sequence[str]) -> np.ndarray:
    """A vector per text that depends on nothing else."""
    seeds = [crc32(text.encode()) for text in texts]
    return np.stack([np.random.default_rng(seed).normal(size=4) for seed in seeds])


def encoder_of(variant: type[Encoder]) -> Encoder:
    """A small encoder of the kind."""
    if variant is Attributes:
        return Attributes(("size", "noise", "price"))
    return variant(text_vectors=some_vectors, text_width=4)  # type: ignore[call-arg]


def preference(
    text: str, aspect: str, polarity: Polarity, strength: float, confidence: float = 0.5
) -> Preference:
    """A preference of subject 0 at position 0."""
    return Preference(
        subject_id=0, valid_from=0, text=text, polarity=polarity, aspect=aspect, strength=strength,
        confidence=confidence, evidence=(), extractor="test", extractor_version="1",
    )  # fmt: skip


STATED = [
    preference("Likes small things", "size", "like", 0.3),
    preference("Avoids noise", "noise", "avoid", 0.7, 0.9),
    preference("Likes a small frame.", "size", "like", 0.1, 0.7),
    preference("Avoids small things", "size", "avoid", 0.3),
    preference("Likes silence", "noise", "like", 1 / 3, 1 / 7),
]
encoders = pytest.mark.parametrize("variant", variants(personalize.conditioning, Encoder))


def test_all_encoders_are_found():
    names = {v.__name__ for v in variants(personalize.conditioning, Encoder)}
    assert {"Attributes", "Mixture", "Statement"} <= names


@encoders
def test_the_order_of_preferences_is_irrelevant(variant):
    encoder = encoder_of(variant)
    expected = encoder.encode(STATED)
    assert len(expected.values) == encoder.width
    assert expected.mask.any()
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(STATED))
        found = encoder.encode([STATED[i] for i in order])
        assert found.values.tobytes() == expected.values.tobytes()
        assert (found.mask == expected.mask).all()


@encoders
def test_nothing_stated_is_masked(variant):
    found = encoder_of(variant).encode([])
    assert not found.mask.any()
    assert len(found.mask) == encoder_of(variant).width


@encoders
def test_a_preference_of_no_strength_is_as_good_as_none(variant):
    encoder = encoder_of(variant)
    idle = [
        preference("Likes blue", "price", "like", 0.0),
        preference("No", "x", "avoid", 1.0, 0.0),
    ]
    assert not encoder.encode(idle).mask.any()
    with_idle, without = encoder.encode([*STATED, *idle]), encoder.encode(STATED)
    assert with_idle.values.tobytes() == without.values.tobytes()
