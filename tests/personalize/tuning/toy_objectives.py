"""Objectives and a builder in a few lines, to test the loop without the library's own."""

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from personalize.preference_optimization.candidates import Candidates, PairBuilder
from personalize.preference_optimization.compared import policy_scores, scored
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.objective import Objective


class Compare(Objective):
    """The logistic loss of log-ratios."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, policy, reference, batch, rollouts=None):
        found, _ = scored(policy, batch, reference)
        ratio = self.beta * found.ratio()
        margin = ratio[:, 0] - ratio[:, 1]
        return {"loss": -logsigmoid(margin).mean(), "lead": margin.detach().mean()}


class Imitate(Objective):
    """The log-loss of what was logged."""

    uses_reference = False
    group_size = -1

    def forward(self, policy, reference, batch, rollouts=None):
        return {"loss": -policy_scores(policy, batch)[:, 0].sum(-1).mean()}


class Reinforce(Objective):
    """REINFORCE of the first reward, centred in the group."""

    judges_reference = True

    def __init__(self, group_size: int = 8, updates: int = 1) -> None:
        super().__init__()
        self.group_size, self.updates = group_size, updates
        self.seen: list[torch.Tensor] = []

    def forward(self, policy, reference, batch, rollouts=None):
        assert rollouts is not None
        self.seen.append(rollouts.drawn.responses)
        assert rollouts.reference_reward.shape[1:] == (1, len(rollouts.names))
        reward = rollouts.reward[..., 0] - 5.0 * (~rollouts.gate)
        advantage = reward - reward.mean(1, keepdim=True)
        said = policy.log_prob(batch.contexts, rollouts.drawn.responses).sum(-1)
        return {"loss": -(advantage * said).mean(), "reward": reward.mean()}


@dataclass(frozen=True)
class BestAgainstWorst(PairBuilder):
    """The best and the worst match of a context's own rows among those that pass the gate."""

    nothing: bool = False

    def __call__(self, candidates: Candidates, *, seed: int = 0) -> ComparedRows:
        pairs = []
        for origin in candidates.origin.unique().tolist():
            own = (candidates.origin == origin) & (candidates.context == origin) & candidates.gate
            rows = torch.nonzero(own)[:, 0]
            worth = candidates.named("match")[rows]
            if len(rows) > 1 and worth.amax() > worth.amin() and not self.nothing:
                pairs.append([int(rows[worth.argmax()]), int(rows[worth.argmin()])])
        rows = torch.tensor(pairs) if pairs else torch.zeros(0, 2, dtype=torch.long)
        return ComparedRows.of(rows, "best_against_worst")
