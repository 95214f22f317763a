"""Weights per context, learnt from comparisons."""

import numpy as np
import pytest
import torch

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.contrasts import DPO
from personalize.rewards.feature_comparisons import FeatureComparisons, FeatureTable
from personalize.rewards.preference_model import Encoded, PlainFeatures, PreferenceModel, Sizes
from personalize.rewards.weight_adapter_head import WeightAdapterHead
from tests.personalize.rewards.adapter_layer import last_layer

NAMES, UNITS = ("match", "novelty", "price"), (0.5, 2.0, 30.0)
SIZES = Sizes(4, 3, response_names=NAMES, response_scale=UNITS)


def head(sizes: Sizes = SIZES, **options) -> WeightAdapterHead:
    torch.manual_seed(0)
    return WeightAdapterHead(sizes, 7, **options)


def rows(context: torch.Tensor, response: torch.Tensor) -> Encoded:
    return Encoded(torch.zeros(*context.shape[:-1], 7), context, response)


def test_at_the_start_the_score_is_the_mean_in_deviations_whatever_the_context():
    context = torch.randn(2, 5, 4)
    response = torch.tensor([1.0, -4.0, 90.0]).expand(2, 5, 3)
    found = head().score(rows(context, response))
    # in deviations 2, -2 and 3
    torch.testing.assert_close(found, torch.ones(2, 5, 1))


def test_a_score_by_hand():
    made = head(sharpness_rate=2.0)
    with torch.no_grad():
        last_layer(made).bias.copy_(torch.tensor([0.5, 0.2, 0.3]).log())
        made.adapter.log_sharpness.fill_(0.5)
    torch.testing.assert_close(made.weights(torch.randn(2, 4))[1], torch.tensor([0.5, 0.2, 0.3]))
    found = made.score(rows(torch.randn(1, 4), torch.tensor([[1.0, -4.0, 90.0]])))
    expected = np.exp(1.0) * (0.5 * 2 - 0.2 * 2 + 0.3 * 3)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_unit_of_a_reward_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(6, 4, generator=generator)
    response = torch.randn(6, 3, generator=generator)
    times = torch.tensor([100.0, 0.01, 7.0])
    units = tuple((torch.tensor(UNITS) * times).tolist())
    one, other = head(), head(Sizes(4, 3, response_names=NAMES, response_scale=units))
    for made in (one, other):
        with torch.no_grad():
            last_layer(made).weight.copy_(torch.linspace(-1, 1, 3 * 64).view(3, 64))
    torch.testing.assert_close(
        one.score(rows(context, response)), other.score(rows(context, response * times))
    )


def test_weights_read_the_context_unless_told_not_to():
    context = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    for per_context in (True, False):
        made = head(per_context=per_context)
        torch.nn.init.normal_(last_layer(made).weight)
        found = made.weights(context).detach()
        torch.testing.assert_close(found.sum(-1), torch.ones(5))
        assert (found.std(0).amax().item() > 1e-3) is per_context


def test_what_has_no_names_is_refused():
    for sizes in (Sizes(4, 3), Sizes(4, 3, response_names=NAMES)):
        with pytest.raises(ValueError, match="put JudgedFeaturesSource around the half"):
            WeightAdapterHead(sizes, 7)
    with pytest.raises(ValueError, match="sharpness_rate must be positive, got 0"):
        head(sharpness_rate=0.0)


def planted(seed: int, count: int = 3000) -> tuple[FeatureComparisons, torch.Tensor]:
    """Choices of two by people for whom, as the context says, either match or novelty counts.

    Price never does. Weights are those in deviations, and choices are not certain.
    """
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(count, 4, generator=generator)
    turned = 3 * (context[:, 0] - context[:, 2])
    weights = torch.stack([turned, -turned, torch.full_like(turned, -4.0)], -1).softmax(-1)
    scaled = torch.randn(count, 2, 3, generator=generator)
    utility = 4 * (scaled * weights[:, None]).sum(-1)
    noise = torch.rand(count, 2, generator=generator).clamp(1e-6, 1 - 1e-6)
    first = (utility - (-noise.log()).log()).argmax(-1)
    numbers = torch.arange(2 * count).view(count, 2)
    ordered = torch.where(first[:, None] == 0, numbers, numbers.flip(-1))
    level = torch.tensor([0.0, -3.0, 1000.0])
    response = (scaled * torch.tensor(UNITS) + level).flatten(0, 1)
    table = FeatureTable.of(context.repeat_interleave(2, 0), response)
    return table.compared(ComparedRows.of(ordered, "planted")), weights


def fitted(learnt: FeatureComparisons, *, per_context: bool) -> PreferenceModel:
    torch.manual_seed(0)
    model = PreferenceModel(PlainFeatures(SIZES), head(per_context=per_context))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)
    contrast = DPO(beta=1.0)
    for _ in range(300):
        some = torch.randint(len(learnt), (256,), generator=generator)
        batch = FeatureComparisons(**{name: value[some] for name, value in vars(learnt).items()})
        optimizer.zero_grad()
        model.loss(batch, contrast).backward()
        optimizer.step()
    return model.eval()


def test_opposed_weights_are_found_and_predict_what_one_set_of_weights_cannot():
    learnt, _ = planted(1)
    other, true = planted(2, 2000)
    models = [fitted(learnt, per_context=chosen) for chosen in (True, False)]
    with torch.no_grad():
        right = [(model.logit(other) > 0).double().numpy() for model in models]
    lead = bootstrap_interval(right[0] - right[1], resamples=500)
    assert lead.low > 0.1
    assert right[0].mean() > 0.75
    head_of = models[0].head
    assert isinstance(head_of, WeightAdapterHead)
    found = head_of.weights(other.context[:, 0]).detach()
    assert float((found - true).abs().mean()) < 0.06
    assert float(found[:, 2].mean()) < 0.05
    sharpness = (10 * head_of.adapter.log_sharpness).exp().item()
    assert 3 < sharpness < 5.5
