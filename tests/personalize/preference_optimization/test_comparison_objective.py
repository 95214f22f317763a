"""The objective of comparisons against sums by hand, and what tabular policies learn by it."""

import math
from dataclasses import replace

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from personalize.preference_optimization.auxiliary import (
    ImitateBest,
    PreferenceDegree,
    fit_parts,
    represented,
)
from personalize.preference_optimization.compared import ComparisonBatch
from personalize.preference_optimization.comparison_objective import (
    CompareObjective,
    ImitateObjective,
    mismatched_ratio,
)
from personalize.preference_optimization.contrasts import CPL, DPO
from personalize.preference_optimization.likelihood_contrasts import CPO, KTO
from personalize.preference_optimization.list_contrasts import OverPairs
from personalize.preference_optimization.objective import Objective
from personalize.preference_optimization.policy import Drawn, Policy, frozen_copy
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy


def compared(responses: list[list[int]], contexts: list[int] | None = None) -> ComparisonBatch:
    """Neutral comparisons of a tabular policy's responses."""
    chosen = torch.tensor(responses)
    rows = len(chosen)
    return ComparisonBatch(
        contexts=NumberedContexts(torch.tensor(contexts or [0] * rows)),
        responses=chosen,
        present=torch.ones_like(chosen, dtype=torch.bool),
        strength=torch.ones(rows, dtype=torch.float64),
        margin=torch.zeros(rows, dtype=torch.float64),
        weight=torch.ones(rows, dtype=torch.float64),
        grade=torch.zeros(chosen.shape, dtype=torch.float64),
        group=torch.zeros(rows, dtype=torch.long),
    )


def policy(*rows: list[float]) -> TabularPolicy:
    return TabularPolicy(torch.tensor(rows or [[0.0, 1.0, 2.0]], dtype=torch.float64))


def lost(x: float) -> float:
    return math.log(1 + math.exp(-x))


def test_the_loss_is_the_weighed_mean_and_parts_are_told():
    mine, reference = policy([0.0, 1.0, 2.0]), policy([0.0, 0.0, 0.0])
    batch = replace(compared([[2, 0], [0, 1]]), weight=torch.tensor([0.5, 3.0]).double())
    parts = CompareObjective(DPO(beta=1.0))(mine, frozen_copy(reference), batch)
    expected = (0.5 * lost(2) + 3 * lost(-1)) / 2
    assert parts["loss"].item() == pytest.approx(expected)
    assert parts["contrast"].item() == pytest.approx(expected)
    assert parts["implicit_accuracy"].item() == parts["ranking_accuracy"].item() == 0.5
    total = math.log(1 + math.e + math.e**2)
    assert parts["log_prob_best"].item() == pytest.approx((2 - total + 0 - total) / 2)
    assert parts["log_prob_other"].item() == pytest.approx((0 - total + 1 - total) / 2)
    assert parts["loss"].requires_grad
    assert not any(value.requires_grad for name, value in parts.items() if name != "loss")


def test_a_pair_may_gain_on_the_reference_and_still_be_ranked_wrong():
    mine, reference = policy([0.0, 1.0, 2.0]), policy([-5.0, 1.0, 2.0])
    parts = CompareObjective(DPO())(mine, reference, compared([[0, 1]]))
    assert parts["implicit_accuracy"].item() == 1
    assert parts["ranking_accuracy"].item() == 0


def test_absent_responses_are_not_counted():
    lists = compared([[2, 0, 1], [0, 1, 2]])
    there = torch.tensor([[True, True, True], [True, True, False]])
    parts = CompareObjective(OverPairs(CPL()))(policy(), None, replace(lists, present=there))
    assert parts["ranking_accuracy"].item() == pytest.approx(2 / 3)
    total = math.log(1 + math.e + math.e**2)
    assert parts["log_prob_other"].item() == pytest.approx((0 + 1 + 1) / 3 - total)


def test_a_weight_inside_is_a_factor_of_the_logit():
    batch = replace(compared([[2, 0], [2, 1]]), weight=torch.tensor([-1.5, 0.0]).double())
    inside = CompareObjective(CPL(beta=1.0, conservatism=1.0), weight_inside=True)
    mine = policy()
    loss = inside(mine, None, batch)["loss"]
    assert loss.item() == pytest.approx((lost(-3.0) + math.log(2)) / 2)
    loss.backward()
    assert mine.table.grad is not None
    assert mine.table.grad[0, 2] > 0  # pulled down against the label
    assert mine.table.grad[0, 1] == 0  # only the pair of weight 0 has it


def test_scores_of_the_reference_made_before_are_as_good():
    mine, reference = policy(), policy([0.3, -0.2, 0.1])
    batch = compared([[2, 0], [1, 0]])
    objective = CompareObjective(DPO())
    asked = objective(mine, reference, batch)["loss"]
    with torch.no_grad():
        known = reference.log_prob(batch.contexts, batch.responses).sum(-1)
    torch.testing.assert_close(
        objective(mine, None, replace(batch, reference=known))["loss"], asked
    )


def test_a_missing_reference_is_said():
    with pytest.raises(ValueError, match="DPO needs a reference; there is none"):
        CompareObjective(DPO())(policy(), None, compared([[2, 0]]))
    assert not CompareObjective(CPO()).uses_reference
    assert CompareObjective(CPO())(policy(), None, compared([[2, 0]]))["loss"].isfinite()


def test_contexts_may_vary_within_a_comparison():
    mine = policy([0.0, 1.0, 2.0], [5.0, 0.0, 0.0])
    batch = replace(compared([[1, 1]]), contexts=NumberedContexts(torch.tensor([0, 1])))
    loss = CompareObjective(CPL(beta=1.0, conservatism=1.0))(mine, None, batch)["loss"]
    logs = mine.table.detach().log_softmax(-1)[:, 1]
    assert loss.item() == pytest.approx(lost(float(logs[0] - logs[1])))


def test_a_configuration_may_choose_all_of_it():
    path = "personalize.preference_optimization."
    inner = {"class_path": path + "contrasts.CPL", "init_args": {"conservatism": 0.7}}
    outer = {"class_path": path + "list_contrasts.OverPairs", "init_args": {"contrast": inner}}
    term = {"class_path": path + "auxiliary.ImitateBest", "init_args": {"eta": 0.1}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    chosen = {
        "class_path": path + "comparison_objective.CompareObjective",
        "init_args": {"contrast": outer, "auxiliary": [term]},
    }
    found = parser.instantiate(parser.parse_object({"objective": chosen})).objective
    assert found.contrast == OverPairs(CPL(conservatism=0.7))
    assert not found.uses_reference
    assert isinstance(found.auxiliary[0], ImitateBest)


def test_mismatched_responses_are_those_of_the_next_comparison():
    mine = policy([0.0, 1.0, 2.0], [5.0, 0.0, 0.0])
    reference = policy([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    batch = compared([[2, 0], [1, 0]], [0, 1])
    there = torch.tensor([[True, True], [True, False]])
    ratio = (mine.table - mine.table.logsumexp(1, keepdim=True)).detach() + math.log(3)
    expected = (ratio[0, 1] + ratio[1, 2] + ratio[1, 0]) / 3  # the second's absent one is left out
    found = mismatched_ratio(mine, reference, replace(batch, present=there))
    torch.testing.assert_close(found, expected)
    swapped = replace(batch, contexts=NumberedContexts(torch.tensor([0, 1, 1, 0])))
    expected = (ratio[0, 1] + ratio[1, 0] + ratio[1, 2] + ratio[0, 0]) / 4
    torch.testing.assert_close(mismatched_ratio(mine, reference, swapped), expected)


def test_mismatched_responses_that_are_closed_elsewhere_are_left_out():
    mine = policy([0.0, 1.0, -math.inf], [5.0, 0.0, 0.0])
    reference = policy([0.0, 0.0, -math.inf], [0.0, 0.0, 0.0])
    found = mismatched_ratio(mine, reference, compared([[1, 0], [2, 0]], [0, 1]))
    assert found.isfinite()
    single = compared([[1, 0]])
    assert mismatched_ratio(mine, reference, single).item() == 0


def test_kto_learns_through_the_objective():
    mine = policy([0.0, 1.0, 2.0], [5.0, 0.0, 0.0])
    reference = frozen_copy(mine)
    batch = compared([[2, 0], [1, 0]], [0, 1])
    parts = CompareObjective(KTO())(mine, reference, batch)
    assert parts["loss"].item() == pytest.approx(0.5)
    known = replace(batch, reference=torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="need the reference itself, not only its scores"):
        CompareObjective(KTO())(mine, None, known)


def test_a_term_beside_the_contrast_is_added_and_told():
    batch = replace(compared([[2, 0], [1, 0]]), weight=torch.tensor([1.0, 3.0]).double())
    plain = CompareObjective(DPO())(policy(), policy(), batch)
    with_term = CompareObjective(DPO(), [ImitateBest(eta=0.5, beta=0.1)])(policy(), policy(), batch)
    total = math.log(1 + math.e + math.e**2)
    expected = 0.05 * (1 * (total - 2) + 3 * (total - 1)) / 2
    assert with_term["imitate_best"].item() == pytest.approx(expected)
    assert (with_term["loss"] - plain["loss"]).item() == pytest.approx(expected)
    none = CompareObjective(DPO(), [ImitateBest(eta=0.0)])(policy(), policy(), batch)
    torch.testing.assert_close(none["loss"], plain["loss"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ImitateBest(eta=-1.0), "eta must be 0 or more, got -1"),
        (lambda: ImitateBest(beta=0.0), "beta must be positive, got 0"),
        (lambda: PreferenceDegree(1), "degrees must be 2 or more, got 1"),
        (lambda: PreferenceDegree(2, gamma=0.0), "gamma must be positive, got 0"),
        (lambda: PreferenceDegree(2, speed=0.0), "speed must be positive, got 0"),
    ],
)
def test_terms_out_of_range_are_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


class Showing(Policy[NumberedContexts]):
    """A policy over the rows of a matrix, which shows its products with a row per context."""

    steps = 1

    def __init__(self, contexts: Tensor, responses: Tensor) -> None:
        super().__init__()
        self.contexts, self.rows = nn.Parameter(contexts), nn.Parameter(responses)

    def represented_width(self) -> int:
        return 3

    def represented(self, context: NumberedContexts, responses: Tensor) -> Tensor:
        return self.contexts[context.numbers][:, None] * self.rows[responses]

    def log_prob(self, context: NumberedContexts, responses: Tensor) -> Tensor:
        every = (self.contexts[context.numbers] @ self.rows.T).log_softmax(-1)
        return every.gather(1, responses)[..., None]

    def sample(self, context, count: int, *, seed: int, beam: bool = False) -> Drawn:
        raise NotImplementedError


def showing() -> Showing:
    generator = torch.Generator().manual_seed(2)
    return Showing(
        torch.randn(2, 3, generator=generator, dtype=torch.float64),
        torch.randn(5, 3, generator=generator, dtype=torch.float64),
    )


def test_the_degree_is_read_off_the_inside_by_how_far_grades_fall():
    mine, term = showing(), PreferenceDegree(3, gamma=0.5)
    objective = CompareObjective(OverPairs(CPL()), [term])
    fit_parts(objective, mine)
    objective.double()
    batch = replace(
        compared([[0, 1, 2], [3, 4, 0]], [0, 1]),
        grade=torch.tensor([[4.0, 3.0, -3.0], [1.0, 1.0, 0.0]]).double(),
        present=torch.tensor([[True, True, True], [True, True, False]]),
    )
    parts = objective(mine, None, batch)
    assert term.read is not None
    logs = [
        [(term.read(mine.represented(one, number)).log_softmax(-1))[0, 0] for number in numbers]
        for one, numbers in (
            (NumberedContexts(torch.tensor([0])), torch.tensor([[[0]], [[1]], [[2]]])),
            (NumberedContexts(torch.tensor([1])), torch.tensor([[[3]], [[4]]])),
        )
    ]
    expected = -(logs[0][0][0] + logs[0][1][1] + logs[0][2][2]) / 3
    expected = 0.5 * (expected - (logs[1][0][0] + logs[1][1][0]) / 2) / 2
    assert parts["preference_degree"].item() == pytest.approx(expected.item())
    (gradient,) = torch.autograd.grad(parts["loss"], term.read.weight)
    assert gradient.abs().sum() > 0


def test_a_faster_layer_says_the_same_at_first_and_moves_further():
    """Under Adam every weight moves by the rate, so what the layer says moves by speed times it."""
    batch = replace(compared([[0, 1], [3, 4]], [0, 1]), grade=torch.tensor([[1.0, 0.0]] * 2))
    said: dict[float, list[float]] = {}
    for speed in (1.0, 10.0):
        mine = showing().float()
        torch.manual_seed(0)
        objective = CompareObjective(CPL(), [PreferenceDegree(2, speed=speed)])
        fit_parts(objective, mine)
        optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
        for _ in range(2):
            parts = objective(mine, None, batch)
            said.setdefault(speed, []).append(float(parts["preference_degree"]))
            optimizer.zero_grad()
            parts["loss"].backward()
            optimizer.step()
    assert said[10.0][0] == pytest.approx(said[1.0][0], rel=1e-5)
    fell = {speed: first - second for speed, (first, second) in said.items()}
    assert fell[10.0] == pytest.approx(10 * fell[1.0], rel=0.1)


def test_what_is_shown_of_responses_follows_contexts_that_vary():
    mine = showing()
    batch = replace(
        compared([[0, 1, 4], [2, 3, 1]]),
        contexts=NumberedContexts(torch.tensor([0, 1, 0, 1, 0, 1])),
    )
    found = represented(mine, batch)
    torch.testing.assert_close(found[0, 1], mine.contexts[1] * mine.rows[1])
    torch.testing.assert_close(found[0, 2], mine.contexts[0] * mine.rows[4])
    torch.testing.assert_close(found[1, 1], mine.contexts[0] * mine.rows[3])


def test_a_policy_that_shows_nothing_has_no_degree():
    objective = CompareObjective(CPL(), [PreferenceDegree(2)])
    with pytest.raises(ValueError, match="TabularPolicy has no `represented` to read a degree off"):
        fit_parts(objective, policy())
    for one in (policy(), showing()):
        with pytest.raises(TypeError, match="must be fitted to a policy that shows its inside"):
            objective(one, None, compared([[0, 1]]))


def test_terms_are_trained_along_and_as_wide_as_the_policy_says():
    objective = CompareObjective(CPL(), [PreferenceDegree(2), ImitateBest()])
    fit_parts(objective, showing())
    assert [tuple(weight.shape) for weight in objective.parameters()] == [(2, 3), (2,)]


def test_imitation_is_the_likelihood_of_the_first_column():
    objective = ImitateObjective()
    assert objective.group_size == -1
    assert not objective.uses_reference
    mine = policy([0.0, 1.0, 2.0], [5.0, 0.0, 0.0])
    batch = replace(compared([[2, 0], [1, 0]], [0, 1]), weight=torch.tensor([1.0, 0.5]).double())
    logs = mine.table.detach().log_softmax(-1)
    expected = -(logs[0, 2] + 0.5 * logs[1, 1]) / 2
    parts = objective(mine, None, batch)
    torch.testing.assert_close(parts["loss"].detach(), expected)
    torch.testing.assert_close(parts["log_prob_best"], (logs[0, 2] + logs[1, 1]) / 2)
    first = {name: getattr(batch, name)[:, :1] for name in ("responses", "present", "grade")}
    alone = replace(batch, **first)
    torch.testing.assert_close(objective(mine, None, alone)["loss"].detach(), expected)
    each = replace(batch, contexts=NumberedContexts(torch.tensor([0, 0, 1, 1])))
    torch.testing.assert_close(objective(mine, None, each)["loss"].detach(), expected)


@pytest.mark.parametrize("seed", range(3))
def test_dpo_finds_the_policy_that_its_rewards_ask_for(seed: int):
    """With infinite data its minimum is `reference * exp(reward / beta)`."""
    generator = torch.Generator().manual_seed(seed)
    reward = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    start = TabularPolicy(torch.randn(2, 6, generator=generator, dtype=torch.float64))
    first, second = torch.triu_indices(6, 6, offset=1)
    contexts = torch.arange(2).repeat_interleave(len(first))
    one, other = first.repeat(2), second.repeat(2)
    gap = reward[contexts, one] - reward[contexts, other]
    best, worst = torch.where(gap > 0, one, other), torch.where(gap > 0, other, one)
    batch = replace(
        compared(torch.stack([best, worst], 1).tolist(), contexts.tolist()),
        strength=2 * gap.abs().sigmoid() - 1,
    )
    mine, reference, objective = start, frozen_copy(start), CompareObjective(DPO(beta=0.5))
    optimizer = torch.optim.LBFGS(mine.parameters(), max_iter=200, tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(mine, reference, batch)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    wanted = (reference.table + reward / 0.5).softmax(-1)
    distance = (mine.probabilities - wanted).abs().sum(-1) / 2
    assert distance.max().item() < 0.001  # the promise is 0.02
