"""What preferences change in a state: nothing where none is stated."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from recsys.catalogue import Catalogue


@dataclass(frozen=True)
class Wishes:
    """What is liked and what is to be avoided: mean vectors of the texts, zero where none is.

    Attributes:
        liked: Mean of the liked texts.
        avoided: Mean of the texts to be avoided.
    """

    liked: Float[Tensor, "*row width"]
    avoided: Float[Tensor, "*row width"]

    def times(self, weight: float) -> "Wishes":
        """The same wishes, more or less urgent."""
        return Wishes(self.liked * weight, self.avoided * weight)


class PreferenceShift(nn.Module):
    """What preferences change: nothing where none is stated.

    Two ways: a shift of the state by learned maps, which start at zero, and a direct match of the
    words with the words of each item, scaled by one learned number each. Liked and avoided texts
    have maps and numbers of their own, so avoiding is not the opposite of liking unless the data
    say so. The match needs so few numbers that a few thousand interactions teach it.
    """

    text_vectors: Float[Tensor, "text width"]

    def __init__(self, catalogue: Catalogue, width: int, *, match: tuple[float, float]) -> None:
        super().__init__()
        self.register_buffer("text_vectors", catalogue.text_vectors, persistent=False)
        self.like = nn.Linear(catalogue.text_width, width, bias=False)
        self.avoid = nn.Linear(catalogue.text_width, width, bias=False)
        self.match_weights = nn.Parameter(torch.tensor(match))
        nn.init.zeros_(self.like.weight)
        nn.init.zeros_(self.avoid.weight)

    def wishes(
        self,
        text_ids: Int[Tensor, "*row preference"],
        mask: Bool[Tensor, "*row preference"],
        avoid: Bool[Tensor, "*row preference"],
        *,
        vectors: Float[Tensor, "*row preference width"] | None = None,
        strength: Float[Tensor, "*row preference"] | None = None,
    ) -> Wishes:
        """What every row wishes.

        Args:
            text_ids: Texts of the catalogue.
            mask: Which are real.
            avoid: Which are to be avoided.
            vectors: What stands in for the texts' vectors; None takes those.
            strength: How much each matters, 0 to 1; None is 1 throughout.
        """
        if not len(self.text_vectors):
            nothing = torch.zeros(*text_ids.shape[:-1], 0, device=text_ids.device)
            return Wishes(nothing, nothing)
        chosen = self.text_vectors[text_ids] if vectors is None else vectors
        return mean_wishes(chosen, mask, avoid, strength)

    def shift(self, wishes: Wishes) -> Float[Tensor, "*row model"]:
        """What is added to every row's state."""
        return self.like(wishes.liked) + self.avoid(wishes.avoided)

    def match(self, wishes: Wishes) -> Float[Tensor, "*row width"]:
        """What asks an item's words: its product with their vector is added to the logit."""
        like, avoid = self.match_weights
        return like * wishes.liked + avoid * wishes.avoided


def mean_wishes(
    vectors: Float[Tensor, "*row preference width"],
    mask: Bool[Tensor, "*row preference"],
    avoid: Bool[Tensor, "*row preference"],
    strength: Float[Tensor, "*row preference"] | None = None,
) -> Wishes:
    """The mean vector of what is liked and of what is to be avoided.

    With strengths a mean is weighted by them and multiplied by the largest. With 1 throughout that
    is the plain mean, a strength of 0 is as good as no preference, and one preference alone is its
    vector times its strength, so nothing jumps where a strength nears 0.

    Args:
        vectors: Vectors of the texts.
        mask: Which are real.
        avoid: Which are to be avoided.
        strength: How much each matters, 0 to 1; None is 1 throughout.
    """
    if strength is None:
        return Wishes(_masked_mean(vectors, mask & ~avoid), _masked_mean(vectors, mask & avoid))
    liked, avoided = strength * (mask & ~avoid), strength * (mask & avoid)
    return Wishes(_weighed_mean(vectors, liked), _weighed_mean(vectors, avoided))


def _masked_mean(
    vectors: Float[Tensor, "*row preference width"], mask: Bool[Tensor, "*row preference"]
) -> Float[Tensor, "*row width"]:
    """Mean over the real preferences; zero where there is none."""
    total = (vectors * mask.unsqueeze(-1)).sum(-2)
    return total / mask.sum(-1, keepdim=True).clamp_min(1)


def _weighed_mean(
    vectors: Float[Tensor, "*row preference width"], strength: Float[Tensor, "*row preference"]
) -> Float[Tensor, "*row width"]:
    """Mean weighted by strength, times the largest strength; zero where all are."""
    total = (vectors * strength.unsqueeze(-1)).sum(-2)
    weight = strength.sum(-1, keepdim=True)
    mean = total / torch.where(weight > 0, weight, 1.0)
    return mean * strength.amax(-1, keepdim=True)
