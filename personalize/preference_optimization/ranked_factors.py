"""Comparisons from a ranking of factors: the most important one that differs enough decides."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from personalize.preference_optimization.comparisons import Comparisons, decided


@final
@dataclass(frozen=True)
class RankedFactors:
    """Compares by the first factor, in order of importance, that differs by more than its margin.

    Only the order of the factors and what counts as a difference is asked for, no weights: a factor
    in other units, with its margin in the same, changes no comparison.

    With margins the relation is not transitive: small differences that a margin swallows add up, so
    a may beat b, b beat c and c beat a. No score can agree with all three; see `cycle_rate`.

    Attributes:
        names: Factors, the most important first; of each, more is better.
        margins: What each must differ by, in its own units; one per factor.

    Raises:
        ValueError: If there are not as many margins as names, there is no factor, or a margin is
            negative.

    Source:
        Bukharin et al., 2023, Deep Reinforcement Learning from Hierarchical Preference Design
        (HERON), arXiv:2309.02632. The released code reuses the second margin for the third and
        fourth factor; here each has its own.
    """

    names: tuple[str, ...]
    margins: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.margins):
            raise ValueError(
                f"margins must be one per factor, and a factor there must be, got "
                f"{len(self.margins)} for {len(self.names)}."
            )
        if not all(margin >= 0 for margin in self.margins):
            raise ValueError(f"margins must not be negative, got {self.margins}.")

    def __call__(
        self, first: Float[Tensor, "*#pair factor"], second: Float[Tensor, "*#pair factor"]
    ) -> tuple[Int[Tensor, "*#pair"], Int[Tensor, "*#pair"]]:
        """Who wins each pair, and by which factor; the two are broadcast to one shape.

        Returns:
            1 where the first wins, -1 where the second does, 0 where nothing decides; and the
            number of the factor that decided, which is the number of factors where none did.

        Example:
            >>> safe_then_fast = RankedFactors(("safe", "fast"), (0.0, 1.0))
            >>> first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 5.0]])
            >>> [part.tolist() for part in safe_then_fast(first, second)]
            [[-1], [1]]
        """
        gap = first - second
        sign = gap.sign().long() * (gap.abs() > gap.new_tensor(self.margins)).long()
        undecided = torch.cat([sign == 0, torch.zeros_like(sign[..., :1], dtype=torch.bool)], -1)
        level = (~undecided).long().argmax(-1)  # the first that decides; the one added at the end
        padded = torch.cat([sign, torch.zeros_like(sign[..., :1])], -1)
        return padded.gather(-1, level[..., None])[..., 0], level


def ranked_by_scale(
    names: tuple[str, ...], factors: Float[Tensor, "row factor"], shares: tuple[float, ...]
) -> RankedFactors:
    """A ranking whose margins are shares of each factor's standard deviation over some rows.

    The released code takes the deviation of every batch anew, so that the answer to one pair hangs
    on what else is in the batch. Here margins are fixed once, on all rows.

    Args:
        names: Factors, the most important first.
        factors: Their values over many responses.
        shares: Margin of each factor, in standard deviations.

    Raises:
        ValueError: If numbers of names, factors and shares differ, or a share is negative.
    """
    if not len(names) == factors.shape[1] == len(shares):
        raise ValueError(
            f"names, factors and shares must be as many, got {len(names)}, {factors.shape[1]} "
            f"and {len(shares)}."
        )
    deviation = factors.double().std(0)
    margins = (deviation * deviation.new_tensor(shares)).tolist()
    return RankedFactors(names, tuple(margins))


@dataclass(frozen=True)
class RankedComparisons:
    """Comparisons by a ranking of factors, and how they came about.

    Attributes:
        comparisons: Decided pairs, the winner first.
        level: Number of the factor that decided each.
        undecided: How many pairs nothing decided; they are left out.
    """

    comparisons: Comparisons
    level: Int[Tensor, " comparison"]
    undecided: int


def ranked_comparisons(
    factors: Float[Tensor, "row factor"],
    ranking: RankedFactors,
    contexts: Int[Tensor, " row"],
    *,
    per_row: int = 4,
    seed: int = 0,
) -> RankedComparisons:
    """Comparisons of rows with random partners of their own context.

    Args:
        factors: Factors of every response, in the order of the ranking.
        ranking: Who wins.
        contexts: What each response was made for; only responses to one context are compared.
        per_row: Partners drawn for every row; the same pair may be drawn twice and counts once.
        seed: Of the partners.

    Raises:
        ValueError: If `per_row` is below 1, or no pair is decided.
    """
    if per_row < 1:
        raise ValueError(f"per_row must be 1 or more, got {per_row}.")
    order = torch.argsort(contexts, stable=True)
    _, sizes = torch.unique_consecutive(contexts[order], return_counts=True)
    size = sizes.repeat_interleave(sizes)
    start = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    place = torch.arange(len(order), device=start.device) - start
    generator = Generator().manual_seed(seed)
    draw = torch.rand(per_row, len(order), generator=generator, dtype=torch.float64).to(size.device)
    step = 1 + (draw * (size - 1)).long()  # never 0 of a whole turn: a partner is another row
    partner = (place + step) % size + start
    pairs = torch.stack([order.expand(per_row, -1), order[partner]], -1)[:, size > 1].flatten(0, 1)
    pairs = torch.unique(pairs.sort(-1).values, dim=0)
    sign, level = ranking(factors[pairs[:, 0]], factors[pairs[:, 1]])
    won = sign != 0
    if not won.any():
        raise ValueError("No pair is decided: every difference is within its margin.")
    winner_first = torch.where((sign < 0)[:, None], pairs.flip(-1), pairs)[won]
    return RankedComparisons(decided(winner_first), level[won], int((~won).sum()))


def cycle_rate(winners: Int[Tensor, "row row"]) -> float:
    """Share of cycles among the triples of rows whose three comparisons are all decided.

    A random tournament has 1/4. Anything above 0 is what no single score can fit.

    Args:
        winners: 1 where the row's response beats the column's, -1 where it loses, 0 for neither;
            the transposed matrix is its negative.

    Returns:
        0 where no triple is decided.

    Raises:
        ValueError: If the matrix is not the negative of its transpose.

    Example:
        >>> beats = torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
        >>> cycle_rate(beats)
        1.0
    """
    if (winners != -winners.T).any():
        raise ValueError("winners must be the negative of its transpose: if a beats b, b loses.")
    beats, met = (winners > 0).double(), (winners != 0).double()
    cycles = (beats @ beats * beats.T).sum() / 3
    triples = (met @ met * met).sum() / 6
    return float(cycles / triples) if triples else 0.0
