"""A reward under a context, and what is preferred when the context is not known."""

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from personalize.generator import Context, Value, X
from personalize.preference_optimization.comparisons import Comparisons
from personalize.rewards.bradley_terry import RewardTraining, bradley_terry_loss, seeded, train


@final
class ContextReward(nn.Module):
    """Bradley-Terry score of a response in a context: a network that reads both.

    The context may be a preference's text vector, a style vector, a goal: anything of fixed width.
    Reading it is no promise that it matters; `personalize.evaluation.reversals` measures that.

    Source:
        In the manner of Pitis et al., 2024, Improving Context-Aware Preference Modeling for
        Language Models, arXiv:2407.14916: first a context, then a preference given it.
    """

    def __init__(self, response_width: int, context_width: int, *, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(response_width + context_width, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 1),
        )

    def forward(
        self,
        responses: Float[Tensor, "*row response_width"],
        contexts: Float[Tensor, "*row context_width"],
    ) -> Float[Tensor, "*row"]:
        """The score of every response in its context; only differences within one mean anything."""
        return self.layers(torch.cat([responses, contexts], -1))[..., 0]


def fit_context_reward(
    responses: Float[Tensor, "row response_width"],
    contexts: Float[Tensor, "row context_width"],
    comparisons: Comparisons,
    *,
    width: int = 128,
    training: RewardTraining | None = None,
) -> ContextReward:
    """A context reward from comparisons of (response, context) rows.

    Args:
        responses: Features of the response of each row.
        contexts: Its context.
        comparisons: Of these rows; usually both of one context.
        width: Width of the network.
        training: Steps, rate and seed.

    Raises:
        ValueError: If there is no comparison.
    """
    chosen = training or RewardTraining()

    def build() -> ContextReward:
        return ContextReward(responses.shape[1], contexts.shape[1], width=width)

    model = seeded(build, chosen.seed)
    better, worse, share = comparisons.better, comparisons.worse, comparisons.win_share

    def loss(drawn: Tensor) -> Tensor:
        won = model(responses[better[drawn]], contexts[better[drawn]])
        lost = model(responses[worse[drawn]], contexts[worse[drawn]])
        return bradley_terry_loss(won - lost, share[drawn]).mean()

    train(model, loss, len(comparisons), chosen)
    return model


def marginal_win_share(
    context_shares: Float[Tensor, "*pair context"], margins: Float[Tensor, "*pair context"]
) -> Float[Tensor, "*pair"]:
    """Probability that the first of a pair is preferred, where the context is only guessed.

    It is the mean over contexts of the probability under each. The mean of the margins would be
    another number: one context that decides clearly would outvote all others.

    Args:
        context_shares: Probability of every context; sums to 1.
        margins: Score of the first minus score of the second under every context.

    Returns:
        `sum over contexts of share * sigma(margin)`. Its error is at most the total variation
        distance of the shares plus the mean error under the contexts.

    Source:
        The decomposition of Pitis et al., 2024, arXiv:2407.14916.

    Example:
        >>> marginal_win_share(torch.tensor([0.75, 0.25]), torch.tensor([100.0, -100.0]))
        tensor(0.7500)
    """
    return (context_shares * margins.sigmoid()).sum(-1)


def chosen_win_share(
    context_shares: Float[Tensor, "*pair context"], margins: Float[Tensor, "*pair context"]
) -> Float[Tensor, "*pair"]:
    """Probability that the first is preferred under the likeliest context alone.

    It ranks pairs as surely as the context is known and is too certain wherever it is not: where a
    probability is wanted, take `marginal_win_share`.

    Example:
        >>> chosen_win_share(torch.tensor([0.75, 0.25]), torch.tensor([100.0, -100.0]))
        tensor(1.)
    """
    likeliest = context_shares.argmax(-1, keepdim=True)
    return margins.gather(-1, likeliest)[..., 0].sigmoid()


def context_posterior(
    log_prior: Float[Tensor, "*person context"],
    margins: Float[Tensor, "*person evidence context"],
) -> Float[Tensor, "*person context"]:
    """What is believed of the context after some comparisons that were answered in it.

    Args:
        log_prior: Logarithm of what was believed before; need not be normalised.
        margins: Score of what was preferred minus score of what was not, under every context. With
            no evidence the prior remains.

    Returns:
        Probabilities that sum to 1.

    Example:
        >>> context_posterior(torch.zeros(2), torch.tensor([[100.0, 0.0]]))
        tensor([0.6667, 0.3333])
    """
    likelihood = nn.functional.logsigmoid(margins).sum(-2)
    return torch.softmax(log_prior + likelihood, -1)


@final
class ContextValue(Value[X, Context]):
    """The score of what was generated, under a context per row of the batch."""

    def __init__(
        self,
        model: ContextReward,
        features: Callable[[X, Context], Float[Tensor, "batch particle response_width"]],
        contexts: Float[Tensor, "batch context_width"],
    ) -> None:
        """Take the model, what turns particles into features, and the contexts."""
        self._model, self._features, self._contexts = model, features, contexts

    def __call__(self, x: X, context: Context) -> Float[Tensor, "batch particle"]:
        """The score of every particle."""
        features = self._features(x, context)
        contexts = self._contexts[:, None].expand(-1, features.shape[1], -1)
        return self._model(features, contexts)
