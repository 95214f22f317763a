"""What is likely to follow an item after a history, learnt from training interactions alone."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.errors import InputError
from data_prep.schema import INTERACTIONS
from personalize.preference_optimization.follow_up import FollowUpModel
from recsys.collate import windows
from recsys.histories import Histories

OF_THE_KIND, OF_ANOTHER_KIND = "of_the_kind", "of_another_kind"
NOTHING, LOW_RATING = "nothing", "low_rating"
EVENTS = (OF_THE_KIND, OF_ANOTHER_KIND, NOTHING, LOW_RATING)
KINDS, NEXT, LOW_STARS = 16, 3, 2.0
NEAR, FAR = 0.8, 0.5
SAMPLE, ROWS_AT_ONCE = 300, 512


@dataclass(frozen=True)
class ItemKinds:
    """Items as the model of what follows sees them.

    Attributes:
        vectors: Unit vector of every item's text.
        popularity: From 0 to 1.
        kinds: The vectors along their main directions, each of unit spread.
    """

    vectors: Float[Tensor, "item width"]
    popularity: Float[Tensor, " item"]
    kinds: Float[Tensor, "item kind"]

    @classmethod
    def of(
        cls, vectors: Float[Tensor, "item width"], popularity: Float[Tensor, " item"]
    ) -> "ItemKinds":
        """Find the main directions."""
        centred = vectors.double() - vectors.double().mean(0)
        _, directions = torch.linalg.eigh(centred.T @ centred)
        kinds = centred @ directions[:, -KINDS:].flip(1)
        kinds = kinds / kinds.std(0, correction=0).clamp_min(1e-6)
        return cls(vectors, popularity, kinds.to(vectors))

    def features(
        self,
        history: Int[Tensor, "row step"],
        real: Bool[Tensor, "row step"],
        item_ids: Int[Tensor, "row particle"],
    ) -> Float[Tensor, "row particle feature"]:
        """Of items after a history: likeness to it, popularity, kind, and kind by kind of it.

        Args:
            history: Items met before.
            real: Which of them are.
            item_ids: Items.
        """
        count = real.sum(1, keepdim=True).clamp_min(1)
        vectors = self.vectors[item_ids]
        likeness = vectors @ self.vectors[history].mT
        likeness = likeness.masked_fill(~real[:, None], -1.0)
        mean = (likeness * real[:, None]).sum(-1) / count
        kind = self.kinds[item_ids]
        usual = (self.kinds[history] * real.unsqueeze(-1)).sum(1) / count
        plain = torch.stack([mean, likeness.amax(-1), self.popularity[item_ids]], -1)
        return torch.cat([plain, kind, kind * usual[:, None]], -1)


@dataclass(frozen=True)
class FollowUps:
    """The model of what follows, one logistic regression per event.

    Events of a training interaction: one of the person's next three training interactions is as
    like it as one in five pairs of items is (`of_the_kind`); they are less like it than most pairs,
    on average (`of_another_kind`); there is none (`nothing`), which with held-out last interactions
    says no more than that it is late in a history; the person gave it two stars or fewer
    (`low_rating`). The first two are learnt where there is a next one, the last where there are
    stars.

    Attributes:
        items: What is known of items.
        centre: Mean of each feature.
        deviation: Spread of each.
        models: By event.

    Source:
        In the manner of FLR (arXiv:2409.13948), with what a person does next in place of what is
        said next.
    """

    items: ItemKinds
    centre: Float[Tensor, " feature"]
    deviation: Float[Tensor, " feature"]
    models: Mapping[str, FollowUpModel]

    @torch.no_grad()
    def log_likelihood(
        self,
        event: str,
        history: Int[Tensor, "row step"],
        real: Bool[Tensor, "row step"],
        item_ids: Int[Tensor, "row particle"],
    ) -> Float[Tensor, "row particle"]:
        """How likely an event is to follow items; see `ItemKinds.features`.

        Raises:
            ValueError: If the event was not learnt.
        """
        if event not in self.models:
            raise ValueError(f"{event} was not learnt; there are {', '.join(self.models)}.")
        features = self.items.features(history, real, item_ids)
        return self.models[event]((features - self.centre) / self.deviation)[..., 0]

    def to(self, device: torch.device | str) -> "FollowUps":
        """The same on another device."""
        items = {name: value.to(device) for name, value in vars(self.items).items()}
        return replace(
            self,
            items=ItemKinds(**items),
            centre=self.centre.to(device),
            deviation=self.deviation.to(device),
            models={name: copy.deepcopy(one).to(device) for name, one in self.models.items()},
        )


def learnt_follow_ups(
    tables: Path, items: ItemKinds, events: Sequence[str], *, maximum_history: int
) -> FollowUps:
    """Learn events from the training interactions of an artifact; later ones are not looked at.

    Args:
        tables: Artifact `reviews`; it may have no stars and no times.
        items: What is known of items.
        events: Some of `EVENTS`.
        maximum_history: Newest steps of a history.

    Raises:
        InputError: If no training interaction tells of an event.
    """
    ordered = read_artifact(tables, kind="reviews").table(INTERACTIONS).sort("user_id", "position")
    histories = Histories.from_interactions(ordered)
    stars = ordered["rating"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    rows = histories.prefixes(("train",), maximum_history=maximum_history)
    places = rows.starts + rows.lengths
    features = []
    for starts, lengths, now in _parts(rows.starts, rows.lengths, places):
        past = windows(histories.item_ids, starts, lengths)
        history, real = torch.from_numpy(past.values), torch.from_numpy(past.mask)
        asked = torch.from_numpy(histories.item_ids[now])[:, None]
        features.append(items.features(history, real, asked)[:, 0])
    known = happened_after(histories, stars, places, items.vectors)
    for event in events:
        if not known[event][0].any():
            needed = "ratings" if event == LOW_RATING else "training interactions with a past"
            raise InputError(f"{tables} has no {needed} to learn the follow-up {event} from.")
    found = torch.cat(features).double()
    centre, deviation = found.mean(0), found.std(0, correction=0).clamp_min(1e-6)
    models = {}
    for event in events:
        told, happened = known[event]
        model = FollowUpModel(found.shape[1], (event,))
        model.fit(((found - centre) / deviation)[told], happened[told][:, None])
        models[event] = model.requires_grad_(requires_grad=False)
    return FollowUps(items, centre.to(items.vectors), deviation.to(items.vectors), models)


def happened_after(
    histories: Histories,
    stars: Float[np.ndarray, " interaction"],
    places: Int[np.ndarray, " row"],
    vectors: Float[Tensor, "item width"],
) -> dict[str, tuple[Bool[Tensor, " row"], Bool[Tensor, " row"]]]:
    """For every event, which training interactions tell of it and after which it happened.

    Args:
        histories: All interactions.
        stars: Of each; NaN where there are none.
        places: Training interactions, as places in `histories`.
        vectors: Unit vectors of items.
    """
    near, far = _likeness_quantiles(vectors)
    after = places[:, None] + np.arange(1, NEXT + 1)
    inside = np.minimum(after, len(histories.item_ids) - 1)
    there = (after == inside) & (histories.split_numbers[inside] == 0)
    there &= histories.user_ids[inside] == histories.user_ids[places][:, None]
    likeness = torch.cat(
        [
            torch.einsum(
                "rw,rnw->rn",
                vectors[torch.from_numpy(histories.item_ids[now])],
                vectors[torch.from_numpy(histories.item_ids[following])],
            )
            for now, following in _parts(places, inside)
        ]
        or [torch.zeros(inside.shape)]
    )
    some, real = torch.from_numpy(there.any(1)), torch.from_numpy(there)
    best = likeness.masked_fill(~real, -torch.inf).amax(1)
    mean = (likeness * real).sum(1) / real.sum(1).clamp_min(1)
    given = torch.from_numpy(stars[places])
    return {
        OF_THE_KIND: (some, best >= near),
        OF_ANOTHER_KIND: (some, mean <= far),
        NOTHING: (torch.ones_like(some), ~some),
        LOW_RATING: (~given.isnan(), given <= LOW_STARS),
    }


def _likeness_quantiles(vectors: Float[Tensor, "item width"]) -> tuple[float, float]:
    """Cosines above which two items are alike, and below which they are not."""
    some = vectors[:: max(1, len(vectors) // SAMPLE)].double()
    first, second = torch.triu_indices(len(some), len(some), offset=1)
    alike = (some @ some.T)[first, second].numpy()
    return float(np.quantile(alike, NEAR)), float(np.quantile(alike, FAR))


def _parts(*arrays: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Rows of several arrays, some at once."""
    starts = range(0, len(arrays[0]), ROWS_AT_ONCE)
    return [tuple(array[start : start + ROWS_AT_ONCE] for array in arrays) for start in starts]
