"""Groups of people with their own rewards, found from comparisons; and what the worst-off get."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from personalize.generator import Context, Reward, Value, X
from personalize.preference_optimization.comparisons import Comparisons
from personalize.rewards.bradley_terry import RewardTraining, bradley_terry_loss, seeded, train


@final
class GroupRewards(nn.Module):
    """One reward per group on a common scale: mean 0 and deviation 1 over the fitted responses.

    Without a common scale a minimum over groups would always be the group that scores lowest.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, build: Callable[[], nn.Module], groups: int) -> None:
        """Make a network per group; each maps `[row, feature]` to `[row, 1]`."""
        super().__init__()
        self.networks = nn.ModuleList(build() for _ in range(groups))
        self.register_buffer("mean", torch.zeros(groups))
        self.register_buffer("scale", torch.ones(groups))

    def raw(self, responses: Float[Tensor, "row feature"]) -> Float[Tensor, "row group"]:
        """Bradley-Terry scores, each group on its own scale."""
        return torch.cat([network(responses) for network in self.networks], -1)

    def forward(self, responses: Float[Tensor, "row feature"]) -> Float[Tensor, "row group"]:
        """Rewards on the common scale."""
        return (self.raw(responses) - self.mean) / self.scale

    def standardize(self, responses: Float[Tensor, "row feature"]) -> None:
        """Set the scale to that of some responses."""
        with torch.no_grad():
            raw = self.raw(responses)
            self.mean.copy_(raw.mean(0))
            self.scale.copy_(raw.std(0, correction=0).clamp_min(1e-6))


@dataclass(frozen=True)
class FittedGroups:
    """Groups found from comparisons.

    Attributes:
        rewards: One reward per group.
        person_group: Group of every person.
        log_likelihood: Mean log-likelihood of all comparisons, each under its person's group.
    """

    rewards: GroupRewards
    person_group: Int[Tensor, " person"]
    log_likelihood: float


def fit_groups(
    responses: Float[Tensor, "row feature"],
    comparisons: Comparisons,
    people: Int[Tensor, " comparison"],
    *,
    groups: int,
    build: Callable[[], nn.Module],
    rounds: int = 10,
    training: RewardTraining | None = None,
) -> FittedGroups:
    """Hard expectation-maximisation: everybody belongs to the group that explains them best.

    Each round fits every group's reward to the comparisons of its people, from where it stood, then
    moves everybody to the group under which their comparisons are likeliest. It ends when nobody
    moves. It finds a local optimum: try several seeds and keep the largest `log_likelihood`
    (`best_groups`). A group that lost all its people keeps its reward and may win some back.

    Args:
        responses: Features of what was compared.
        comparisons: Of their rows.
        people: Who answered each comparison, from 0.
        groups: Number of groups.
        build: Makes the reward network of one group.
        rounds: Most rounds.
        training: Steps and rate of each round, and the seed of first weights and groups.

    Raises:
        ValueError: If there is less than one group, fewer people than groups, or not one person
            per comparison.

    Source:
        Chakraborty et al., 2024, MaxMin-RLHF, arXiv:2402.08925, in the manner of its alternation.
    """
    if len(people) != len(comparisons):
        raise ValueError(
            f"people must name one per comparison, got {len(people)} for {len(comparisons)}."
        )
    count = int(people.amax()) + 1 if len(people) else 0
    if not 1 <= groups <= count:
        raise ValueError(f"groups must lie between 1 and the {count} people, got {groups}.")
    chosen = training or RewardTraining(steps=100, learning_rate=3e-2)
    model = seeded(lambda: GroupRewards(build, groups), chosen.seed)
    generator = torch.Generator().manual_seed(chosen.seed)
    person_group = torch.randperm(count, generator=generator) % groups
    better, worse = responses[comparisons.better], responses[comparisons.worse]
    likelihood = torch.zeros(count, groups)
    for number in range(rounds):
        group = person_group[people]

        def loss(drawn: Tensor, group: Tensor = group) -> Tensor:
            margins = model.raw(better[drawn]) - model.raw(worse[drawn])
            margin = margins.gather(1, group[drawn, None])[:, 0]
            return bradley_terry_loss(margin, comparisons.win_share[drawn]).mean()

        train(model, loss, len(comparisons), replace(chosen, seed=chosen.seed + number))
        likelihood = person_log_likelihood(model, responses, comparisons, people)
        moved = likelihood.argmax(1)
        if torch.equal(moved, person_group):
            break
        person_group = moved
    model.standardize(responses)
    explained = likelihood.gather(1, person_group[:, None]).sum() / len(comparisons)
    return FittedGroups(model, person_group, float(explained))


def best_groups(fits: int, fit: Callable[[int], FittedGroups]) -> FittedGroups:
    """The likeliest of several fits, `fit(0)` to `fit(fits - 1)`; of equals the first.

    Raises:
        ValueError: If `fits` is below 1.
    """
    if fits < 1:
        raise ValueError(f"fits must be 1 or more, got {fits}.")
    return max((fit(seed) for seed in range(fits)), key=lambda found: found.log_likelihood)


def person_log_likelihood(
    rewards: GroupRewards,
    responses: Float[Tensor, "row feature"],
    comparisons: Comparisons,
    people: Int[Tensor, " comparison"],
) -> Float[Tensor, "person group"]:
    """Log-likelihood of each person's comparisons under every group's reward.

    Also finds the group of somebody new: the largest of their row.
    """
    with torch.no_grad():
        scores = rewards.raw(responses)
        margin = scores[comparisons.better] - scores[comparisons.worse]
        share = comparisons.win_share[:, None]
        each = share * functional.logsigmoid(margin) + (1 - share) * functional.logsigmoid(-margin)
        total = each.new_zeros(int(people.amax()) + 1, each.shape[1])
        return total.index_add(0, people, each)


def worst_group_value(
    rewards: Float[Tensor, "*batch particle group"],
) -> Float[Tensor, "*batch"]:
    """What the worst-off group gets on average: the least over groups of the mean over particles.

    This is what MaxMin maximises. The mean of `WorstGroup` over the same particles is less or the
    same, because every particle is judged by its own worst group.

    Example:
        >>> fair_in_turns = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> worst_group_value(fair_in_turns), fair_in_turns.amin(-1).mean()
        (tensor(0.5000), tensor(0.))
    """
    return rewards.mean(-2).amin(-1)


@final
class WorstGroup(Value[X, Context]):
    """Each particle's reward for the group that likes it least.

    As in the released policy step, the minimum is taken per sample: a lower bound of
    `worst_group_value`, and the right thing where a single answer is shown to everybody. The
    groups' rewards must share a scale, as `GroupRewards` do.

    Source:
        Chakraborty et al., 2024, MaxMin-RLHF, arXiv:2402.08925.
    """

    def __init__(self, reward: Reward[X, Context]) -> None:
        """Take a reward with one dimension per group."""
        self._reward = reward

    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle"]:
        """The least of every particle's rewards."""
        return self._reward(x, context).amin(-1)


@final
class GroupReward(Reward[X, Context]):
    """The rewards of all groups as dimensions of one reward."""

    def __init__(
        self,
        rewards: GroupRewards,
        features: Callable[[X, Context], Float[Tensor, "batch particle feature"]],
    ) -> None:
        """Take the rewards and what turns particles into features."""
        self.names = tuple(f"group_{number}" for number in range(len(rewards.networks)))
        self._rewards, self._features = rewards, features

    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle group"]:
        """Rewards of every particle on the common scale."""
        features = self._features(x, context)
        return self._rewards(features.flatten(0, 1)).unflatten(0, features.shape[:2])
