"""A critic learnt from logs: what an action is worth in the long run, to re-rank what is made."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from personalize.generator import Value

SMALLEST_SCALE = 1e-3


@dataclass(frozen=True)
class Transitions:
    """What was done, what came of it, and where that led.

    Attributes:
        state: What the generator knew, encoded by it.
        preference: What was asked of it; may have no width.
        action: What was done: features of a plan, the vector of an item.
        reward: What came of it at once.
        next_state: What it knew then.
        next_preference: What was asked of it then.
        ended: Whether nothing followed.
        to_go: Discounted sum of the rewards from here on, as logged.
        candidates: Actions the generator would have made instead; see `Critic.loss_cal_ql`.
    """

    state: Float[Tensor, "row state"]
    preference: Float[Tensor, "row preference"]
    action: Float[Tensor, "row action"]
    reward: Float[Tensor, " row"]
    next_state: Float[Tensor, "row state"]
    next_preference: Float[Tensor, "row preference"]
    ended: Bool[Tensor, " row"]
    to_go: Float[Tensor, " row"]
    candidates: Float[Tensor, "row candidate action"]

    def rows(self, chosen: Int[Tensor, " chosen"] | slice) -> "Transitions":
        """Some of them."""
        parts: dict[str, Any] = {f.name: getattr(self, f.name)[chosen] for f in fields(self)}
        return Transitions(**parts)

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.reward)


@dataclass(frozen=True)
class CriticContext:
    """What a critic is asked in.

    Attributes:
        state: As in `Transitions`.
        preference: As in `Transitions`.
    """

    state: Float[Tensor, "batch state"]
    preference: Float[Tensor, "batch preference"]


class Critic(nn.Module, Value[Float[Tensor, "batch particle action"], CriticContext]):
    """Two estimates of an action's long-run worth, their slow copies, and a state's worth.

    The value of an action is the lower of the slow copies. Inputs are brought to mean 0 and spread
    1 by `fit_scales`; values are in units of the rewards.

    Source:
        V-GPS (Nakamoto et al., 2024, Steering Your Generalists, arXiv:2410.13816) with the losses
        of IQL (Kostrikov et al., 2022, arXiv:2110.06169) and Cal-QL (Nakamoto et al., 2023,
        arXiv:2303.05479). There image encoders are trained along; here a generator's frozen
        encoding is read, and the preference stands beside it.
    """

    state_shift: Tensor
    state_scale: Tensor
    action_shift: Tensor
    action_scale: Tensor

    def __init__(
        self,
        state: int,
        action: int,
        preference: int = 0,
        *,
        width: int = 256,
        discount: float = 0.98,
        expectile: float = 0.7,
    ) -> None:
        """Set the sizes.

        Args:
            state: Numbers that encode a state.
            action: Numbers that describe an action.
            preference: Numbers that state a preference.
            width: Of two hidden layers.
            discount: What a reward one step later counts.
            expectile: A state's worth is this expectile of its actions' worth: 0.5 is the mean of
                what was done, towards 1 the best of it.

        Raises:
            ValueError: If discount or expectile lie outside 0 to 1.
        """
        super().__init__()
        if not 0 <= discount < 1 or not 0 < expectile < 1:
            raise ValueError(
                "discount must be from 0 to below 1 and expectile between 0 and 1, got "
                f"{discount:g} and {expectile:g}."
            )
        self.discount, self.expectile = discount, expectile
        self.sizes = {"state": state, "action": action, "preference": preference, "width": width}
        inner = state + preference
        self.actions = nn.ModuleList(_network(inner + action, width) for _ in range(2))
        self.slow_actions = nn.ModuleList(_network(inner + action, width) for _ in range(2))
        self.slow_actions.load_state_dict(self.actions.state_dict())
        self.slow_actions.requires_grad_(requires_grad=False)
        self.states = _network(inner, width)
        for name, size in (("state", inner), ("action", action)):
            self.register_buffer(f"{name}_shift", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

    def forward(
        self, x: Float[Tensor, "batch particle action"], context: CriticContext
    ) -> Float[Tensor, "batch particle"]:
        """The lower of the two slow estimates."""
        return self._worth(self.slow_actions, self._seen(context), x).amin(0)

    def fit_scales(self, data: Transitions) -> None:
        """Take the means and spreads of states, preferences and actions from transitions."""
        context = torch.cat((data.state, data.preference), -1)
        for name, values in (("state", context), ("action", data.action)):
            getattr(self, f"{name}_shift").copy_(values.mean(0))
            spread = values.std(0, correction=0)
            getattr(self, f"{name}_scale").copy_(
                torch.where(spread > SMALLEST_SCALE, spread, torch.ones_like(spread))
            )

    def loss_iql(self, data: Transitions) -> Float[Tensor, ""]:
        """Squared error of the actions' worth, and the expectile loss of the states'.

        An action is worth `reward + discount * worth of the next state`; a state the expectile of
        its logged actions. No action is asked about that was not done.
        """
        seen = self._seen(CriticContext(data.state, data.preference))
        then = self._seen(CriticContext(data.next_state, data.next_preference))
        done = data.action[:, None]
        with torch.no_grad():
            lower = self._worth(self.slow_actions, seen, done).amin(0)[:, 0]
            following = self.states(then)[:, 0].masked_fill(data.ended, 0.0)
            aim = data.reward + self.discount * following
        error = self._worth(self.actions, seen, done)[..., 0] - aim
        return error.square().mean() + expectile_loss(
            lower - self.states(seen)[:, 0], self.expectile
        )

    def loss_cal_ql(self, data: Transitions) -> Float[Tensor, ""]:
        """How much more the candidates seem worth than what was done: `log mean exp Q - Q(done)`.

        A candidate counts as worth at least what the log earned from there on, so that worth is
        not pushed below what is known. Random actions come as candidates too, if they are wanted.
        """
        seen = self._seen(CriticContext(data.state, data.preference))
        asked = torch.cat((data.action[:, None], data.candidates), 1)
        worth = self._worth(self.actions, seen, asked)
        done, others = worth[..., 0], worth[..., 1:]
        calibrated = torch.maximum(others, data.to_go[:, None])
        return (calibrated.logsumexp(-1) - math.log(others.shape[-1]) - done).mean()

    @torch.no_grad()
    def follow(self, rate: float = 5e-3) -> None:
        """Move the slow copies a little towards the estimates."""
        pairs = zip(self.slow_actions.parameters(), self.actions.parameters(), strict=True)
        for slow, quick in pairs:
            slow.lerp_(quick, rate)

    def _seen(self, context: CriticContext) -> Float[Tensor, "row seen"]:
        both = torch.cat((context.state, context.preference), -1)
        return (both - self.state_shift) / self.state_scale

    def _worth(
        self,
        networks: nn.ModuleList,
        seen: Float[Tensor, "row seen"],
        actions: Float[Tensor, "row particle action"],
    ) -> Float[Tensor, "network row particle"]:
        scaled = (actions - self.action_shift) / self.action_scale
        joined = torch.cat((seen[:, None].expand(-1, actions.shape[1], -1), scaled), -1)
        return torch.stack([network(joined)[..., 0] for network in networks])


def expectile_loss(errors: Float[Tensor, " row"], expectile: float) -> Float[Tensor, ""]:
    """Mean squared error in which a positive error weighs `expectile`, a negative one the rest.

    Example:
        >>> expectile_loss(torch.tensor([2.0, -2.0]), 0.7)
        tensor(2.)
    """
    weight = torch.where(errors > 0, expectile, 1 - expectile)
    return (weight * errors.square()).mean()


def transitions_along(
    context: CriticContext,
    action: Float[Tensor, "row action"],
    reward: Float[Tensor, " row"],
    ended: Bool[Tensor, " row"],
    candidates: Float[Tensor, "row candidate action"],
    *,
    discount: float,
) -> Transitions:
    """Transitions from every row to the next one of its run.

    Args:
        context: What was known and asked; runs one after another, each in the order of time.
        action: What was done.
        reward: What came of it at once.
        ended: True at the last row of every run, and of all.
        candidates: What the generator would have done instead.
        discount: What a reward one step later counts.

    Raises:
        ValueError: If the last row does not end its run.
    """
    to_go = returns_to_go(reward, ended, discount)
    then = torch.arange(len(ended), device=ended.device) + (~ended).long()
    return Transitions(
        context.state,
        context.preference,
        action,
        reward,
        context.state[then],
        context.preference[then],
        ended,
        to_go,
        candidates,
    )


def returns_to_go(
    rewards: Float[Tensor, " row"], ended: Bool[Tensor, " row"], discount: float
) -> Float[Tensor, " row"]:
    """Discounted sum of the rewards from each row to the end of its run.

    Args:
        rewards: Runs one after another, each in the order of time.
        ended: True at the last row of every run, and of all.
        discount: What a reward one step later counts.

    Raises:
        ValueError: If the last row does not end its run.

    Example:
        >>> end = torch.tensor([False, True, True])
        >>> returns_to_go(torch.tensor([1.0, 2.0, 4.0]), end, 0.5)
        tensor([2., 2., 4.])
    """
    if len(ended) and not ended[-1]:
        raise ValueError("ended must be true at the last row.")
    found, after = [], 0.0
    for reward, last in zip(reversed(rewards.tolist()), reversed(ended.tolist()), strict=True):
        after = reward + (0.0 if last else discount * after)
        found.append(after)
    return torch.tensor(found[::-1], dtype=rewards.dtype)


def _network(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
    )
