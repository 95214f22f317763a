"""The evaluation finds what a closed-form half is known to do."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from data_prep.errors import InputError
from personalize.evaluation.steerable import REPORTED, TUNING, Outcome
from personalize.report.markup import Markup
from personalize.steerability import page_effects
from personalize.steerability.chains import evaluated_chains
from personalize.steerability.configuration import NamedChain, Steerability
from personalize.steerability.metrics import all_metrics, rows_of
from personalize.steerability.run import Asking, questions, spent
from personalize.steerability.tables import ROWS
from personalize.steering.chain import Chain, Lookahead, Telling
from personalize.steering.particles import ParticleSteering
from tests.personalize.steerability.toy_half import LEAK, Toy, ToySource

CHAINS = {
    "none": NamedChain(),
    "told": NamedChain(Chain(telling=Telling(1.0))),
    "half": NamedChain(Chain(telling=Telling(0.5))),
    "leaky": NamedChain(Chain(lookahead=Lookahead(1.0))),
    "tuned": NamedChain(tune={"lookahead.strength": [0.25, 0.5, 1.0, 1.5]}),
    "costly": NamedChain(
        Chain(telling=Telling(0.5), particles=ParticleSteering(1)), spend="particles.count"
    ),
}
SMALL = {"contexts": 24, "goals": 12, "tuning_contexts": 16, "tuning_goals": 8, "resamples": 200}


def options(**changed) -> Steerability:
    given = {"chains": CHAINS, "source": ToySource(), "largest_quality_loss": 0.2, **SMALL}
    return Steerability(**(given | changed))


def metrics_of(half: Toy | None = None, **changed) -> dict:
    asking = Asking(half or Toy(), options(**changed))
    asked = questions(asking)
    return all_metrics(asking, asked, evaluated_chains(asking, asked), {})


@pytest.fixture(scope="module")
def metrics() -> dict:
    return metrics_of(generator_calls=21.0)


def chain(metrics: dict, name: str) -> dict:
    return next(found for found in metrics["chains"] if found["chain"] == name)


def value(metrics: dict, name: str, measure: str) -> float:
    return chain(metrics, name)[measure]["value"]


@pytest.mark.parametrize(
    ("name", "gain", "miscalibration", "side_effects"),
    [("none", 0, 1, 0), ("told", 1, 0, 0), ("half", 0.5, 0.5, 0), ("costly", 0.5, 0.5, 0)],
)
def test_gains_are_those_of_the_closed_form(metrics, name, gain, miscalibration, side_effects):
    assert value(metrics, name, "gain") == pytest.approx(gain, abs=1e-5)
    assert value(metrics, name, "miscalibration") == pytest.approx(miscalibration, abs=1e-5)
    assert value(metrics, name, "side_effects") == pytest.approx(side_effects, abs=1e-4)


def test_the_leak_is_in_the_response_matrix_and_nowhere_else(metrics):
    found = chain(metrics, "leaky")["response"]
    assert found["dimensions"] == ["speed", "comfort", "gap"]
    matrix = [[cell["value"] for cell in row] for row in found["cells"]]
    expected = [[1, LEAK, 0], [0, 1, 0], [0, 0, 1]]
    assert np.array(matrix) == pytest.approx(np.array(expected), abs=0.02)  # clipped at the ends
    assert found["side_to_target"] == pytest.approx(LEAK / np.sqrt(3), abs=0.02)
    assert value(metrics, "leaky", "side_effects") > 0.05


def test_who_does_nothing_is_not_the_best_for_having_no_side_effects(metrics):
    none = chain(metrics, "none")
    assert none["side_effects"]["value"] == 0
    assert none["moved"]["value"] == 0
    assert value(metrics, "leaky", "side_effects") > 0
    assert none["steering_error"] == none["asked"]
    assert none["approach"]["value"] == 0
    assert metrics["best"] != "none"


def test_dimensions_that_rank_alike_or_have_no_room_are_dropped_and_said(metrics):
    dropped = {d["name"]: d["dropped"] for d in metrics["goal_space"]["dimensions"]}
    assert dropped["speed"] is dropped["comfort"] is dropped["gap"] is None
    assert dropped["speed in km/h"].startswith("ranks unsteered outputs as speed does")
    assert dropped["colour"] == "its limits are equal, or not known"


def test_the_strength_is_the_best_allowed_on_tuning_contexts(metrics):
    found = chain(metrics, "tuned")
    errors = [trial["steering_error"]["value"] for trial in found["trials"]]
    losses = [-trial["quality"]["score"]["change"]["value"] for trial in found["trials"]]
    assert errors[2] == min(errors)
    assert losses[1] < 0.2 < losses[2]
    assert found["chosen"] == 1
    assert found["settings"] == {"lookahead.strength": 0.5}


class Watched(Toy):
    """Remembers which contexts were asked at which strength."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def generate(self, contexts, goals, chain, *, seed=0):
        strength = None if chain is None else chain.lookahead.strength
        self.seen.setdefault(strength, set()).update(contexts.tolist())
        return super().generate(contexts, goals, chain, seed=seed)


def test_strengths_are_tried_on_tuning_contexts_and_only_the_taken_one_on_others():
    half = Watched()
    metrics_of(half, chains={"tuned": CHAINS["tuned"]})
    tuning, reported = (set(half.contexts(split).tolist()) for split in (TUNING, REPORTED))
    for strength in (0.25, 1.0, 1.5):
        assert half.seen[strength] <= tuning
    assert half.seen[0.5] & reported
    assert len(half.seen[0.5] & reported) == 24


def test_the_best_chain_keeps_its_bounds(metrics):
    losses = {name: -chain(metrics, name)["quality"]["score"]["change"]["low"] for name in CHAINS}
    errors = {name: value(metrics, name, "steering_error") for name in CHAINS}
    allowed = [name for name in CHAINS if losses[name] <= 0.2]
    assert sorted(allowed) == ["costly", "half", "none", "tuned"]
    assert metrics["best"] == min(allowed, key=errors.__getitem__)
    few = {name: CHAINS[name] for name in ("none", "told", "half")}
    assert metrics_of(largest_quality_loss=2.0, chains=few)["best"] == "told"
    assert metrics_of(largest_quality_loss=0.0, chains=few)["best"] == "none"


def test_what_costs_too_many_calls_is_not_the_best():
    found = metrics_of(generator_calls=3.0, chains={n: CHAINS[n] for n in ("none", "costly")})
    assert chain(found, "costly")["generator_calls"] == 5.0  # one particle is the least
    assert found["best"] == "none"
    assert any("costly comes nearer" in said and "takes 5 gen" in said for said in found["verdict"])


def test_a_count_is_raised_until_the_calls_are_equal(metrics):
    assert chain(metrics, "costly")["generator_calls"] == 21.0
    assert chain(metrics, "costly")["settings"]["particles.count"] == 9
    asking = Asking(Toy(), options(generator_calls=40.0))
    tuning = questions(asking).tuning
    near = spent(asking, tuning, CHAINS["costly"].chain, "particles.count", "costly")
    assert near.particles is not None
    assert near.particles.count in (18, 19)  # 39 or 41 calls
    fours = Chain(particles=ParticleSteering(4))
    near = spent(asking, tuning, fours, "particles.count", "costly")
    assert near.particles is not None
    assert near.particles.count == 20  # 43 calls; 16 would be 35


def test_where_calls_jump_the_nearest_count_that_was_looked_at_is_taken():
    class Jumping(Toy):
        """From four particles on, a hundred calls."""

        def generate(self, contexts, goals, chain, *, seed=0):
            found = super().generate(contexts, goals, chain, seed=seed)
            few = chain is None or chain.particles is None or chain.particles.count < 4
            return replace(found, generator_calls=5.0 if few else 100.0)

    asking = Asking(Jumping(), options(generator_calls=21.0))
    tuning = questions(asking).tuning
    near = spent(asking, tuning, CHAINS["costly"].chain, "particles.count", "costly")
    assert near.particles is not None
    assert near.particles.count < 4


def test_quality_is_compared_on_the_rows_that_have_it(metrics):
    found = chain(metrics, "half")["quality"]
    assert found["score"]["left_out"] == 0
    assert found["rare"]["left_out"] > 0
    assert found["score"]["change"]["value"] == pytest.approx(
        found["score"]["after"]["value"] - found["score"]["before"]["value"]
    )


def test_before_is_of_the_rows_that_have_a_quality_after_too():
    class Losing(Toy):
        """Steered, rows far along in speed have no score; before, scores differ by context."""

        def generate(self, contexts, goals, chain, *, seed=0):
            found = super().generate(contexts, goals, chain, seed=seed)
            odd = np.array(contexts) % 2 == 1
            score = np.where(odd, 0.2, found.quality["score"])
            if chain is not None:
                score = np.where(odd, np.nan, score)
            return replace(found, quality=dict(found.quality) | {"score": score})

    found = chain(metrics_of(Losing(), chains={"half": CHAINS["half"]}), "half")["quality"]["score"]
    assert found["before"]["value"] == pytest.approx(1.0)
    assert found["left_out"] > 0
    change = found["after"]["value"] - found["before"]["value"]
    assert found["change"]["value"] == pytest.approx(change)


def test_regret_is_what_the_nearest_possible_output_does_not_explain(metrics):
    found = chain(metrics, "half")
    assert found["regret"]["value"] == pytest.approx(
        found["steering_error"]["value"] - found["oracle_error"]["value"]
    )
    assert found["oracle_error"]["value"] == pytest.approx(0, abs=1e-6)  # another chain was told
    alone = chain(metrics_of(chains={"half": CHAINS["half"]}), "half")
    assert 0.02 < alone["oracle_error"]["value"] < 0.15  # a grid of 0.2
    assert 0 < alone["regret"]["value"] < found["regret"]["value"]


def test_the_unsteered_output_is_possible_too():
    class Poor(Toy):
        """Nothing is known of what is said to be possible."""

        def pool(self, contexts):
            raw, known = super().pool(contexts)
            return raw, np.zeros_like(known)

    found = chain(metrics_of(Poor(), chains={"none": CHAINS["none"]}), "none")
    assert found["regret"]["value"] == pytest.approx(0, abs=1e-9)
    back = NamedChain(Chain(lookahead=Lookahead(-1.0)))
    found = chain(metrics_of(Poor(), chains={"back": back}, goals=1), "back")
    assert found["oracle_error"]["value"] == pytest.approx(found["asked"]["value"])
    assert found["regret"]["value"] > 0.1


def test_groups_and_cells_add_up(metrics):
    found = chain(metrics, "leaky")
    assert {group["group"] for group in found["groups"]} == {"town", "country"}
    worst = max(found["groups"], key=lambda group: group["steering_error"]["value"])
    assert found["worst_group"] == worst["group"]
    payer = min(found["groups"], key=lambda group: group["quality_change"]["value"])
    assert found["paying_group"] == payer["group"]
    singles = [cell["rows"] for cell in found["cells"] if len(cell["asked"]) == 1]
    assert sum(singles) > 24 * 12  # goals that ask for several are in several


def test_a_group_of_few_contexts_is_shown_but_is_not_the_worst():
    class Lonely(Toy):
        """Three contexts are a group of their own, and cannot be steered."""

        def groups(self, contexts):
            return ["lonely" if c % 40 == 0 else "town" for c in contexts]

        def generate(self, contexts, goals, chain, *, seed=0):
            plain = super().generate(contexts, None, None, seed=seed)
            found = super().generate(contexts, goals, chain, seed=seed)
            stays = np.array(contexts)[:, None] % 40 == 0
            return replace(found, raw=np.where(stays, plain.raw, found.raw))

    half = {"half": CHAINS["half"]}
    found = chain(metrics_of(Lonely(), chains=half, contexts=110, goals=2), "half")
    lonely, town = found["groups"]
    assert 0 < lonely["contexts"] < 5
    assert lonely["steering_error"]["value"] > town["steering_error"]["value"]
    assert found["worst_group"] == "town"


def test_only_goals_of_several_dimensions_are_with_correlation_or_against_it(metrics):
    found = chain(metrics, "half")
    assert found["with_correlation"] != found["against_correlation"]
    single = chain(metrics_of(chains={"half": CHAINS["half"]}, most_active=1), "half")
    assert single["with_correlation"] is single["against_correlation"] is None


def test_the_table_has_every_goal_of_every_chain_and_agrees_with_the_means():
    asking = Asking(Toy(), options())
    asked = questions(asking)
    chains = evaluated_chains(asking, asked)
    rows = ROWS.conform(rows_of(chains, asking.half))
    assert rows.height == len(CHAINS) * 24 * 12
    half = rows.filter(pl.col("chain") == "half")
    expected = all_metrics(asking, asked, chains, {})
    mean = np.average(half["steering_error"].to_numpy(), weights=half["even_weight"].to_numpy())
    assert value(expected, "half", "steering_error") == pytest.approx(mean, rel=1e-4)
    plain = np.average(half["steering_error"].to_numpy(), weights=half["plain_weight"].to_numpy())
    assert value(expected, "half", "plain_steering_error") == pytest.approx(plain, rel=1e-4)


def as_words(metrics: dict) -> str:
    return json.dumps(metrics, sort_keys=True, allow_nan=False)  # the toy's time is made up


def test_the_same_seed_gives_the_same_numbers_in_pieces_of_any_size():
    few = {name: CHAINS[name] for name in ("leaky", "tuned")}
    one, same = (metrics_of(chains=few) for _ in range(2))
    assert as_words(same) == as_words(one)
    pieces, other = metrics_of(chains=few, rows_at_once=17), metrics_of(chains=few, seed=3)
    assert value(other, "leaky", "steering_error") != value(one, "leaky", "steering_error")
    for name in few:
        assert chain(pieces, name)["steering_error"] == pytest.approx(
            chain(one, name)["steering_error"]
        )


def test_several_samples_are_averaged_and_their_spread_is_told():
    found = metrics_of(samples=3, chains={"half": CHAINS["half"]})
    assert chain(found, "half")["spread"] > 1e-4
    assert value(found, "half", "gain") == pytest.approx(0.5, abs=0.06)
    assert chain(found, "half")["generator_calls"] == 2.0


def test_the_spread_is_the_standard_deviation_between_samples():
    found = metrics_of(samples=2, chains={"none": CHAINS["none"]})
    one, two = (0.01 * np.random.default_rng([seed, 3]).normal(size=5) for seed in (0, 1))
    speed, comfort, _, gap, _ = np.abs(one - two) / np.sqrt(2)
    expected = (2 * speed + comfort + 0.7 * gap) / 3.7  # speed is there twice, the gap in 0.7
    assert chain(found, "none")["spread"] == pytest.approx(expected, rel=0.02)


# What a steered output hides


class Hiding(Toy):
    """Steered, the gap can no longer be measured in some contexts, and comfort in none."""

    def generate(self, contexts, goals, chain, *, seed=0):
        found = super().generate(contexts, goals, chain, seed=seed)
        if chain is None:
            return found
        mask = found.mask.copy()
        mask[:, 1] = False
        mask[:, 3] &= np.array(contexts) % 2 == 0
        return Outcome(np.where(mask, found.raw, np.nan), mask, found.quality, 2.0, 0.1)


def test_what_can_no_longer_be_measured_leaves_its_row_and_is_counted():
    found = chain(metrics_of(Hiding(), chains={"half": CHAINS["half"]}), "half")
    left = found["left_out"]
    assert left["values"]["comfort"] == left["of_rows"] == 24 * 12
    assert 0 < left["values"]["gap"] < left["of_rows"]
    assert 0 < left["rows"] < left["of_rows"]
    assert found["gain"]["value"] == pytest.approx(0.5)
    assert found["response"]["cells"][1][1] is None
    error, oracle = found["steering_error"]["value"], found["oracle_error"]["value"]
    assert found["regret"]["value"] == pytest.approx(error - oracle)  # of the same rows


class Silent(Toy):
    """Steered, nothing can be measured."""

    def generate(self, contexts, goals, chain, *, seed=0):
        found = super().generate(contexts, goals, chain, seed=seed)
        mask = found.mask & (chain is None)
        return Outcome(found.raw, mask, found.quality, 2.0, 0.1)


def test_a_chain_of_which_nothing_can_be_measured_has_no_numbers_and_is_not_the_best():
    found = metrics_of(Silent(), chains={name: CHAINS[name] for name in ("none", "half")})
    assert chain(found, "half")["steering_error"] is None
    assert chain(found, "half")["worst_group"] is None
    assert found["best"] == "none"
    json.dumps(found, allow_nan=False)


def test_a_dose_figure_marks_the_strength_that_was_taken_among_its_own(monkeypatch):
    """Of two settings a figure shows one, the other as it was taken."""
    tune = {"lookahead.strength": [0.25, 1.0], "telling.strength": [0.0, 0.25, 0.5]}
    found = metrics_of(chains={"two": NamedChain(tune=tune)})
    seen = {}

    def kept(curves, doses, *, chosen, title):
        seen[title] = (doses, doses[chosen])
        return Markup("")

    monkeypatch.setattr(page_effects, "dose_curves", kept)
    page_effects.doses(found)
    taken = found["chains"][0]["trials"][found["chains"][0]["chosen"]]["settings"]
    assert seen == {f"two over {name}": (doses, taken[name]) for name, doses in tune.items()}
    assert taken == {"lookahead.strength": 0.25, "telling.strength": 0.25}


# What is refused


def test_splits_that_share_contexts_are_refused():
    with pytest.raises(InputError, match="Tuning and reported contexts share some"):
        metrics_of(Toy(overlap=5))


def test_a_split_of_one_context_is_refused():
    with pytest.raises(InputError, match="The split validation has 1 contexts; at least 2"):
        metrics_of(Toy(contexts=1))


def test_outputs_that_never_vary_are_refused():
    class Constant(Toy):
        def place(self, context):
            return np.full(5, 0.5)

    with pytest.raises(InputError, match="No probe can be made: No goal dimension varies"):
        metrics_of(Constant())


def test_a_chain_that_the_half_cannot_follow_is_named():
    with pytest.raises(InputError, match="Chain wild: the look-ahead is too strong"):
        metrics_of(chains={"wild": NamedChain(Chain(lookahead=Lookahead(9.0)))})


class Misshapen(Toy):
    def generate(self, contexts, goals, chain, *, seed=0):
        found = super().generate(contexts, goals, chain, seed=seed)
        return Outcome(found.raw[:, :2], found.mask[:, :2], found.quality, 1.0, 1.0)


class Renamed(Toy):
    def generate(self, contexts, goals, chain, *, seed=0):
        found = super().generate(contexts, goals, chain, seed=seed)
        return Outcome(found.raw, found.mask, {"other": found.quality["score"]}, 1.0, 1.0)


@pytest.mark.parametrize(
    ("half", "message"),
    [
        (Misshapen, "generate must answer 64 rows of 5 goals"),
        (Renamed, "generate must answer the qualities score, rare, got other"),
    ],
)
def test_a_half_that_does_not_keep_its_promises_is_told(half, message):
    with pytest.raises(ValueError, match=message):
        metrics_of(half())


def test_only_as_many_unsteered_outputs_are_made_as_may_be_drawn():
    half = Toy()
    metrics_of(half, chains={"none": NamedChain()}, seed_contexts=40)
    assert half.asked_rows == 80
    assert len(half.contexts(TUNING)) == 120


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"contexts": 1}, "contexts must be at least 2, got 1"),
        ({"seed_contexts": 8}, "seed_contexts must be at least 24, got 8"),
        ({"largest_quality_loss": -0.1}, "largest_quality_loss must be at least 0, got -0.1"),
        ({"largest_quality_loss": float("nan")}, "largest_quality_loss must be at least 0"),
        ({"resamples": 10}, "resamples must be at least 100, got 10"),
        ({"chains": {}}, "chains must name at least one chain"),
        ({"chains": {"a": NamedChain(tune={"lookahead.x": [1.0]})}}, "Chain a: lookahead.x is no"),
        ({"chains": {"a": NamedChain(spend="particles.count")}}, "Chain a: particles.count is no"),
    ],
)
def test_options_out_of_range_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        options(**changed)
