"""Heads of a preference model with one network: score, attributes, rotation, normal law."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from personalize.preference_optimization.compared import Scored
from personalize.preference_optimization.contrast import Contrast
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.gaussian_reward import Gaussian, preference_probability
from personalize.rewards.preference_model import Encoded, PreferenceHead, Sizes


def scored_as(
    score: Float[Tensor, "comparison response"],
    comparisons: FeatureComparisons,
    logit: Float[Tensor, " comparison"] | None = None,
) -> Scored:
    """Scores of comparisons, or ready logits, with what was judged of them."""
    named = ("present", "strength", "margin", "weight", "grade")
    told: dict[str, Tensor] = {name: getattr(comparisons, name) for name in named}
    if logit is not None:
        told["logit"] = logit
    return Scored.of(score, **told)


@final
class ScalarHead(PreferenceHead):
    """One score; with a logistic contrast this is Bradley and Terry's model.

    Source:
        Bradley and Terry, 1952, doi:10.2307/2334029; the pull to the centre is that of Eisenstein
        et al., 2023, arXiv:2312.09244, as TRL's reward trainer has it.
    """

    names = ("reward",)

    def __init__(self, sizes: Sizes, hidden_width: int, *, centring: float = 0.0) -> None:
        """Build the layer.

        Args:
            sizes: Of the data.
            hidden_width: Of what the encoder makes.
            centring: Weight of the squared sum of a pair's scores, which no comparison determines.
        """
        super().__init__()
        self.centring = centring
        self.layer = nn.Linear(hidden_width, 1)

    def score(self, encoded: Encoded) -> Float[Tensor, "*row 1"]:
        """See `PreferenceHead`."""
        return self.layer(encoded.hidden)

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """The difference of scores."""
        return (self.score(first) - self.score(second))[..., 0]

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """The contrast of the scores, and the pull."""
        score = self.score(encoded)[..., 0]
        sums = (score[:, 0] + score[:, 1]).square()
        return contrast(scored_as(score, comparisons)) + self.centring * sums


@final
class AttributeHead(PreferenceHead):
    """One score per named quality, learnt from its values or from which of two has more of it.

    Who wins is not read at all: what is preferred follows from the weights that a user of the
    scores gives them. `compare` weighs all alike.

    Source:
        In the manner of multi-objective GRPO's reward model, whose named outputs are regressions.
    """

    def __init__(self, sizes: Sizes, hidden_width: int, *, comparing: bool = False) -> None:
        """Build the layer.

        Args:
            sizes: Of the data; it has qualities.
            hidden_width: Of what the encoder makes.
            comparing: Learn from the order of two values in place of the values.

        Raises:
            ValueError: If no quality is known.
        """
        super().__init__()
        if not sizes.qualities:
            raise ValueError("An attribute head needs named qualities, and the data has none.")
        self.names, self.comparing = sizes.qualities, comparing
        self.layer = nn.Linear(hidden_width, len(self.names))

    def score(self, encoded: Encoded) -> Float[Tensor, "*row dimension"]:
        """See `PreferenceHead`."""
        return self.layer(encoded.hidden)

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """The mean difference of scores."""
        return (self.score(first) - self.score(second)).mean(-1)

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """Mean over qualities of the squared error, or of the contrast of the first two."""
        score, quality = self.score(encoded), comparisons.quality
        if not self.comparing:
            error = (score - quality).square().mean(-1) * comparisons.present
            return error.sum(-1) / comparisons.present.sum(-1)
        lead = quality[:, 0] - quality[:, 1]
        losses = []
        for number in range(len(self.names)):
            two, more = score[:, :2, number], lead[:, number]
            ordered = torch.where((more >= 0)[:, None], two, two.flip(-1))
            strength = (more != 0).to(two)
            losses.append(contrast(Scored.of(ordered, strength=strength)))
        return torch.stack(losses, -1).mean(-1)


@final
class SkewSymmetricHead(PreferenceHead):
    """Compares without scores: `sum over blocks of scale * (a0 b1 - a1 b0) / temperature`.

    Every response is a few points in the plane, and is preferred to what lies up to half a turn
    behind it, so that three can beat each other in a circle. No score could say that; where
    preferences are transitive it agrees with one.

    Source:
        Zhang et al., 2024, General Preference Modeling, arXiv:2410.02197. The scales per context
        are written afresh: the released prompt head refers to names that are not there.
    """

    names = ()
    pairs_only = True

    def __init__(
        self,
        sizes: Sizes,
        hidden_width: int,
        *,
        blocks: int = 1,
        temperature: float = 0.1,
        normalize: bool = False,
        context_scales: bool = False,
    ) -> None:
        """Build the layers.

        Args:
            sizes: Of the data.
            hidden_width: Of what the encoder makes.
            blocks: Points in the plane per response; the released default is one.
            temperature: What the logit is divided by.
            normalize: Give every response's points together length 1, which bounds the logit.
            context_scales: Let the context say how much each block counts.

        Raises:
            ValueError: If there is no block or the temperature is not positive.
        """
        super().__init__()
        if blocks < 1 or not temperature > 0:
            raise ValueError(
                f"blocks must be 1 or more and temperature positive, got {blocks} and "
                f"{temperature:g}."
            )
        self.blocks, self.divisor, self.normalize = blocks, temperature, normalize
        self.layer = nn.Linear(hidden_width, 2 * blocks)
        self.scales = nn.Linear(sizes.context_width, blocks) if context_scales else None

    def score(self, encoded: Encoded) -> Float[Tensor, "*row dimension"]:
        """There is none.

        Raises:
            TypeError: Always.
        """
        raise TypeError("SkewSymmetricHead only compares; take the row means of a win matrix.")

    def points(self, encoded: Encoded) -> Float[Tensor, "*row block 2"]:
        """Where every response lies."""
        flat = self.layer(encoded.hidden)
        flat = functional.normalize(flat, dim=-1) if self.normalize else flat
        return flat.unflatten(-1, (self.blocks, 2))

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """See the class; where the two contexts differ their scales are averaged."""
        one, two = self.points(first), self.points(second)
        turned = one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0]
        if self.scales is not None:
            both = self.scales(first.context), self.scales(second.context)
            turned = turned * (functional.softplus(both[0]) + functional.softplus(both[1])) / 2
        return turned.sum(-1) / self.divisor

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """The contrast of the logit; contrasts that need a score of each refuse it."""
        logit = self.compare(encoded.place(0), encoded.place(1))
        return contrast(scored_as(torch.zeros_like(comparisons.grade), comparisons, logit))


@final
class GaussianHead(PreferenceHead):
    """A score that knows how sure it is; two are compared by integrating over both.

    Source:
        As `GaussianReward`, in the manner of PEARL (Liu et al., 2023, arXiv:2306.03615).
    """

    names = ("reward",)
    pairs_only = True

    def __init__(
        self,
        sizes: Sizes,
        hidden_width: int,
        *,
        least_log_variance: float = -4.0,
        entropy_weight: float = 0.1,
    ) -> None:
        """Build the layer.

        Args:
            sizes: Of the data.
            hidden_width: Of what the encoder makes.
            least_log_variance: Log-variance below which spreads are pulled up.
            entropy_weight: How strongly.
        """
        super().__init__()
        self.least_log_variance, self.entropy_weight = least_log_variance, entropy_weight
        self.layer = nn.Linear(hidden_width, 2)

    def law(self, encoded: Encoded) -> Gaussian:
        """The normal law of every row's score."""
        mean, log_spread = self.layer(encoded.hidden).unbind(-1)
        return Gaussian(mean, (2 * log_spread.clamp(-6, 3)).exp())

    def score(self, encoded: Encoded) -> Float[Tensor, "*row 1"]:
        """The means."""
        return self.law(encoded).mean[..., None]

    def spread(self, encoded: Encoded) -> Float[Tensor, "*row"]:
        """The standard deviations."""
        return self.law(encoded).variance.sqrt()

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """Logit of the probability that the first is preferred."""
        one, two = self.law(first), self.law(second)
        wins = preference_probability(one, two).clamp_min(1e-12).log()
        return wins - preference_probability(two, one).clamp_min(1e-12).log()

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """The contrast of the logit, and a pull of spreads that vanish."""
        logit = self.compare(encoded.place(0), encoded.place(1))
        law = self.law(encoded)
        pull = (self.least_log_variance - law.variance[:, :2].log()).clamp_min(0).mean(-1)
        told = contrast(scored_as(law.mean, comparisons, logit))
        return told + self.entropy_weight * pull
