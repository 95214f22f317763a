"""How a critic is fitted to transitions: a plain loop, seeded."""

from dataclasses import dataclass

import torch

from personalize.rewards.bradley_terry import seeded
from personalize.rewards.critic import Critic, Transitions


@dataclass(frozen=True)
class CriticTraining:
    """The settings of the loop.

    Attributes:
        steps: Gradient steps.
        batch_size: Transitions in a step.
        learning_rate: Of Adam.
        candidate_weight: Of `Critic.loss_cal_ql`; 0 leaves it out.
        follow_rate: Of `Critic.follow`, after every step.
        seed: Of the transitions that are drawn.

    Raises:
        ValueError: If steps or batch size are below 1, or the weight is negative.
    """

    steps: int = 3000
    batch_size: int = 256
    learning_rate: float = 3e-4
    candidate_weight: float = 5.0
    follow_rate: float = 5e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.candidate_weight < 0:
            raise ValueError(
                "steps and batch_size must be at least 1 and candidate_weight at least 0, got "
                f"{self.steps}, {self.batch_size} and {self.candidate_weight:g}."
            )


def fitted_critic(
    data: Transitions, settings: CriticTraining, *, width: int, discount: float
) -> tuple[Critic, dict[str, float]]:
    """A new critic of the sizes of some transitions, fitted to them, and its losses.

    Args:
        data: All transitions.
        settings: How; first weights follow from its seed too.
        width: Of the critic's hidden layers.
        discount: What a reward one step later counts.
    """
    sizes = {name: getattr(data, name).shape[1] for name in ("state", "action", "preference")}
    critic = seeded(lambda: Critic(**sizes, width=width, discount=discount), settings.seed)
    return critic, fit_critic(critic, data, settings)


def fit_critic(critic: Critic, data: Transitions, settings: CriticTraining) -> dict[str, float]:
    """Fit a critic in place and leave it in evaluation mode.

    Args:
        critic: With any weights.
        data: All transitions.
        settings: How.

    Returns:
        The mean of each loss over the last tenth of the steps.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    critic.fit_scales(data)
    trained = [*critic.actions.parameters(), *critic.states.parameters()]
    optimizer = torch.optim.Adam(trained, settings.learning_rate)
    sums = {"iql": torch.zeros(()), "cal_ql": torch.zeros(())}
    last = max(1, settings.steps // 10)
    for step in range(settings.steps):
        rows = torch.randint(len(data), (settings.batch_size,), generator=generator)
        batch = data.rows(rows)
        losses = {"iql": critic.loss_iql(batch)}
        loss = losses["iql"]
        if settings.candidate_weight:
            losses["cal_ql"] = critic.loss_cal_ql(batch)
            loss = loss + settings.candidate_weight * losses["cal_ql"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        critic.follow(settings.follow_rate)
        if step >= settings.steps - last:
            for name, value in losses.items():
                sums[name] = sums[name] + value.detach()
    critic.eval()
    return {name: float(total) / last for name, total in sums.items()}
