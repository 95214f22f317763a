"""Numbers worked by hand for the heads, and what each can say that the others cannot."""

import math
from typing import TypeVar

import pytest
import torch
from torch import nn

from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.rewards.bradley_terry import RewardTraining, train
from personalize.rewards.feature_comparisons import FeatureTable
from personalize.rewards.heads import AttributeHead, GaussianHead, ScalarHead, SkewSymmetricHead
from personalize.rewards.preference_model import (
    Encoded,
    LayeredEncoder,
    PlainFeatures,
    PreferenceHead,
    PreferenceModel,
    Sizes,
)
from tests.personalize.rewards.logistic import Logistic

SIZES = Sizes(1, 2, ("near", "new"))
Head = TypeVar("Head", bound=PreferenceHead)


def rows(values: list, context: list | None = None) -> Encoded:
    """Rows whose hidden vector is the response itself."""
    hidden = torch.tensor(values)
    told = torch.zeros(*hidden.shape[:-1], 1) if context is None else torch.tensor(context)
    return Encoded(hidden, told, hidden)


def with_weights(head: Head, weight: list[list[float]], bias: list[float]) -> Head:
    assert isinstance(head.layer, nn.Linear)
    head.layer.weight.data = torch.tensor(weight)
    head.layer.bias.data = torch.tensor(bias)
    return head


def pair(quality: list[list[float]], strength: float = 1.0):
    """One comparison of two rows of features 0."""
    table = FeatureTable(
        torch.zeros(2, 1), torch.zeros(2, 2), torch.tensor(quality), ("near", "new")
    )
    compared = ComparedRows.of(torch.tensor([[0, 1]]), "test", strength=torch.tensor([strength]))
    return table.compared(compared)


def two(first: list[float], second: list[float]) -> Encoded:
    """The rows of one comparison."""
    return rows([[first, second]])


def test_the_scalar_head_scores_and_is_pulled_to_the_centre():
    head = with_weights(ScalarHead(SIZES, 2, centring=0.01), [[1.0, 2.0]], [0.5])
    assert head.score(rows([[1.0, 1.0]])).item() == pytest.approx(3.5)
    assert head.compare(rows([[1.0, 1.0]]), rows([[0.0, 1.0]])).item() == pytest.approx(1.0)
    loss = head.loss(two([1.0, 1.0], [0.0, 1.0]), pair([[0.0, 0.0], [0.0, 0.0]]), Logistic())
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.0)) + 0.01 * (3.5 + 2.5) ** 2)


def test_attributes_are_regressed_row_by_row():
    head = with_weights(AttributeHead(SIZES, 2), [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    assert head.names == ("near", "new")
    loss = head.loss(two([1.0, 2.0], [3.0, 4.0]), pair([[1.0, 0.0], [0.0, 4.0]]), Logistic())
    assert loss.item() == pytest.approx((0 + 4 + 9 + 0) / 4)


def test_attributes_are_compared_each_by_its_own_order_whoever_won():
    head = AttributeHead(SIZES, 2, comparing=True)
    head = with_weights(head, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    judged = pair([[1.0, 0.0], [0.0, 7.0]])
    loss = head.loss(two([1.0, 2.0], [3.0, 4.0]), judged, Logistic())
    wrong, right = math.log1p(math.exp(2.0)), math.log1p(math.exp(-2.0))
    assert loss.item() == pytest.approx((wrong + right) / 2)
    tied = head.loss(two([1.0, 2.0], [1.0, 4.0]), pair([[5.0, 0.0], [5.0, 7.0]]), Logistic())
    assert tied.item() == pytest.approx((math.log(2) + right) / 2)


def test_attributes_need_names():
    with pytest.raises(ValueError, match="needs named qualities"):
        AttributeHead(Sizes(1, 2), 2)


def test_the_rotation_is_that_of_the_released_code():
    head = with_weights(SkewSymmetricHead(SIZES, 2), [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    logit = head.compare(rows([[2.0, 3.0]]), rows([[5.0, 7.0]]))
    assert logit.item() == pytest.approx((2 * 7 - 3 * 5) / 0.1)


def test_blocks_are_scaled_by_the_context_of_both():
    head = SkewSymmetricHead(SIZES, 4, blocks=2, temperature=1.0, context_scales=True)
    with_weights(head, torch.eye(4).tolist(), [0.0] * 4)
    assert head.scales is not None
    head.scales.weight.data = torch.tensor([[1.0], [0.0]])
    head.scales.bias.data = torch.tensor([0.0, 1.0])
    first = rows([[1.0, 2.0, 3.0, 4.0]], [[0.5]])
    second = rows([[5.0, 6.0, 7.0, 9.0]], [[2.0]])
    half, one, other = (math.log1p(math.exp(x)) for x in (0.5, 1.0, 2.0))
    expected = (half + other) / 2 * (1 * 6 - 2 * 5) + one * (3 * 9 - 4 * 7)
    assert head.compare(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_a_normalised_rotation_is_bounded():
    head = SkewSymmetricHead(SIZES, 2, normalize=True)
    with_weights(head, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    logit = head.compare(rows([[3.0, 0.0]]), rows([[0.0, 8.0]]))
    assert logit.item() == pytest.approx(10.0)


@pytest.mark.parametrize("options", [{"blocks": 0}, {"temperature": 0.0}])
def test_a_rotation_needs_blocks_and_a_temperature(options):
    with pytest.raises(ValueError, match="blocks must be 1 or more and temperature positive"):
        SkewSymmetricHead(SIZES, 2, **options)


def test_the_normal_law_is_less_sure_where_its_spread_is_larger():
    head = with_weights(GaussianHead(SIZES, 2), [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    sure = head.compare(rows([[1.0, -6.0]]), rows([[0.0, -6.0]])).item()
    unsure = head.compare(rows([[1.0, 1.0]]), rows([[0.0, 1.0]])).item()
    assert sure == pytest.approx(1.0, abs=1e-3)
    assert 0.2 < unsure < 0.5
    assert head.spread(rows([[1.0, 1.0]])).item() == pytest.approx(math.e)
    assert head.score(rows([[1.5, 1.0]])).item() == 1.5


def test_only_a_spread_that_vanishes_is_pulled_up():
    head = with_weights(GaussianHead(SIZES, 2), [[0.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    judged = pair([[0.0, 0.0], [0.0, 0.0]])
    far = head.loss(two([0.0, -3.0], [0.0, -5.0]), judged, Logistic())
    assert far.item() == pytest.approx(math.log(2) + 0.1 * (2 + 6) / 2, abs=1e-5)
    near = head.loss(two([0.0, 0.0], [0.0, 0.0]), judged, Logistic())
    assert near.item() == pytest.approx(math.log(2), abs=1e-6)


def test_a_head_without_a_spread_says_so():
    with pytest.raises(TypeError, match="ScalarHead does not know how sure it is"):
        ScalarHead(SIZES, 2).spread(rows([[1.0, 1.0]]))


def test_an_encoder_needs_a_layer():
    with pytest.raises(ValueError, match="layers must be 1 or more"):
        LayeredEncoder(SIZES, layers=0)


def fitted(head: str, winners: list[tuple[int, int]], arms: int) -> tuple[float, float]:
    """Loss and accuracy on the very comparisons, of a model with one row of features per arm."""
    table = FeatureTable.of(torch.zeros(arms, 1), torch.eye(arms))
    compared = ComparedRows.of(torch.tensor(winners), "test")
    sizes = Sizes(1, arms)

    def make() -> PreferenceModel:
        encoder = PlainFeatures(sizes)
        kinds = {"scalar": ScalarHead, "rotation": SkewSymmetricHead}
        return PreferenceModel(encoder, kinds[head](sizes, encoder.width))

    torch.manual_seed(0)
    model = make()
    settings = RewardTraining(steps=300, learning_rate=0.05, weight_decay=0.0)
    train(
        model,
        lambda drawn: model.loss(table.compared(compared, drawn), Logistic()),
        len(compared),
        settings,
    )
    with torch.no_grad():
        logit = model.logit(table.compared(compared))
    return (
        float(torch.nn.functional.softplus(-logit).mean()),
        float((logit > 0).float().mean()),
    )


CIRCLE = [(0, 1), (1, 2), (2, 0)]


def test_a_circle_of_three_has_no_score_but_a_rotation():
    loss, _ = fitted("scalar", CIRCLE, 3)
    assert loss == pytest.approx(math.log(2), abs=0.01)
    loss, accuracy = fitted("rotation", CIRCLE, 3)
    assert loss < 0.1
    assert accuracy == 1.0


def test_a_tournament_of_five_that_each_wins_twice_has_no_score_but_a_rotation():
    winners = [(arm, (arm + step) % 5) for arm in range(5) for step in (1, 2)]
    loss, _ = fitted("scalar", winners, 5)
    assert loss == pytest.approx(math.log(2), abs=0.01)
    loss, accuracy = fitted("rotation", winners, 5)
    assert loss < 0.1
    assert accuracy == 1.0


def test_a_rotation_also_orders_what_has_an_order():
    order = [(better, worse) for better in range(5) for worse in range(better + 1, 5)]
    for head in ("scalar", "rotation"):
        loss, accuracy = fitted(head, order, 5)
        assert accuracy == 1.0
        assert loss < 0.1


def test_the_win_matrix_and_the_temperature():
    sizes = Sizes(1, 2)
    model = PreferenceModel(PlainFeatures(sizes), SkewSymmetricHead(sizes, 3, temperature=1.0))
    with_weights(model.head, [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0])
    model.temperature.fill_(2.0)
    responses = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    wins = model.win_matrix(torch.zeros(1, 1), responses)[0].detach()
    up = 1 / (1 + math.exp(-0.5))
    expected = torch.tensor([[0.5, up, 0.5], [1 - up, 0.5, up], [0.5, 1 - up, 0.5]])
    torch.testing.assert_close(wins, expected)
    single = model.compare(torch.zeros(1, 1), responses[:, 0], responses[:, 1])
    assert single.item() == pytest.approx(0.5)


def test_rewards_have_mean_0_and_deviation_1_over_the_reference_rows():
    sizes = Sizes(1, 2, ("near", "new"))
    model = PreferenceModel(PlainFeatures(sizes), AttributeHead(sizes, 3))
    responses = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    model.standardize(torch.zeros(40, 1), responses)
    with torch.no_grad():
        found = model.reward(torch.zeros(40, 1), responses)
    torch.testing.assert_close(found.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(2))


def test_a_weight_multiplies_the_loss_of_its_comparison():
    sizes = Sizes(1, 2)
    model = PreferenceModel(PlainFeatures(sizes), ScalarHead(sizes, 3))
    batch = pair([[0.0, 0.0], [0.0, 0.0]])
    batch.weight.fill_(3.0)
    assert model.loss(batch, Logistic()).item() == pytest.approx(3 * math.log(2))
