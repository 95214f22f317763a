"""The parts of a diagnosis by themselves: conditions, categories, circles, logs, and words."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from data_prep.errors import InputError
from personalize.diagnosis.conditions import conditions
from personalize.diagnosis.configuration import Diagnosis
from personalize.diagnosis.drift import drifts
from personalize.diagnosis.held_out import answered, held_out, some
from personalize.diagnosis.mass import FOUND, LOSER, WINNER, cycles, kinds_of_responses, mass
from personalize.diagnosis.measures import annotators, groups_of, named_runs, plain_numbers
from personalize.diagnosis.tuning_run import TuningRun, with_weights
from personalize.diagnosis.verdict import verdict
from personalize.evaluation.context_suite import context_suite
from personalize.preference_optimization.extremes import PairsByReward
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tabular_policy import TabularPolicy
from personalize.preference_optimization.target_pairs import TargetAgainstOthers
from personalize.preference_optimization.tunable import Evaluation, Judged
from personalize.report.words import MINUS
from tests.personalize.preference_optimization.toy_tunable import ToySource, ToyTunable

CPU = torch.device("cpu")


def options(**changes) -> Diagnosis:
    given = {"builder": PairsByReward({"match": 1.0}), "resamples": 100, "probes": 8}
    return Diagnosis(half=ToySource(), after=["run"], **{**given, **changes})


def table_of(policy: Policy) -> torch.Tensor:
    """A copy of the logits of a toy."""
    assert isinstance(policy, TabularPolicy)
    return policy.table.detach().clone()


def moved(policy: Policy, seed: int = 1) -> TabularPolicy:
    table = table_of(policy)
    noise = torch.randn(table.shape, generator=torch.Generator().manual_seed(seed))
    return TabularPolicy(table + noise)


def found_of(half: ToyTunable, **changes):
    return held_out(half, options(**changes), half.policy, CPU)


def test_scores_do_not_hang_on_the_size_of_pieces():
    half = ToyTunable()
    one, other = (found_of(half, rows_at_once=size) for size in (3, 64))
    np.testing.assert_array_equal(
        one.scores(half.policy, one.compared), other.scores(half.policy, other.compared)
    )


def test_every_pair_of_a_list_has_its_own_loser_and_scores():
    half = ToyTunable()
    found = found_of(half, builder=TargetAgainstOthers(negatives=3))
    assert found.compared.rows.shape[1] == 4
    after = moved(half.policy)
    scores = [found.scores(policy, found.compared) for policy in (after, half.policy)]
    pairs = found.pairs(*scores)
    winner, loser = (torch.as_tensor(rows) for rows in found.rows())
    candidates = found.candidates
    assert len(pairs) == int(found.compared.present[:, 1:].sum()) == len(set(loser.tolist()))
    np.testing.assert_array_equal(found.origins, candidates.origin[loser].numpy())
    kinds = half.kinds(candidates.context)
    for policy, (first, other) in (
        (after, (pairs.winner, pairs.loser)),
        (half.policy, (pairs.reference_winner, pairs.reference_loser)),
    ):
        table = table_of(policy).log_softmax(-1)[kinds, candidates.response].numpy()
        np.testing.assert_allclose(first, table[winner], atol=1e-5)
        np.testing.assert_allclose(other, table[loser], atol=1e-5)


def test_scores_with_noise_are_averaged_over_the_same_draws_for_every_policy():
    class Noisy(Policy):
        """A table whose scores move with the seed of its noise."""

        steps, draws_noise, seed = 1, True, 0

        def reseed(self, seed: int) -> None:
            self.seed = seed

        def log_prob(self, context, responses):
            return half.policy.log_prob(context, responses) + float(self.seed)

        def sample(self, context, count, *, seed, beam=False):
            return half.policy.sample(context, count, seed=seed, beam=beam)

    half = ToyTunable()
    found, noisy = found_of(half), Noisy()
    plain = found.scores(half.policy, found.compared)
    np.testing.assert_allclose(found.scores(noisy, found.compared), plain + 1.5, atol=1e-6)


class Knowing(ToyTunable):
    """A blank context is the same for a wish and its opposite."""

    def under_condition(self, contexts, condition):
        return contexts % self.count if condition == "none" else None


def test_conditions_of_a_half_that_knows_them():
    half = Knowing()
    found = found_of(half)
    margins = conditions(found, half.policy)
    assert set(margins) == {"true", "adversarial", "none"}
    np.testing.assert_allclose(margins["none"][:, 0], -margins["none"][:, 1], atol=1e-6)
    # By hand: the adversarial margin is the pair's score in the other context.
    rows = found.reversals.rows
    scores = {
        (int(context), int(response)): float(
            half.policy.log_prob(half.batch(context[None]), response[None, None]).sum().detach()
        )
        for context, response in zip(
            found.candidates.context[rows.flatten()],
            found.candidates.response[rows.flatten()],
            strict=True,
        )
    }
    for number in range(0, len(rows), 2):
        (first, loser), (second, _) = rows[number], rows[number + 1]
        there = int(found.candidates.context[second])
        winner, other = (int(found.candidates.response[row]) for row in (first, loser))
        expected = scores[there, winner] - scores[there, other]
        assert margins["adversarial"][number // 2, 0] == pytest.approx(expected, abs=1e-5)


class Guessing(ToyTunable):
    """Half of the origins are guessed right, of the others the opposite."""

    def __init__(self, right: int) -> None:
        super().__init__()
        self.right = right

    def under_condition(self, contexts, condition):
        if condition != "inferred":
            return None
        wrong = contexts % 2 >= self.right
        return torch.where(wrong, (contexts + self.count) % (2 * self.count), contexts)


@pytest.mark.parametrize("right", [0, 1, 2])
def test_what_is_inferred_is_as_good_as_the_guess(right):
    half = Guessing(right)
    found = found_of(half, contexts=20)
    policy = TabularPolicy(half.match + 0.3 * torch.randn(8, 12, generator=manual(3)))
    margins = conditions(found, policy)
    assert set(margins) == {"true", "adversarial", "inferred"}
    suite = context_suite(margins)
    told = {name: one.mean for name, one in suite.accuracy.items()}
    assert told["true"] > 0.8
    assert suite.inference_error is not None
    if right == 2:
        assert suite.inference_error.mean == 0
    elif right == 0:
        assert told["inferred"] == told["adversarial"]
        assert suite.use_of_context is not None
        assert suite.inference_error.mean == suite.use_of_context.mean
    else:
        origin = found.candidates.origin[found.reversals.rows[::2, 0]].numpy()
        guessed = np.where((origin % 2 < 1)[:, None], margins["true"], margins["adversarial"])
        np.testing.assert_allclose(margins["inferred"], guessed, atol=1e-6)


def manual(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_half_without_conditions_has_two():
    half = ToyTunable()
    assert set(conditions(found_of(half), half.policy)) == {"true", "adversarial"}


class Sorting(ToyTunable):
    category_names = ("even", "odd")

    def category(self, contexts, responses):
        return responses % 2


def test_categories_of_a_half_that_has_some():
    half = Sorting()
    found = found_of(half, answers=50)
    after = TabularPolicy(table_of(half.policy) + 20.0 * (torch.arange(12) % 2 == 0))
    answers = [answered(found, policy, half.policy) for policy in (half.policy, after)]
    first = drifts(found, answers, [0, 7])[0]
    assert first["axis"] == "category"
    assert first["steps"] == [0, 7]
    even = first["categories"][0]
    assert even["name"] == "even"
    assert even["first"] + even["change"]["mean"] == 1.0
    assert even["drifted"]
    winner, loser = (found.candidates.response[torch.as_tensor(rows)] for rows in found.rows())
    gap = ((winner % 2 == 0).double() - (loser % 2 == 0).double()).mean()
    assert even["value_gap"]["mean"] == pytest.approx(float(gap))
    assert answers[0].kl == pytest.approx(0)
    assert (answers[1].kl > 0.1).all()


def test_safety_gates_are_an_axis_where_an_answer_fails_one():
    half = ToyTunable()
    found = found_of(half, answers=50)
    rash = TabularPolicy(table_of(half.policy) + 20.0 * (torch.arange(12) % 4 == 3))
    answers = [answered(found, policy, half.policy) for policy in (half.policy, rash)]
    gates = next(one for one in drifts(found, answers, [0, 7]) if one["axis"] == "safety gates")
    fails, passes = gates["categories"]
    assert (fails["name"], passes["name"]) == ("fails a gate", "passes all")
    share = [1 - one.gate.mean() for one in answers]
    assert fails["first"] == pytest.approx(share[0])
    assert fails["change"]["mean"] == pytest.approx(share[1] - share[0])
    assert fails["change"]["low"] > 0
    passed = found.candidates.gate.numpy()
    winner, loser = (~passed[rows] for rows in found.rows())
    assert fails["value_gap"]["mean"] == pytest.approx(winner.mean() - loser.mean())
    safe = [replace(one, gate=np.ones_like(one.gate)) for one in answers]
    assert "safety gates" not in {one["axis"] for one in drifts(found, safe, [0, 7])}


def test_annotators_have_the_names_that_the_half_gives_them():
    class Named(ToyTunable):
        annotator_names = ("strict",)

    for half, names in (
        (ToyTunable(), {"number 0", "number 1"}),
        (Named(), {"strict", "number 1"}),
    ):
        found = found_of(half)
        scores = found.scores(half.policy, found.compared)
        told = annotators(found, found.pairs(scores, scores))
        assert told is not None
        assert {one["name"] for one in told["groups"]} == names


class Judges(ToyTunable):
    """Three judges that go round: each holds another third of the responses for best."""

    reward_names = ("a", "b", "c")

    def judge(self, contexts, responses):
        kinds = torch.stack([(responses + turn) % 3 for turn in range(3)], -1)
        return Judged(kinds.float(), torch.ones_like(responses, dtype=torch.bool))


def test_judges_in_a_circle_are_found_and_an_even_policy_gives_least_away():
    half = Judges(drawn=40)
    found = found_of(half, builder=PairsByReward({"a": 1.0}))
    even = TabularPolicy(torch.zeros(8, 12))
    one = TabularPolicy(torch.eye(12)[:1].expand(8, -1) * 50)
    said = cycles(found, even, one)
    assert said is not None
    assert said["cycle_rate"]["mean"] == 1.0  # ties aside, every decided triple is a circle
    assert said["certain_exploitability"]["mean"] == pytest.approx(1 / 6)
    assert said["exploitability_before"]["mean"] < said["exploitability_after"]["mean"]
    assert said["exploitability_after"]["high"] <= 1 / 6 + 1e-9
    assert said["exploitability_change"]["low"] > 0


def test_two_judges_cannot_go_round():
    half = ToyTunable()
    assert cycles(found_of(half), half.policy, half.policy) is None


def test_kinds_of_responses_and_their_mass():
    half = ToyTunable()
    found = found_of(half)
    after = moved(half.policy)
    kinds = kinds_of_responses(found, after)
    assert len(kinds) == len(found.probes) == 8
    for number, own in zip(found.probes.tolist(), kinds, strict=True):
        here = found.candidates.context[found.compared.rows[:, 0]] == number
        rows = found.compared.rows[here]
        winners = {(int(r),) for r in found.candidates.response[rows[:, 0]]}
        losers = {(int(r),) for r in found.candidates.response[rows[:, 1]]} - winners
        assert {key for key, kind in own.items() if kind == WINNER} == winners
        assert {key for key, kind in own.items() if kind == LOSER} == losers
        best = table_of(after)[half.kinds(torch.tensor(number))].topk(8).indices
        new = {(int(r),) for r in best} - winners - losers if own else set()
        assert {key for key, kind in own.items() if kind == FOUND} == new
    said = mass(found, half.policy, after)
    assert said is not None
    assert sum(one["mean"] for one in said.values()) == pytest.approx(0, abs=1e-6)
    still = mass(found, half.policy, half.policy)
    assert still is not None
    assert all(one["mean"] == pytest.approx(0) for one in still.values())


def test_a_policy_without_mass_is_not_asked_for_it():
    class Continuous(Policy):
        steps = 1

        def log_prob(self, context, responses):
            raise NotImplementedError

        def sample(self, context, count, *, seed, beam=False):
            raise NotImplementedError

    half = ToyTunable()
    assert mass(found_of(half), half.policy, Continuous()) is None


def test_some_contexts_are_drawn_in_order():
    drawn = some(np.arange(100), 10, 0)
    assert len(drawn.unique()) == 10
    assert drawn.tolist() == sorted(drawn.tolist())
    assert some(np.arange(5), 10, 0).tolist() == [0, 1, 2, 3, 4]


def test_groups_of_few_contexts_are_left_out_and_lower_may_be_better():
    names = ["a"] * 6 + ["b"] * 6 + ["c"] * 2
    old = np.array([1.0] * 6 + [2.0] * 6 + [9.0, np.nan])
    new = np.array([1.0] * 6 + [3.0] * 6 + [9.0, 9.0])
    before = Evaluation({"error": old}, "error", names, frozenset({"error"}))
    after = Evaluation({"error": new}, "error", names, frozenset({"error"}))
    said = groups_of(before, after, 100, 0)
    assert said is not None
    assert said["worst"] == "b"
    assert said["pays"] == ("b",)
    assert said["left_out"] == ["c"]
    few = Evaluation({"error": old[:7]}, "error", names[:7], frozenset({"error"}))
    assert groups_of(few, few, 100, 0) is None


def test_the_log_of_a_resumed_run_is_one(tmp_path):
    for version, lines in (("version_0", "0,0,3.0,\n0,1,2.0,5\n0,2,9.0,\n"),
                           ("version_10", "0,3,,6\n"), ("version_2", "0,2,1.5,\n")):  # fmt: skip
        (tmp_path / "metrics" / version).mkdir(parents=True)
        path = tmp_path / "metrics" / version / "metrics.csv"
        path.write_text("epoch,step,training_loss,validation_score\n" + lines)
    log = TuningRun(tmp_path, tmp_path).log()
    assert log["training_loss"].tolist() == [3.0, 2.0, 1.5]
    assert log["validation_score"].tolist() == [5.0, 6.0]
    assert set(log) == {"training_loss", "validation_score"}
    assert TuningRun(None, tmp_path).log() == {}


def test_beta_is_found_in_whatever_the_objective_is_made_of(tmp_path):
    contrast = {"class_path": "DPO", "init_args": {"beta": 0.3}}
    over = {"class_path": "OverPairs", "init_args": {"mean": True, "contrast": contrast}}
    for objective, beta in (
        ({"init_args": {"contrast": over}}, 0.3),
        ({"init_args": {"beta": 2}}, 2.0),
        ({"init_args": {"group_size": 8, "pipeline": None}}, None),
        ({"class_path": "Imitate"}, None),
    ):
        document = {"model": {"objective": objective}, "data": {"half": {"class_path": "Toy"}}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
        assert TuningRun(tmp_path, tmp_path).settings().get("beta") == beta


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [TuningRun(tmp_path / place / "run", tmp_path) for place in ("a", "b")]
    assert [name for name, _ in named_runs(runs)] == ["run", "run (2)"]


def test_weights_that_are_not_a_policys_or_do_not_fit_are_refused(tmp_path):
    policy = ToyTunable().policy
    with pytest.raises(InputError, match="holds no weights of a tuned policy"):
        with_weights(policy, {"table": torch.zeros(1)}, tmp_path)
    with pytest.raises(InputError, match="do not fit the TabularPolicy of the half"):
        with_weights(policy, {"policy.table": torch.zeros(1, 2)}, tmp_path)
    with pytest.raises(InputError, match="is no run of personalize tune"):
        TuningRun(None, tmp_path).settings()


def test_what_json_has_no_number_for_is_nothing():
    told = plain_numbers({"a": (1.0, float("inf")), "b": [np.float64(2)], "c": None})
    assert json.dumps(told) == '{"a": [1.0, null], "b": [2.0], "c": null}'


# Words


def interval(mean: float, low: float, high: float, rows: int = 9) -> dict:
    return {"mean": mean, "low": low, "high": high, "rows": rows}


def numbers_of(**changes) -> dict:
    sure = interval(0.5, 0.4, 0.6)
    measure = {"before": sure, "after": sure, "difference": interval(0.1, 0.05, 0.2),
               "contexts": 40, "verdict": "better", "lower_is_better": False}  # fmt: skip
    plain = {
        "evaluation": {"main": "ndcg", "measures": {"ndcg": measure}},
        "groups": None,
        "ranking": {"accuracy": sure, "reference_accuracy": sure, "implicit_accuracy": sure,
                    "errors_flipped": None, "successes_kept": None},
        "displacement": {"winner_change": interval(0.0, -0.1, 0.1), "winner_falls": sure,
                         "mass": None},
        "context": None, "cycles": None, "hacking": None, "drift": [], "health": [],
    }  # fmt: skip
    return {**plain, **changes}


def test_a_displaced_winner_is_said_with_where_the_mass_went():
    fall = {"winner_change": interval(-1.0, -1.2, -0.8), "winner_falls": interval(0.9, 0.8, 1.0),
            "mass": {"preferred": interval(-0.2, -0.3, -0.1), "elsewhere": interval(0.3, 0.2, 0.4)},
            }  # fmt: skip
    said = verdict(numbers_of(displacement=fall))[2]
    assert said.startswith("Likelihood is displaced")
    assert "90.0% of pairs; most of the mass goes to: elsewhere (+0.300)" in said


def test_an_implicit_accuracy_above_the_ranking_is_said():
    ranking = numbers_of()["ranking"] | {"implicit_accuracy": interval(1.0, 0.99, 1.0)}
    assert "not how many are right" in verdict(numbers_of(ranking=ranking))[1]
    assert "not how many are right" not in verdict(numbers_of())[1]


def test_groups_that_pay_and_a_gap_by_chance_are_said():
    groups = {"pays": ["b"], "worst": "b", "gap": interval(0.1, 0.0, 0.2), "gap_p_value": 0.5,
              "groups": [{"name": name, "change": interval(-0.2, -0.3, -0.1)} for name in "abc"],
              }  # fmt: skip
    said = verdict(numbers_of(groups=groups))[1]
    lost = "b (-0.2000, -0.3000 to -0.1000; 9 contexts)".replace("-", MINUS)
    assert said == f"One group loses in ndcg: {lost}."
    said = verdict(numbers_of(groups={**groups, "pays": ["b", "c"]}))[1]
    assert said.startswith(f"2 of 3 groups lose in ndcg: {lost}, c (")
    said = verdict(numbers_of(groups={**groups, "pays": []}))[1]
    assert said.endswith("a gap that chance alone makes as often.")
    said = verdict(numbers_of(groups={**groups, "pays": [], "gap_p_value": 0.01}))[1]
    assert said.endswith("more than chance makes.")


@pytest.mark.parametrize(
    ("over", "low", "ending"),
    [(True, 0.5, "the reward is hacked."), (False, 0.5, "which is not shown to fall."),
     (False, -0.5, "no reward hacking is shown.")],
)  # fmt: skip
def test_hacking_is_said_as_far_as_it_is_shown(over, low, ending):
    hacking = {"proxy": "p", "true": "t", "points": [{"gap": interval(1.0, low, 2.0)}],
               "fall": interval(-0.4, -0.6, -0.2), "peak_kl": 2.0,
               "over_optimised": over}  # fmt: skip
    said = verdict(numbers_of(hacking=hacking))[-1]
    assert said.startswith("p gains +1.00 deviations more than t")
    assert said.endswith(ending)


def test_worse_and_nothing_shown_are_said_so():
    evaluation = numbers_of()["evaluation"]
    for words, start in (("worse", "Worse: ndcg"), ("no difference shown", "No difference is")):
        evaluation["measures"]["ndcg"]["verdict"] = words
        assert verdict(numbers_of(evaluation=evaluation))[0].startswith(start)
    unmeasured = {"main": "ndcg", "measures": {"ndcg": {"contexts": 0, "verdict": "not measured"}}}
    assert "could not be measured" in verdict(numbers_of(evaluation=unmeasured))[0]


def test_what_is_paid_beside_the_main_measure_is_said_first():
    evaluation = numbers_of()["evaluation"]
    plain = evaluation["measures"]["ndcg"]
    evaluation["measures"] |= {
        "collisions": {**plain, "verdict": "worse", "difference": interval(0.04, 0.01, 0.07)},
        "comfort": {**plain, "verdict": "better"},
        "progress": {**plain, "verdict": "no difference shown"},
    }
    said = verdict(numbers_of(evaluation=evaluation))
    assert said[1:3] == ["Worse besides: collisions +0.0400.", "Better besides: comfort +0.1000."]


def suite_of(inferred: dict | None, error: dict | None) -> dict:
    sure = interval(0.6, 0.55, 0.65)
    told = {"accuracy": {"true": sure}, "reversal_rate": sure, "inference_error": error}
    if inferred is not None:
        told["accuracy"]["inferred"] = inferred
    return {"before": told, "after": told}


def test_what_inferring_loses_is_said_where_it_is_sure():
    half = interval(0.5, 0.5, 0.5)
    for inferred, error, said in (
        (None, None, None),
        (interval(0.52, 0.5, 0.55), interval(0.08, 0.04, 0.1),
         "Told what can be inferred in place of what was said, it is right in 52.0% of reversed "
         "pairs instead of 60.0%."),
        (interval(0.58, 0.5, 0.65), interval(0.02, -0.04, 0.1), None),
        (half, interval(0.1, 0.05, 0.15),
         "What can be inferred is the same on both sides, so it decides no reversal."),
    ):  # fmt: skip
        told = verdict(numbers_of(context=suite_of(inferred, error)))
        assert told[3].startswith("When what is preferred is reversed, 60.0% of rankings turn")
        assert told[4:] == ([] if said is None else [said])


def test_drift_of_several_axes_needs_more_to_be_said():
    category = {"name": "high", "change": interval(0.2, 0.1, 0.3)}
    axis = {"axis": "match", "p_value": 0.03, "total": 0.2, "noise": 0.1, "categories": [category]}
    said = verdict(numbers_of(drift=[axis]))[-1]
    assert said == (
        "Answers move most by match: 20.0% of them change their category (noise 10.0%), most of "
        'all "high", by +0.200.'
    )
    assert verdict(numbers_of(drift=[axis, axis]))[-1].startswith("Answers are not shown to move")


def test_what_is_ill_is_said_and_else_that_all_is_well():
    ill = {"sentence": "Clipping is too much.", "well": False}
    well = {"sentence": "Entropy is well.", "well": True}
    missing = {"sentence": "KL was not logged.", "well": None}
    assert verdict(numbers_of(health=[ill, well, missing]))[-1] == "Clipping is too much."
    said = verdict(numbers_of(health=[well, missing]))[-1]
    assert said == "The loop is well by all 1 checks that its log answers."
