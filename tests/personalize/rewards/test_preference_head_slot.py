"""Every head of a preference model obeys the slot's laws; heads are found by walking the folder."""

import pytest
import torch

import personalize.rewards
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.group_heads import EnsembleHead, MixtureHead
from personalize.rewards.heads import AttributeHead, GaussianHead, ScalarHead, SkewSymmetricHead
from personalize.rewards.preference_model import (
    Encoded,
    FeatureEncoder,
    LayeredEncoder,
    PreferenceHead,
    PreferenceModel,
    Sizes,
)
from personalize.rewards.regret import RegretHead
from personalize.rewards.weight_adapter_head import WeightAdapterHead
from tests.personalize.rewards.logistic import Logistic
from tests.test_slots import variants

SIZES = Sizes(
    3,
    9,
    ("match", "novelty"),
    annotators=4,
    comparisons=6,
    response_names=tuple("abcdefghi"),
    response_scale=tuple(0.5 + place / 4 for place in range(9)),
)
OPTIONS = {
    "plain": {},
    "comparing": {"comparing": True},
    "scales": {"blocks": 2, "context_scales": True, "normalize": True},
    "regret": {"policies": 1},
    "partial return": {"policies": 1, "regret": False},
    "one for all": {"per_context": False},
}
BUILT = [
    (ScalarHead, "plain"),
    (AttributeHead, "plain"),
    (AttributeHead, "comparing"),
    (SkewSymmetricHead, "plain"),
    (SkewSymmetricHead, "scales"),
    (GaussianHead, "plain"),
    (MixtureHead, "plain"),
    (EnsembleHead, "plain"),
    (RegretHead, "regret"),
    (RegretHead, "partial return"),
    (WeightAdapterHead, "plain"),
    (WeightAdapterHead, "one for all"),
]
heads = pytest.mark.parametrize(
    ("variant", "options"), BUILT, ids=[f"{kind.__name__}-{name}" for kind, name in BUILT]
)


def built(variant: type[PreferenceHead], options: str) -> PreferenceModel:
    """A model with the head and weights that are not zero, in double precision."""
    torch.manual_seed(0)
    encoder = LayeredEncoder(SIZES, width=8)
    model = PreferenceModel(encoder, variant(SIZES, 8, **OPTIONS[options]))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model.double().eval()


def compared(places: int = 2) -> FeatureComparisons:
    """Six comparisons with no symmetry in them."""
    generator = torch.Generator().manual_seed(1)

    def some(*shape: int):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return FeatureComparisons(
        context=some(6, 1, 3).expand(-1, places, -1),
        response=some(6, places, 9),
        quality=some(6, places, 2),
        present=torch.ones(6, places, dtype=torch.bool),
        strength=torch.linspace(0.2, 1, 6).double(),
        margin=torch.zeros(6).double(),
        weight=torch.ones(6).double(),
        grade=torch.zeros(6, places).double(),
        annotator=torch.tensor([0, 1, 2, 3, 0, 1]),
        number=torch.arange(6),
    )


def encoded(model: PreferenceModel, batch: FeatureComparisons) -> Encoded:
    return model.encode(batch.context, batch.response)


def test_every_head_is_held_to_the_laws():
    assert set(variants(personalize.rewards, PreferenceHead)) == {kind for kind, _ in BUILT}


@pytest.mark.parametrize("variant", variants(personalize.rewards, FeatureEncoder))
def test_an_encoded_row_depends_on_that_row_alone(variant):
    encoder, batch = variant(SIZES).double(), compared()
    every = encoder(batch.context, batch.response)
    assert every.shape == (6, 2, encoder.width)
    alone = encoder(batch.context[2:3, 1:], batch.response[2:3, 1:])
    torch.testing.assert_close(alone[0, 0], every[2, 1])


@heads
def test_swapping_the_two_turns_the_logit_round(variant, options):
    model, batch = built(variant, options), compared()
    rows = encoded(model, batch)
    for who in (None, batch.annotator):
        there = model.head.compare(rows.place(0), rows.place(1), who)
        back = model.head.compare(rows.place(1), rows.place(0), who)
        assert there.shape == (6,)
        assert bool((there.abs() > 1e-3).all())
        torch.testing.assert_close(there, -back)
        same = model.head.compare(rows.place(0), rows.place(0), who)
        torch.testing.assert_close(same, torch.zeros_like(same))


@heads
def test_a_score_depends_on_its_row_alone(variant, options):
    model, batch = built(variant, options), compared()
    if not model.names:
        with pytest.raises(TypeError, match="only compares"):
            model.score(batch.context, batch.response)
        return
    every = model.score(batch.context, batch.response)
    assert every.shape == (6, 2, len(model.names))
    alone = model.score(batch.context[4:5, 1:], batch.response[4:5, 1:])
    torch.testing.assert_close(alone[0, 0], every[4, 1])
    shared = model.score(batch.context[:, 0], batch.response)
    torch.testing.assert_close(shared, every)


@heads
def test_permuting_comparisons_permutes_losses(variant, options):
    model, batch = built(variant, options), compared()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = FeatureComparisons(**{n: v[order] for n, v in vars(batch).items()})
    losses = model.head.loss(encoded(model, batch), batch, Logistic())
    assert losses.shape == (6,)
    assert bool(losses.isfinite().all())
    again = model.head.loss(encoded(model, mixed), mixed, Logistic())
    torch.testing.assert_close(again, losses[order])


@heads
def test_a_step_down_the_loss_raises_the_logit_of_who_judged(variant, options):
    if variant is AttributeHead:
        pytest.skip("attributes are learnt from qualities, not from who won")
    model, batch = built(variant, options), compared()
    first = FeatureComparisons(**{n: v[5:] for n, v in vars(batch).items()})
    before = model.logit(first).item()
    model.loss(first, Logistic()).backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight.sub_(1e-4 * weight.grad)
    assert model.logit(first).item() > before


@heads
def test_all_that_was_learnt_lies_in_the_state(variant, options):
    model, other, batch = built(variant, options), built(variant, options), compared()
    model.head.settle(encoded(model, batch), batch)
    model.head.settle(encoded(model, batch), batch)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.logit(batch), model.logit(batch))


@heads
def test_half_precision_of_magnitude_a_thousand_stays_finite(variant, options):
    model, batch = built(variant, options), compared()
    large = FeatureComparisons(
        **{**vars(batch), "response": 1e3 * batch.response, "quality": 1e3 * batch.quality}
    )
    loss = model.loss(large, Logistic())
    loss.backward()
    assert bool(loss.isfinite())
    grads = [w.grad for w in model.parameters() if w.grad is not None]
    assert grads
    assert all(bool(grad.isfinite().all()) for grad in grads)
