"""Smoothed weights against wrong labels: how far a policy tuned on pairs falls when labels flip.

64 responses with a hidden utility, 320 pairs labelled by it, 30 % of the labels turned round. A
policy with a number per response learns from the pairs, with as many steps and the same mean weight
for every loss. Reward models of several qualities stand beside: their correlation with the truth,
and one fitted to the very labels. Alignment is Spearman's correlation of the policy with the truth.

A label turned round turns both the weight and the margin round: the smoothed loss stays what it
was. That it falls by nothing shows no smoothing, only that it does not read the labels. What counts
is whether it beats plain labels that the same reward model gave, as its soft labels do
(`soft_labels_shown`: an ordinary cross-entropy with the model's own win probability).
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from personalize.evaluation.intervals import bootstrap_interval
from personalize.evaluation.rank_correlation import rank_correlation
from personalize.preference_optimization.comparisons import Comparisons, decided
from personalize.preference_optimization.smoothed_weight import smoothed_weight, unit_range
from personalize.rewards.bradley_terry import bradley_terry_loss

RESPONSES, FEATURES, PAIRS, FLIPPED, STEPS = 64, 8, 320, 0.3, 150
QUALITIES = (0.3, 0.6, 0.8, 0.95)
CRITERION = (
    "the drop under 30 % flips is smaller than DPO's, and alignment above that of plain labels by "
    "the same reward model: both intervals of the difference above 0"
)


def main() -> None:
    """Run all seeds, print the table and, with `--json`, one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    found = experiment(tuple(range(options.seeds)))
    for name, row in found["alignment"].items():
        print(f"{name:40} {row['mean']:6.3f}  [{row['low']:6.3f}, {row['high']:6.3f}]")
    if options.json:
        print(json.dumps(found))


def experiment(seeds: tuple[int, ...]) -> dict[str, Any]:
    """Alignment of every loss over seeds, and whether the criterion is met."""
    rows = [one_seed(seed) for seed in seeds]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    drop = columns["DPO, clean labels"] - columns["DPO, 30 % flipped"]
    own = columns["SmPO, reward 0.80, clean"] - columns["SmPO, reward 0.80"]
    gain = bootstrap_interval(drop - own)
    best = bootstrap_interval(columns["SmPO, reward 0.80"] - columns["hard, reward 0.80"])
    soft = bootstrap_interval(columns["soft, reward 0.80"] - columns["hard, reward 0.80"])
    return {
        "alignment": {name: vars(bootstrap_interval(values)) for name, values in columns.items()},
        "smaller_drop_than_dpo": vars(gain),
        "smpo_minus_hard_labels_of_the_same_reward": vars(best),
        "soft_minus_hard_labels_of_the_same_reward": vars(soft),
        "soft_labels_shown": soft.low > 0,
        "seeds": list(seeds),
        "criterion": CRITERION,
        "shown": gain.low > 0 and best.low > 0,
    }


def one_seed(seed: int) -> dict[str, float]:
    """Alignment of every loss for one draw of responses, pairs and labels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(RESPONSES, FEATURES, generator=generator)
    truth = features @ torch.randn(FEATURES, generator=generator)
    truth = (truth - truth.mean()) / truth.std()
    pairs = _pairs(generator)
    gap = 2 * (truth[pairs[:, 0]] - truth[pairs[:, 1]])
    wins = torch.rand(PAIRS, generator=generator) < gap.sigmoid()
    clean = torch.where(wins[:, None], pairs, pairs.flip(1))
    turned = torch.rand(PAIRS, generator=generator) < FLIPPED
    flipped = torch.where(turned[:, None], clean.flip(1), clean)
    noise = torch.randn(RESPONSES, generator=generator)
    result = {
        "DPO, clean labels": aligned(decided(clean), None, truth),
        "DPO, 30 % flipped": aligned(decided(flipped), None, truth),
        "SmPO, reward 0.80, clean": 0.0,
    }
    rewards = {f"{q:.2f}": q * truth + (1 - q * q) ** 0.5 * noise for q in QUALITIES}
    rewards["of these labels"] = fitted_reward(features, decided(flipped))
    for name, reward in rewards.items():
        weights = pair_weights(reward, decided(flipped))
        result[f"SmPO, reward {name}"] = aligned(decided(flipped), weights, truth)
        result[f"hard, reward {name}"] = aligned(decided(flipped), weights.sign(), truth)
        result[f"soft, reward {name}"] = soft_aligned(reward, decided(flipped), truth)
    clean_weights = pair_weights(rewards["0.80"], decided(clean))
    result["SmPO, reward 0.80, clean"] = aligned(decided(clean), clean_weights, truth)
    return result


def pair_weights(
    reward: Float[Tensor, " response"], comparisons: Comparisons
) -> Float[Tensor, " comparison"]:
    """Smoothed weights, scaled to a mean size of 1."""
    scaled = unit_range(reward)
    weights = smoothed_weight(scaled[comparisons.better], scaled[comparisons.worse])
    return weights / weights.abs().mean()


def aligned(
    comparisons: Comparisons,
    weights: Float[Tensor, " comparison"] | None,
    truth: Float[Tensor, " response"],
) -> float:
    """Alignment of a policy tuned with a weight inside the loss."""
    weight = torch.ones(len(comparisons)) if weights is None else weights
    return _tuned(comparisons, weight, torch.ones(len(comparisons)), truth)


def soft_aligned(
    reward: Float[Tensor, " response"],
    comparisons: Comparisons,
    truth: Float[Tensor, " response"],
) -> float:
    """Alignment with the reward's win probability as the label: an ordinary cross-entropy."""
    scaled = 4 * (reward - reward.mean()) / reward.std()
    share = (scaled[comparisons.better] - scaled[comparisons.worse]).sigmoid()
    return _tuned(comparisons, torch.ones(len(comparisons)), share, truth)


def fitted_reward(
    features: Float[Tensor, "response feature"], comparisons: Comparisons
) -> Float[Tensor, " response"]:
    """A linear reward fitted to the labels: it knows nothing that they do not say."""
    weight = torch.zeros(features.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    gap = features[comparisons.better] - features[comparisons.worse]
    for _ in range(200):
        optimizer.zero_grad()
        functional.softplus(-gap @ weight).mean().backward()
        optimizer.step()
    return (features @ weight).detach()


def _pairs(generator: torch.Generator) -> Tensor:
    first = torch.randint(RESPONSES, (PAIRS,), generator=generator)
    step = torch.randint(1, RESPONSES, (PAIRS,), generator=generator)
    return torch.stack([first, (first + step) % RESPONSES], 1)


def _tuned(comparisons: Comparisons, weight: Tensor, share: Tensor, truth: Tensor) -> float:
    logits = torch.zeros(RESPONSES, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        margin = weight * (logits[comparisons.better] - logits[comparisons.worse])
        bradley_terry_loss(margin, share).mean().backward()
        optimizer.step()
    return rank_correlation(logits.detach().numpy(), truth.numpy())


if __name__ == "__main__":
    main()
