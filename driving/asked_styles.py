"""The styles a planner is tuned under, and what may stand in for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from driving.evaluation.conditions import asked_styles, inferred_styles
from driving.planner.planner import StyleCondition


@dataclass(frozen=True)
class AskedStyles:
    """Styles by name, a row per moment each.

    Attributes:
        told: What is asked for.
        inferred: What can be inferred of it from how a driver drove before; empty where nothing
            is known of that.
    """

    told: Mapping[str, StyleCondition]
    inferred: Mapping[str, StyleCondition]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        vectors: Mapping[str, np.ndarray] | None,
        sample_ids: Sequence[int] | np.ndarray,
    ) -> "AskedStyles":
        """Styles by the names of conditions.

        Args:
            names: Conditions of `driving.evaluation.conditions`.
            vectors: Arrays of the artifact `style_vectors`; None has none.
            sample_ids: Sample of every moment.

        Raises:
            InputError: If there is no such condition, or its vectors are not there.
        """
        found = {name: inferred_styles(name, vectors, sample_ids) for name in names}
        return cls(
            {name: asked_styles(name, vectors, sample_ids) for name in names},
            {name: style for name, style in found.items() if style is not None},
        )
