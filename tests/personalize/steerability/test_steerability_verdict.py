"""Which chain is called the best, and what is said of it, from numbers made up by hand."""

import pytest

from personalize.report.words import MINUS
from personalize.steerability.numbers import quality_loss
from personalize.steerability.verdict import best_chain, rule, verdict

BOUNDS = {"largest_quality_loss": 0.1, "generator_calls": 0.0}


def about(value: float, width: float = 0.02) -> dict:
    return {"value": value, "low": value - width, "high": value + width, "contexts": 30}


CELLS = [[about(0.6), about(-0.2)], [about(0.3, 0.4), None]]  # 0.3 is not sure of its sign


def made(name: str, error: float, change: float, **more) -> dict:
    return {
        "chain": name,
        "neutral": False,
        "steering_error": about(error),
        "gain": about(0.6),
        "asked": about(0.5),
        "approach": about(0.5 - error),
        "oracle_error": about(0.1),
        "side_effects": about(0.3),
        "main_quality": "ndcg@10",
        "quality": {"ndcg@10": {"before": about(0.5), "change": about(change)}},
        "generator_calls": 4.0,
        "response": {"dimensions": ["price", "rating"], "cells": CELLS},
    } | more


NONE = made("none", 0.5, 0.0, neutral=True, approach=about(0, 0))


def test_the_least_error_wins_if_its_loss_is_sure_to_be_small_enough():
    chains = [NONE, made("strong", 0.2, -0.1), made("mild", 0.3, -0.02), made("near", 0.25, -0.04)]
    best = best_chain(chains, **BOUNDS)
    assert best is not None
    assert best["chain"] == "mild"  # `near` loses 8 %, but its interval goes on to 12 %
    loose = best_chain(chains, largest_quality_loss=0.13, generator_calls=0.0)
    assert loose is not None
    assert loose["chain"] == "near"


def test_calls_are_bounded_with_a_tenth_to_spare():
    chains = [NONE, made("cheap", 0.4, 0.0), made("dear", 0.2, 0.0, generator_calls=8.8)]
    for calls, name in ((8.0, "dear"), (7.9, "cheap")):
        best = best_chain(chains, largest_quality_loss=0.1, generator_calls=calls)
        assert best is not None
        assert best["chain"] == name
    assert best_chain(chains, largest_quality_loss=0.1, generator_calls=1.0) is None


def test_a_loss_is_a_share_of_what_is_there_unsteered():
    found = {"before": about(0.5), "change": about(-0.1, 0.05)}
    assert quality_loss(found) == pytest.approx(0.2)
    assert quality_loss(found, "low") == pytest.approx(0.3)
    assert quality_loss({"before": None, "change": None}) == 0
    assert quality_loss({"before": about(0.0), "change": about(0.1)}) == 0
    assert quality_loss({"before": about(0.0), "change": about(-0.1)}) == float("inf")


def test_the_verdict_says_gain_cost_side_effects_and_who_broke_a_bound():
    chains = [NONE, made("strong", 0.2, -0.3), made("mild", 0.3, -0.02)]
    said = verdict(chains, chains[2], **BOUNDS)
    assert said[0].startswith("Chain mild steers best: it makes 60.0% of the way")
    assert f"changes ndcg@10 by {MINUS}0.020" in said[0]
    assert "the nearest possible output 0.10" in said[0]
    assert "0.30 is across what was asked" in said[1]
    assert f"asking for price moves rating by {MINUS}0.20" in said[1]
    assert said[2] == ("Chain strong comes nearer (0.20), but may lose up to 64.0% of ndcg@10.")
    assert len(said) == 3


def test_responses_that_are_tiny_are_not_worth_a_word():
    tiny = {"dimensions": ["price", "rating"], "cells": [[about(0.6), about(0.03, 0.01)]] * 2}
    tiny["cells"][1] = [about(-0.04, 0.01), about(0.6)]
    best = made("mild", 0.3, 0.0, response=tiny)
    assert "no single dimension is sure to move" in verdict([NONE, best], best, **BOUNDS)[1]


def test_chains_of_other_cost_are_named():
    chains = [NONE, made("mild", 0.3, 0.0), made("dear", 0.4, 0.0, generator_calls=9.0)]
    said = verdict(chains, chains[1], **BOUNDS)
    assert said[-1].startswith("Not at equal cost: dear take")


@pytest.mark.parametrize("best", [NONE, made("weak", 0.49, 0.0)])
def test_no_chain_is_praised_that_is_not_sure_to_come_nearer(best):
    said = verdict([NONE, best], best, **BOUNDS)
    assert said[0] == "No chain within the bounds is sure to bring outputs nearer to their goals."


def test_without_an_allowed_chain_nothing_is_named():
    assert verdict([NONE], None, **BOUNDS)[0].startswith("No chain keeps the bounds")


def test_the_rule_states_its_bounds():
    words = rule(0.1, 8.0, "pdms")
    assert "loses at most 10.0% of it" in words
    assert "95 % interval of pdms" in words
    assert "at most 8 generator calls" in words
    assert "not widened" in words
    assert "loses" not in rule(0.1, 0.0, None)
