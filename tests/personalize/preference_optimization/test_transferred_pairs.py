"""Comparisons carried to a task that is the same, turned round and shuffled."""

from dataclasses import replace

import pytest
import torch

from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.extremes import PairsByReward
from personalize.preference_optimization.label_transfer import Transfer
from personalize.preference_optimization.transferred_pairs import transferred_pairs

pytest.importorskip("ot")
COUNT = 10
SETTINGS = Transfer(starts=4)


def task(points: torch.Tensor, worth: torch.Tensor, *, contexts: int = 1) -> Candidates:
    """The same responses in so many contexts."""
    count = len(points)
    none = torch.zeros(count * contexts, dtype=torch.long)
    context = torch.arange(contexts).repeat_interleave(count)
    return Candidates(
        context=context,
        origin=context,
        response=torch.arange(count).repeat(contexts),
        responses=points,
        target=none.bool(),
        gate=~none.bool(),
        reward=worth.repeat(contexts)[:, None],
        names=("worth",),
        log_prob=none.float(),
        distance=none.float(),
        group=none + 3,
    )


def both() -> tuple[Candidates, Candidates]:
    """A task, and the same with its points turned, shuffled and a little moved."""
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(COUNT, 2, generator=generator) * torch.tensor([2.0, 1.0])
    worth = points[:, 0] + 0.3 * points[:, 1] ** 2
    order = torch.randperm(COUNT, generator=generator)
    turned = points @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    noise = 0.02 * torch.randn(COUNT, 2, generator=generator)
    return task(points, worth), task((turned + noise)[order], worth[order], contexts=2)


def right(found: ComparedRows, target: Candidates) -> float:
    pairs = found.pairs()
    worth = target.named("worth")
    return float((worth[pairs.better] > worth[pairs.worse]).double().mean())


def test_labels_are_carried_to_every_context_of_the_target() -> None:
    source, target = both()
    labels = PairsByReward({"worth": 1.0}, per_context=99)(source)
    found = transferred_pairs(source, labels, target, settings=SETTINGS)
    assert right(found, target) > 0.95
    contexts = target.context[found.rows]
    assert (contexts[:, 0] == contexts[:, 1]).all()
    assert contexts.unique().tolist() == [0, 1]
    assert (found.annotator == 3).all()
    assert found.strength.min() > 0


def test_a_label_turned_round_carries_over_turned_round() -> None:
    source, target = both()
    labels = PairsByReward({"worth": 1.0}, per_context=99)(source)
    against = replace(labels, rows=labels.rows.flip(-1))
    assert right(transferred_pairs(source, against, target, settings=SETTINGS), target) < 0.05


def test_what_fails_a_gate_is_not_compared() -> None:
    source, target = both()
    labels = PairsByReward({"worth": 1.0}, per_context=99)(source)
    gate = torch.arange(2 * COUNT) % 5 != 0
    found = transferred_pairs(source, labels, replace(target, gate=gate), settings=SETTINGS)
    assert len(found)
    assert gate[found.rows].all()


def test_soft_labels_stay_softer_than_certain_ones() -> None:
    source, target = both()
    labels = PairsByReward({"worth": 1.0}, per_context=99)(source)
    soft = replace(labels, strength=torch.full((len(labels),), 0.4))
    certain, softer = (
        transferred_pairs(source, some, target, settings=SETTINGS).strength.mean()
        for some in (labels, soft)
    )
    torch.testing.assert_close(softer, 0.4 * certain, rtol=1e-3, atol=0)


def test_a_target_without_shape_is_left_out() -> None:
    source, target = both()
    labels = PairsByReward({"worth": 1.0}, per_context=99)(source)
    flat = replace(target, responses=torch.zeros(COUNT, 2))
    assert len(transferred_pairs(source, labels, flat, settings=SETTINGS)) == 0


def test_agreement_may_be_asked_for() -> None:
    source, target = both()
    labels = PairsByReward({"worth": 1.0}, per_context=99)(source)
    none = transferred_pairs(source, labels, target, settings=SETTINGS, least_agreement=1.0)
    assert len(none) == 0


def test_no_comparison_is_refused() -> None:
    source, target = both()
    labels = ComparedRows.of(torch.zeros(0, 2, dtype=torch.long), "none")
    with pytest.raises(ValueError, match="labels must hold at least one comparison"):
        transferred_pairs(source, labels, target)
