"""Scenes that are nearest to words, a style, a scene, or to several of these at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS
from driving.scene_layout import SceneLayout, style_question
from driving.served_scenes import ServedScenes
from personalize.api.messages import SceneFound, SceneQuery, ScenesFound
from personalize.api.ports import Answers, RequestRefused
from personalize.api.retriever import IdFilter, Retriever
from personalize.conditioning.text import SentenceEncoder

NOTHING = np.zeros(0, np.int64)


def style_numbers_asked(style: Mapping[str, float], *, param: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and mask of a style that is asked for by name.

    Raises:
        RequestRefused: If there is no such dimension.
    """
    if unknown := [name for name in style if name not in STYLE_DIMENSIONS]:
        raise RequestRefused(
            f"There is no style dimension {unknown[0]!r}; known are {', '.join(STYLE_DIMENSIONS)}.",
            param=param,
        )
    values = np.array([style.get(name, 0.0) for name in STYLE_DIMENSIONS], np.float32)
    return values, np.array([name in style for name in STYLE_DIMENSIONS])


@dataclass(frozen=True)
class _Asked:
    """One query, ready to be searched.

    Attributes:
        parts: Its vector for each similarity asked for, as long as a whole vector.
        only: Numbers that may be found.
        never: Numbers that may not.
        count: How many are wanted.
    """

    parts: Mapping[str, Float32[np.ndarray, " width"]]
    only: np.ndarray | None
    never: np.ndarray
    count: int

    @property
    def vector(self) -> Float32[np.ndarray, " width"]:
        """Its inner product with a scene's vector is the mean of the similarities."""
        return np.stack(list(self.parts.values())).mean(0, dtype=np.float32)


@dataclass(frozen=True)
class SceneSearch:
    """Searches the vectors that `driving embed` wrote.

    Attributes:
        scenes: What is served.
        retriever: Searches the vectors by `sample_id`.
        vectors: All of them, as they were written.
        row_of: The row of a `sample_id` among them.
        layout: What their parts are.
        encoder: The sentence model of the texts; None where there are no texts.
    """

    scenes: ServedScenes
    retriever: Retriever
    vectors: Float32[np.ndarray, "sample width"]
    row_of: Mapping[int, int]
    layout: SceneLayout
    encoder: SentenceEncoder | None

    def retrieve(self, queries: Sequence[SceneQuery]) -> Answers[ScenesFound]:
        """The scenes nearest to every query.

        Queries of the same filters and count are searched together.
        """
        texts = self._texts(queries)
        asked: list[_Asked | RequestRefused] = []
        for query in queries:
            try:
                asked.append(self._asked(query, texts))
            except RequestRefused as refused:
                asked.append(refused)
        groups: dict[tuple, list[int]] = {}
        for place, one in enumerate(asked):
            if isinstance(one, _Asked):
                only = None if one.only is None else one.only.tobytes()
                groups.setdefault((only, one.never.tobytes(), one.count), []).append(place)
        found: dict[int, ScenesFound] = {}
        for places in groups.values():
            ready = [one for place in places if isinstance(one := asked[place], _Asked)]
            found |= zip(places, self._searched(ready), strict=True)
        return [
            one if isinstance(one, RequestRefused) else found[place]
            for place, one in enumerate(asked)
        ]

    @cached_property
    def _all_served(self) -> bool:
        """Whether no vector is of a split that is not served."""
        return bool(np.isin(np.fromiter(self.row_of, np.int64), self.scenes.numbers).all())

    def _texts(self, queries: Sequence[SceneQuery]) -> Mapping[str, np.ndarray]:
        """Vectors of the texts asked for, each encoded by itself so that none moves another."""
        if self.encoder is None:
            return {}
        distinct = dict.fromkeys(query.text for query in queries if query.text is not None)
        return {text: self.encoder.encode([text])[0] for text in distinct}

    def _asked(self, query: SceneQuery, texts: Mapping[str, np.ndarray]) -> _Asked:
        parts: dict[str, np.ndarray] = {}
        never = NOTHING
        if query.text is not None:
            if query.text not in texts:
                raise RequestRefused(
                    "These scenes were embedded without their texts; ask by style or like, or run "
                    "driving embed again without --no-texts.",
                    param="text",
                )
            parts["text"] = self._placed(self.layout.text_part, texts[query.text])
        if query.style:
            question = style_question(*style_numbers_asked(query.style, param="style"))
            parts["style"] = self._placed(self.layout.style_part, question)
        if query.like is not None:
            number = int(self.scenes.numbers[self.scenes.row(query.like, param="like")])
            part = self.layout.scene_part
            if number not in self.row_of:
                raise RequestRefused(
                    f"The scene {query.like!r} was not embedded; run driving embed on its split.",
                    param="like",
                )
            parts["like"] = self._placed(part, self.vectors[self.row_of[number], part])
            never = np.array([number], np.int64)
        return _Asked(parts, self.scenes.allowed(query.filters), never, query.k)

    def _placed(self, part: slice, values: np.ndarray) -> Float32[np.ndarray, " width"]:
        whole = np.zeros(self.layout.width, np.float32)
        whole[part] = values
        return whole

    def _searched(self, asked: Sequence[_Asked]) -> list[ScenesFound]:
        """Answers to queries that share filters and count."""
        only, never, count = asked[0].only, asked[0].never, asked[0].count
        if only is None and not self._all_served:
            only = self.scenes.numbers
        if only is not None and not len(only):
            return [ScenesFound(scenes=[]) for _ in asked]
        found = self.retriever.search(
            np.stack([one.vector for one in asked]),
            count=count,
            only=IdFilter(only, never if len(never) else None),
        )
        return [self._answer(one, ids[ids >= 0]) for one, ids in zip(asked, found.ids, strict=True)]

    def _answer(self, asked: _Asked, ids: np.ndarray) -> ScenesFound:
        """Similarities worked out anew in float64, so that they depend on nothing but their own."""
        rows = [self.row_of[int(number)] for number in ids]
        vectors = np.asarray(self.vectors[rows], np.float64)
        each = {name: (vectors * part).sum(-1) for name, part in asked.parts.items()}
        score = np.mean(list(each.values()), axis=0) if len(ids) else np.zeros(0)
        order = np.lexsort((ids, -score))
        return ScenesFound(
            scenes=[
                SceneFound(
                    scene=self.scenes.scene(self.scenes.row_of_number(int(ids[place]))),
                    score=round(float(score[place]), 6),
                    similarities={
                        name: round(float(values[place]), 6) for name, values in each.items()
                    },
                )
                for place in order
            ]
        )
