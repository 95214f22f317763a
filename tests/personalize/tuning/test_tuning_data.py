"""Comparisons of rounds: drawn anew, and taken evenly where there are more or fewer."""

from dataclasses import replace

import torch

from personalize.preference_optimization.comparison_set import ComparisonSet
from personalize.tuning.data import TuningData
from tests.personalize.preference_optimization.toy_tunable import ToySource
from tests.personalize.tuning.toy_objectives import BestAgainstWorst


def data(**options) -> TuningData:
    return TuningData(ToySource(contexts=60), BestAgainstWorst(), batch_size=8, **options)


def test_a_round_draws_its_candidates_anew_and_the_held_out_ones_stay():
    made = data()
    made.build(made.policy, None)
    first, held_out = made.training, made.validation
    made.build(made.policy, None, number=1)
    assert made.validation is held_out
    responses = [
        part.batch(torch.arange(5), made.half).responses for part in (first, made.training)
    ]
    assert not torch.equal(*responses)
    made.build(made.policy, None)
    again = made.training.batch(torch.arange(5), made.half).responses
    assert torch.equal(again, responses[0])


def test_a_later_round_takes_as_many_steps_with_all_its_comparisons():
    made = data()
    made.build(made.policy, None)
    count = len(made.training)
    loader = made.train_dataloader()
    assert isinstance(made.training, ComparisonSet)
    fewer = made.training.compared.some(torch.arange(10))
    made.training = replace(made.training, compared=fewer)
    sizes, seen = [], set()
    wanted = {int(context) for context in made.training.context[fewer.rows[:, 0]]}
    for batch in loader:
        assert batch.numbers is not None
        sizes.append(len(batch))
        seen |= set(batch.numbers.tolist())
    assert sum(sizes) == count
    assert seen == wanted
