"""Imitation beside DPO: how much probability does a response get that no pair ever held?

Three responses with features, a softmax of a linear policy. Pairs say that the first beats the
second; the third was never compared but lies further along the direction in which the first differs
from the second, with some noise, and is worth -3 where the others are worth 1 and 0. Full-batch
gradient descent on DPO with `eta * beta` times the negative log-likelihood of the first, every eta
for as many steps. The control trains without the term at learning rates from a tenth up.
"""

import argparse
import json
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from personalize.evaluation.intervals import bootstrap_interval
from personalize.preference_optimization.auxiliary import ImitateBest
from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrasts import DPO

FEATURES, BETA, LEARNING_RATE, FURTHER, NOISE = 4, 0.1, 1.0, 1.0, 0.5
WORTH = (1.0, 0.0, -3.0)
ETAS = (0.0, 0.005, 0.05, 0.2, 1.0)
SLOWER = 0.1
CRITERION = (
    "the mean probability of the unseen response is above 0.95 without the term, falls with every "
    "larger eta from 0.05 and is below 0.3 there; with the paper's 0.005 it is told only"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)), steps=options.steps)
    for name, row in found["measures"].items():
        print(f"{name:50} {row['mean']:6.3f}  [{row['low']:6.3f}, {row['high']:6.3f}]")
    if options.json:
        print(json.dumps(found))


def experiment(seeds: tuple[int, ...], *, steps: int) -> dict[str, Any]:
    """All measures over seeds, and whether the criterion is met."""
    features = torch.stack([drawn_features(seed) for seed in seeds])
    measures, unseen = {}, {}
    cases = [(eta, LEARNING_RATE) for eta in ETAS] + [(0.0, SLOWER * LEARNING_RATE)]
    for (eta, rate), chances in zip(cases, learnt(features, cases, steps), strict=True):
        name = f"eta {eta:g}" if rate == LEARNING_RATE else f"eta {eta:g}, {SLOWER:g} of the rate"
        unseen[name] = chances[:, 2].mean()
        measures[f"unseen, {name}"] = vars(bootstrap_interval(chances[:, 2]))
        measures[f"worth, {name}"] = vars(bootstrap_interval(chances @ np.array(WORTH)))
    strong = [unseen[f"eta {eta:g}"] for eta in ETAS if eta >= 0.05]
    falls = all(more < less for less, more in pairwise([unseen["eta 0"], *strong]))
    shown = unseen["eta 0"] > 0.95 and strong[0] < 0.3 and falls
    return {
        "measures": measures,
        "falls_with_eta": falls,
        "steps": steps,
        "seeds": list(seeds),
        "criterion": CRITERION,
        "shown": bool(shown),
    }


def drawn_features(seed: int) -> Float[Tensor, "response feature"]:
    """Two random responses and a third beyond the first."""
    generator = torch.Generator().manual_seed(seed)
    best, worst, noise = torch.randn(3, FEATURES, generator=generator) / FEATURES**0.5
    return torch.stack([best, worst, best + FURTHER * (best - worst) + NOISE * noise])


def learnt(
    features: Float[Tensor, "seed response feature"],
    cases: list[tuple[float, float]],
    steps: int,
) -> Float[np.ndarray, "case seed response"]:
    """Probabilities after training, of every case for every seed at once."""
    seeds = len(features)
    weights = torch.zeros(len(cases), seeds, FEATURES, requires_grad=True)
    rates = torch.tensor([rate for _, rate in cases])[:, None, None]
    contrast = DPO(beta=BETA)
    terms = [ImitateBest(eta=eta, beta=BETA) for eta, _ in cases]
    reference = torch.full((len(cases) * seeds, 2), -float(np.log(3)))
    for _ in range(steps):
        log_prob = torch.einsum("srf,csf->csr", features, weights).log_softmax(-1)
        scored = Scored.of(log_prob[..., :2].flatten(0, 1), reference)
        imitated = -log_prob[..., 0].sum(1) @ torch.tensor([term.weight for term in terms])
        loss = contrast(scored).sum() + imitated
        (gradient,) = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            weights -= rates * gradient
    with torch.no_grad():
        return torch.einsum("srf,csf->csr", features, weights).softmax(-1).double().numpy()


if __name__ == "__main__":
    main()
