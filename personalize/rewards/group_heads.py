"""Heads of several networks: one per group of annotators, or one per bootstrap sample."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from personalize.preference_optimization.contrast import Contrast
from personalize.rewards.feature_comparisons import FeatureComparisons
from personalize.rewards.heads import scored_as
from personalize.rewards.preference_model import Encoded, PreferenceHead, Sizes


@final
class MixtureHead(PreferenceHead):
    """One score per group of annotators, who are moved to the group that explains them best.

    Hard expectation-maximisation: a pass over the data fits every group's score to the comparisons
    of its people, then `settle` moves people. They begin in turn, `annotator modulo groups`. Where
    nobody is named, groups vote with their shares. For features of responses alone, without an
    encoder, there is `fit_groups`.

    Attributes:
        group_of: Group of every annotator; those who were never heard are in the largest.

    Source:
        Chakraborty et al., 2024, MaxMin-RLHF, arXiv:2402.08925, with the released first groups.
    """

    settles = True
    group_of: Tensor
    passes_left: Tensor

    def __init__(
        self, sizes: Sizes, hidden_width: int, *, groups: int = 2, first_passes: int = 1
    ) -> None:
        """Build the layers.

        Args:
            sizes: Of the data.
            hidden_width: Of what the encoder makes.
            groups: How many.
            first_passes: Passes over the data before people move for the first time.

        Raises:
            ValueError: If there are more groups than annotators, or less than one.
        """
        super().__init__()
        if not 1 <= groups <= sizes.annotators:
            raise ValueError(
                f"groups must lie between 1 and the {sizes.annotators} annotators, got {groups}."
            )
        self.names = tuple(f"group_{number}" for number in range(groups))
        self.layer = nn.Linear(hidden_width, groups)
        self.register_buffer("group_of", torch.arange(sizes.annotators) % groups)
        self.register_buffer("passes_left", torch.tensor(first_passes))

    def score(self, encoded: Encoded) -> Float[Tensor, "*row group"]:
        """See `PreferenceHead`; one per group, each on its own scale."""
        return self.layer(encoded.hidden)

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """The difference of the annotator's group; without one, the logit of the groups' vote."""
        margins = self.score(first) - self.score(second)
        if annotator is not None:
            return margins.gather(-1, self.group_of[annotator][..., None])[..., 0]
        shares = functional.one_hot(self.group_of, len(self.names)).to(margins).mean(0)
        wins = (shares * margins.sigmoid()).sum(-1).clamp_min(1e-12).log()
        return wins - (shares * (-margins).sigmoid()).sum(-1).clamp_min(1e-12).log()

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """The contrast of the scores of each annotator's group."""
        group = self.group_of[comparisons.annotator][:, None, None]
        score = self.score(encoded)
        own = score.gather(-1, group.expand(*score.shape[:-1], 1))[..., 0]
        return contrast(scored_as(own, comparisons))

    @torch.no_grad()
    def settle(self, encoded: Encoded, comparisons: FeatureComparisons) -> None:
        """Move everybody to the group under which their comparisons are likeliest."""
        if self.passes_left > 0:
            self.passes_left -= 1
            return
        score = self.score(encoded)
        margin = score[:, :1] - score[:, 1:]
        share = comparisons.win_share[:, None, None]
        said = share * functional.logsigmoid(margin) + (1 - share) * functional.logsigmoid(-margin)
        each = (said * comparisons.present[:, 1:, None]).sum(1)
        people = len(self.group_of)
        total = each.new_zeros(people, each.shape[1]).index_add(0, comparisons.annotator, each)
        heard = torch.bincount(comparisons.annotator, minlength=people) > 0
        moved = total.argmax(-1)
        largest = torch.bincount(moved[heard], minlength=len(self.names)).argmax()
        self.group_of.copy_(torch.where(heard, moved, largest))


@final
class EnsembleHead(PreferenceHead):
    """Several networks, each fitted to its own bootstrap sample: a mean and a spread.

    Every member counts a comparison as often as a Poisson draw of mean 1 says, which is what
    drawing with replacement comes to. Members read context and response themselves and share
    nothing, so that their spread is not that of last layers alone.

    Source:
        In the manner of Wang et al., 2024, Secrets of RLHF in Large Language Models Part II,
        arXiv:2401.06080, who shuffle the data; the Poisson bootstrap is that of Oza and Russell,
        2001.
    """

    names = ("reward",)
    counts: Tensor

    def __init__(
        self,
        sizes: Sizes,
        hidden_width: int,
        *,
        members: int = 10,
        width: int = 64,
        seed: int = 0,
    ) -> None:
        """Build the networks.

        Args:
            sizes: Of the data.
            hidden_width: Not read.
            members: How many.
            width: Of each one's hidden layer; 0 makes them linear.
            seed: Of the bootstrap samples.

        Raises:
            ValueError: If there are fewer than two members.
        """
        super().__init__()
        if members < 2:
            raise ValueError(f"members must be 2 or more to have a spread, got {members}.")
        inputs = sizes.context_width + sizes.response_width
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, 1))
            if width
            else nn.Linear(inputs, 1, bias=False)
            for _ in range(members)
        )
        generator = torch.Generator().manual_seed(seed)
        rate = torch.ones(sizes.comparisons, members)
        self.register_buffer("counts", torch.poisson(rate, generator), persistent=False)

    def member_scores(self, encoded: Encoded) -> Float[Tensor, "*row member"]:
        """The score of every member."""
        features = torch.cat([encoded.context, encoded.response], -1)
        return torch.cat([network(features) for network in self.networks], -1)

    def score(self, encoded: Encoded) -> Float[Tensor, "*row 1"]:
        """The members' mean."""
        return self.member_scores(encoded).mean(-1, keepdim=True)

    def spread(self, encoded: Encoded) -> Float[Tensor, "*row"]:
        """The members' standard deviation; scores of a member mean something up to a constant."""
        return self.member_scores(encoded).std(-1)

    def compare(
        self, first: Encoded, second: Encoded, annotator: Int[Tensor, "*row"] | None = None
    ) -> Float[Tensor, "*row"]:
        """The difference of means."""
        return (self.score(first) - self.score(second))[..., 0]

    def loss(
        self, encoded: Encoded, comparisons: FeatureComparisons, contrast: Contrast
    ) -> Float[Tensor, " comparison"]:
        """Mean over members of their contrasts, each counted as its bootstrap sample says."""
        scores = self.member_scores(encoded).unbind(-1)
        each = torch.stack([contrast(scored_as(score, comparisons)) for score in scores], -1)
        return (self.counts[comparisons.number] * each).mean(-1)
