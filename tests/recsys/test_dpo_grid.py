"""The grid's own parts: lists, sizes, regimes and what it claims."""

import numpy as np
import torch

from benchmarks.methods import dpo_grid
from personalize.preference_optimization.tabular_policy import TabularPolicy
from personalize.preference_optimization.tunable import TRAINING
from tests.personalize.preference_optimization.toy_tunable import CHOICES, ToyTunable


def setting(half: ToyTunable, steps: int) -> dpo_grid.Setting:
    numbers = torch.as_tensor(half.contexts(TRAINING))
    lists = dpo_grid.listed(half, numbers, CHOICES, torch.Generator().manual_seed(0))
    return dpo_grid.Setting(lists, lists, {"test": lists}, CHOICES, torch.rand(CHOICES), steps, 0)


def test_what_was_chosen_is_never_put_beside_itself():
    half = ToyTunable(contexts=400)
    numbers = torch.as_tensor(half.contexts(TRAINING))
    lists = setting(half, 1).training
    assert torch.equal(lists.responses[:, :1], half.targets(numbers))
    assert (lists.responses[:, 1:] != lists.responses[:, :1]).all()
    assert lists.responses[:, 1:].unique().tolist() == list(range(CHOICES))
    some = dpo_grid.cut(lists, torch.tensor([3, 1]))
    assert torch.equal(some.responses, lists.responses[[3, 1]])
    assert torch.equal(some.contexts.numbers, half.batch(numbers[[3, 1]]).numbers)


def test_every_variant_ranks_its_own_lists_better_from_the_same_start():
    half = ToyTunable(contexts=200)
    shared = setting(half, 25)
    start = TabularPolicy(torch.zeros(8, CHOICES))
    lists = dpo_grid.with_reference(shared.training, start)
    shared = dpo_grid.replace(shared, training=lists)
    for name, variant in dpo_grid.variants().items():
        after = dpo_grid.tuned(shared, start, variant.objective, share=1.0, rate=0.15)
        found = dpo_grid.judged(shared, after, "test")
        right = (found.lists[:, :1] > found.lists[:, 1:]).mean()
        assert right > 0.7, name
    assert torch.equal(start.table, torch.zeros(8, CHOICES))


def test_gains_of_a_ranking_by_hand():
    half = ToyTunable()
    shared = setting(half, 1)
    table = torch.zeros(8, CHOICES)
    sure = TabularPolicy(table)
    found = dpo_grid.judged(shared, sure, "test")
    assert (found.ndcg == 1).all()  # nothing is strictly likelier
    targets = shared.held_out["test"].responses[:, 0]
    half_rank = TabularPolicy(table - torch.arange(CHOICES))
    ndcg = dpo_grid.judged(shared, half_rank, "test").ndcg
    expected = np.where(targets < 10, 1 / np.log2(targets.numpy() + 2), 0)
    np.testing.assert_allclose(ndcg, expected, rtol=1e-6)


def test_claims_are_those_of_the_paper():
    low, high = np.zeros(50), np.full(50, 0.2)

    def so(ends):
        return {name: claim["so"] for name, claim in dpo_grid.claims(ends).items()}

    ends = {("fine-tuned", size, "DPO"): low for size in dpo_grid.SIZES}
    assert so(ends) == {"DPO is better on less": False}
    ends["fine-tuned", 0.01, "DPO"] = high
    assert so(ends) == {"DPO is better on less": True}
    for name in ("DPO", "KTO"):
        ends["base", 1.0, name], ends["fine-tuned", 1.0, name] = low, high
    assert so(ends)["DPO needs fine-tuning"] is True
    assert so(ends)["KTO can skip fine-tuning"] is False
    for name in ("DPO", "KTO"):
        ends["base", 1.0, name] = high
    assert so(ends)["DPO needs fine-tuning"] is False
    assert so(ends)["KTO can skip fine-tuning"] is True
