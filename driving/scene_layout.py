"""How one vector says what a scene is like: its text, its style and what a planner sees, in a row.

An inner product with the vector of a query is the mean of the similarities that are asked for, so
any mixture of words, style and "like this one" is one search.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS

STYLES = len(STYLE_DIMENSIONS)
STYLE_WIDTH = 3 * STYLES
FARTHEST_SQUARED = 4.0
"""The squared distance of one end of a dimension from the other."""


@dataclass(frozen=True)
class SceneLayout:
    """How wide the parts of a scene's vector are, in their order: text, style, scene.

    Attributes:
        text: Width of a text's vector; 0 where texts were left out.
        scene: Width of what the planner's encoder says; 0 where there is none.
    """

    text: int
    scene: int

    @property
    def width(self) -> int:
        """Length of a whole vector."""
        return self.text + STYLE_WIDTH + self.scene

    @property
    def text_part(self) -> slice:
        """Where the text's vector stands."""
        return slice(0, self.text)

    @property
    def style_part(self) -> slice:
        """Where the style's numbers stand."""
        return slice(self.text, self.text + STYLE_WIDTH)

    @property
    def scene_part(self) -> slice:
        """Where the vector of the planner's encoder stands."""
        return slice(self.text + STYLE_WIDTH, self.width)


def style_numbers(
    values: Float[np.ndarray, "sample style"], mask: Bool[np.ndarray, "sample style"]
) -> Float[np.ndarray, "sample numbers"]:
    """What is kept of every sample's style: value, its square, and whether it was measured.

    Args:
        values: -1 to 1.
        mask: What was measured.

    Returns:
        Three numbers per dimension, all 0 where it was not measured.
    """
    known = mask.astype(np.float32)
    held = values.astype(np.float32) * known
    return np.concatenate([held, held * held, known], -1)


def style_question(
    values: Float[np.ndarray, " style"], asked: Bool[np.ndarray, " style"]
) -> Float[np.ndarray, " numbers"]:
    """The vector whose inner product with `style_numbers` is the similarity of two styles.

    The similarity is the mean over the dimensions asked for of 1 - (q - v)^2 / 4: 1 for the same
    value, 0 for the other end. A dimension that was not measured counts as the other end: who asks
    for a short time gap does not mean those who follow nobody.

    Args:
        values: What is asked for, -1 to 1.
        asked: Which dimensions are asked for, at least one.

    Raises:
        ValueError: If no dimension is asked for.
    """
    if not asked.any():
        raise ValueError("asked must name at least one dimension.")
    weight = asked.astype(np.float32) / (FARTHEST_SQUARED * asked.sum())
    wanted = values.astype(np.float32)
    return np.concatenate(
        [2 * wanted * weight, -weight, (FARTHEST_SQUARED - wanted * wanted) * weight]
    ).astype(np.float32)
