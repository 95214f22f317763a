"""The mixture's groups and the ensemble's members."""

import math

import pytest
import torch

from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.rewards.bradley_terry import RewardTraining, train
from personalize.rewards.feature_comparisons import FeatureTable
from personalize.rewards.group_heads import EnsembleHead, MixtureHead
from personalize.rewards.preference_model import Encoded, PlainFeatures, PreferenceModel, Sizes
from tests.personalize.rewards.logistic import Logistic


def opposed(people: int = 9, each: int = 12):
    """Every third person dislikes the feature that the others like, without exception."""
    generator = torch.Generator().manual_seed(0)
    table = FeatureTable.of(torch.zeros(60, 1), torch.randn(60, 3, generator=generator))
    who = torch.arange(people).repeat_interleave(each)
    pairs = torch.stack([torch.randint(60, (len(who),), generator=generator)] * 2, 1)
    pairs[:, 1] = (pairs[:, 1] + 7) % 60
    likes = torch.where(who % 3 == 0, -1.0, 1.0)
    wins = likes * (table.response[pairs[:, 0], 0] - table.response[pairs[:, 1], 0]) > 0
    pairs = torch.where(wins[:, None], pairs, pairs.flip(1))
    return table, ComparedRows.of(pairs, "test", annotator=who)


def mixture(people: int = 9, **options) -> tuple[PreferenceModel, MixtureHead]:
    torch.manual_seed(1)
    sizes = Sizes(1, 3, annotators=people)
    head = MixtureHead(sizes, 4, **options)
    return PreferenceModel(PlainFeatures(sizes), head), head


def fit(model: PreferenceModel, table: FeatureTable, compared: ComparedRows, passes: int) -> None:
    every = table.compared(compared)
    for number in range(passes):
        train(
            model,
            lambda drawn: model.loss(table.compared(compared, drawn), Logistic()),
            len(compared),
            RewardTraining(steps=25, learning_rate=0.1, weight_decay=0.0, seed=number),
        )
        with torch.no_grad():
            model.head.settle(model.encode(every.context, every.response), every)


def test_people_of_one_taste_end_in_one_group():
    table, compared = opposed()
    model, head = mixture()
    assert head.group_of.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    fit(model, table, compared, 5)
    group = head.group_of
    assert len(group[0::3].unique()) == 1
    assert group[1] == group[2] != group[0]
    with torch.no_grad():
        right = model.logit(table.compared(compared)) > 0
    assert right.float().mean() > 0.97


def settled(weights: list[list[float]], compared: ComparedRows, table: FeatureTable, **options):
    """Groups after one settling under given weights."""
    model, head = mixture(**options)
    head.layer.weight.data = torch.tensor(weights)
    every = table.compared(compared)
    head.settle(model.encode(every.context, every.response), every)
    return head.group_of.tolist()


LIKES, DISLIKES = [0.0, 5.0, 0.0, 0.0], [0.0, -5.0, 0.0, 0.0]


def test_settling_waits_for_the_first_passes():
    table, compared = opposed()
    turned = [1, 0, 0] * 3
    assert settled([LIKES, DISLIKES], compared, table, first_passes=0) == turned
    assert settled([LIKES, DISLIKES], compared, table) == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_who_was_never_heard_is_in_the_largest_group():
    table, compared = opposed()
    heard = compared.some(compared.annotator < 7)
    assert settled([DISLIKES, LIKES], heard, table, first_passes=0) == [0, 1, 1, 0, 1, 1, 0, 1, 1]


def test_an_absent_place_says_nothing_of_anybody():
    table = FeatureTable.of(torch.zeros(3, 1), torch.tensor([[1.0], [0.0], [9.0]]).expand(-1, 3))
    told = torch.tensor([[True, True, False]])
    lists = ComparedRows.of(torch.tensor([[0, 1, 2]]), "test", present=told)
    assert settled([DISLIKES, LIKES], lists, table, people=2, first_passes=0)[0] == 1


def test_without_a_name_the_groups_vote():
    _, head = mixture(people=4, groups=2)
    head.layer.weight.data = torch.tensor([LIKES, DISLIKES])
    head.group_of.copy_(torch.tensor([0, 0, 0, 1]))
    first, second = (
        Encoded(torch.tensor([[0.0, x, 0.0, 0.0]]), torch.zeros(1, 1), torch.zeros(1, 3))
        for x in (2.0, 0.0)
    )
    said = head.compare(first, second).sigmoid().item()
    sure = 1 / (1 + math.exp(-10.0))
    assert said == pytest.approx(0.75 * sure + 0.25 * (1 - sure), abs=1e-4)
    of_last = head.compare(first, second, torch.tensor([3]))
    assert of_last.item() == pytest.approx(-10.0)


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_must_be_as_many_as_people_at_most(groups):
    with pytest.raises(ValueError, match="groups must lie between 1 and the 2 annotators"):
        MixtureHead(Sizes(1, 3, annotators=2), 4, groups=groups)


def ensemble(members: int = 3, comparisons: int = 2) -> EnsembleHead:
    return EnsembleHead(Sizes(1, 2, comparisons=comparisons), 3, members=members, width=0)


def test_an_ensemble_knows_mean_and_spread():
    head = ensemble()
    for weight, network in zip((1.0, 2.0, 6.0), head.networks, strict=True):
        network.weight.data = torch.tensor([[0.0, weight, 0.0]])
    row = Encoded(torch.zeros(1, 3), torch.zeros(1, 1), torch.tensor([[2.0, 5.0]]))
    assert head.score(row).item() == pytest.approx(6.0)
    assert head.spread(row).item() == pytest.approx(math.sqrt((16 + 4 + 36) / 2))


def test_every_member_counts_a_comparison_as_its_sample_says():
    head = ensemble(members=2, comparisons=2)
    assert head.counts.shape == (2, 2)
    head.counts.copy_(torch.tensor([[0.0, 3.0], [1.0, 1.0]]))
    for weight, network in zip((1.0, -1.0), head.networks, strict=True):
        network.weight.data = torch.tensor([[0.0, weight, 0.0]])
    table = FeatureTable.of(torch.zeros(2, 1), torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
    compared = ComparedRows.of(torch.tensor([[0, 1], [0, 1]]), "test")
    batch = table.compared(compared)
    rows = Encoded(torch.zeros(2, 2, 3), batch.context, batch.response)
    right, wrong = math.log1p(math.exp(-2.0)), math.log1p(math.exp(2.0))
    losses = head.loss(rows, batch, Logistic())
    assert losses.tolist() == pytest.approx([3 * wrong / 2, (right + wrong) / 2])


def test_samples_are_drawn_with_replacement():
    counts = ensemble(members=4, comparisons=20_000).counts
    assert counts.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (counts == 0).float().mean().item() == pytest.approx(math.exp(-1), abs=0.02)
    assert not torch.equal(counts[:, 0], counts[:, 1])


def test_one_member_has_no_spread():
    with pytest.raises(ValueError, match="members must be 2 or more"):
        ensemble(members=1)
