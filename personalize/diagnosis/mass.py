"""Where probability goes and what a policy gives away, in contexts whose responses are known."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from personalize.diagnosis.held_out import HeldOut, Plain, likeliest, plain
from personalize.evaluation.cyclicity import (
    certain_exploitability,
    exploitability,
    majority_cycle_rate,
    win_matrix,
)
from personalize.evaluation.intervals import bootstrap_interval, paired_comparison
from personalize.evaluation.likelihood_displacement import mass_moved
from personalize.preference_optimization.policy import Policy

WINNER, LOSER, FOUND = range(3)
KINDS = ("preferred", "not preferred", "likeliest after, in no pair")
LEAST_JUDGES = LEAST_CHOICES = 3


def is_finite(policy: Policy) -> bool:
    """Whether a policy chooses among finitely many, so that scores are probabilities."""
    return type(policy).logits is not Policy.logits


def mass(found: HeldOut, before: Policy, after: Policy) -> dict[str, Any] | None:
    """Change of probability by kind of response in the probes; None for policies without mass."""
    if not is_finite(after):
        return None
    kinds = kinds_of_responses(found, after)
    kept = [row for row, own in enumerate(kinds) if own]
    if not kept:
        return None
    numbers = found.probes[kept]
    width = max(len(kinds[row]) for row in kept)
    lists = [list(kinds[row]) for row in kept]
    present = np.array([[place < len(own) for place in range(width)] for own in lists])
    kind = np.array([[*kinds[row].values(), *[0] * (width - len(kinds[row]))] for row in kept])
    filled = [own + [own[0]] * (width - len(own)) for own in lists]
    like = found.candidates.responses
    responses = torch.tensor(filled, dtype=like.dtype).view(len(kept), width, *like.shape[1:])
    old, new = (_log_prob(found, policy, numbers, responses) for policy in (before, after))
    moved = mass_moved(old, new, kind, present, KINDS, seed=found.options.seed)
    return {name: asdict(one) for name, one in moved.items()}


def kinds_of_responses(found: HeldOut, after: Policy) -> list[dict[Plain, int]]:
    """Distinct responses of every probe by kind: winners first, then losers, then new answers."""
    compared, candidates = found.compared, found.candidates
    place = {int(number): row for row, number in enumerate(found.probes)}
    kinds: list[dict[Plain, int]] = [{} for _ in place]
    for kind, columns in ((WINNER, slice(0, 1)), (LOSER, slice(1, None))):
        rows = compared.rows[:, columns][compared.present[:, columns]]
        for context, response in zip(
            candidates.context[rows].tolist(), candidates.response[rows].tolist(), strict=True
        ):
            if context in place:
                own = kinds[place[context]]
                own.setdefault(plain(candidates.responses[response]), kind)
    for own, answers in zip(kinds, likeliest(found, after), strict=True):
        for answer in answers:
            if own:
                own.setdefault(answer, FOUND)
    return kinds


def cycles(found: HeldOut, before: Policy, after: Policy) -> dict[str, Any] | None:
    """Cycles among the majorities of all rewards, and what policies give away to the best answer.

    A policy is taken within the candidates of a context: its probabilities there, made to sum to 1.

    Returns:
        None where there are fewer than three rewards, or never three candidates: then nothing can
        go round.
    """
    candidates = found.candidates
    if len(candidates.names) < LEAST_JUDGES:
        return None
    rates, certain, lost = [], [], {"before": [], "after": []}
    for number in found.probes.tolist():
        own = (candidates.context == number) & (candidates.origin == number)
        rows = np.nonzero(own.numpy())[0]
        _, first = np.unique(candidates.response[own].numpy(), return_index=True)
        rows = rows[first]
        if len(rows) < LEAST_CHOICES:
            continue
        win = win_matrix(candidates.reward[rows].double().numpy().T)
        rates.append(majority_cycle_rate(win))
        certain.append(certain_exploitability(win))
        if not is_finite(after):
            continue
        responses = candidates.responses[candidates.response[rows]][None]
        context = torch.tensor([number])
        for name, policy in (("before", before), ("after", after)):
            score = _log_prob(found, policy, context, responses)[0]
            share = np.exp(score - score.max())
            lost[name].append(exploitability(share / share.sum(), win))
    if not rates:
        return None
    said: dict[str, Any] = {
        "cycle_rate": _interval(rates, found),
        "certain_exploitability": _interval(certain, found),
    }
    if lost["after"]:
        said |= {
            f"exploitability_{name}": _interval(values, found) for name, values in lost.items()
        }
        said["exploitability_change"] = asdict(
            paired_comparison(
                np.array(lost["after"]), np.array(lost["before"]),
                resamples=found.options.resamples, seed=found.options.seed,
            ).difference
        )  # fmt: skip
    return said


def _log_prob(
    found: HeldOut, policy: Policy, numbers: torch.Tensor, responses: torch.Tensor
) -> Float[np.ndarray, "context candidate"]:
    parts = []
    with torch.no_grad():
        for rows in found.pieces(torch.arange(len(numbers))):
            batch = found.half.batch(numbers[rows]).to(found.device)
            policy.reseed(found.options.seed)
            said = policy.log_prob(batch, responses[rows].to(found.device))
            parts.append(said.sum(-1).double().cpu())
    return torch.cat(parts).numpy()


def _interval(values: list[float], found: HeldOut) -> Mapping[str, Any]:
    options = found.options
    return asdict(
        bootstrap_interval(np.array(values), resamples=options.resamples, seed=options.seed)
    )
