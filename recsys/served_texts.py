"""Vectors of texts that are asked again and again: known ones, and a bounded memory of others."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from recsys.catalogue import Catalogue

_MOST_REMEMBERED = 8192  # texts; 12 MB of vectors of 384 numbers


class TextMemory:
    """One vector per text; whoever drags a slider does not have the text encoded again.

    Args:
        catalogue: Texts whose vectors are known.
        encode: Makes vectors of others, one per text.
    """

    def __init__(self, catalogue: Catalogue, encode: Callable[[Sequence[str]], np.ndarray]) -> None:
        self.width = catalogue.text_width
        self._numbers = {text: number for number, text in enumerate(catalogue.texts)}
        self._known = catalogue.text_vectors.numpy()
        self._encode = encode
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()

    def number(self, text: str) -> int | None:
        """The number of a text of the catalogue."""
        return self._numbers.get(text)

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        """A vector for every text, in the order given."""
        new = {t for t in texts if t not in self._numbers and t not in self._remembered}
        fresh: dict[str, np.ndarray] = {}
        if new:
            ordered = sorted(new)
            fresh = dict(zip(ordered, self._encode(ordered), strict=True))
        found = np.zeros((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            number = self._numbers.get(text)
            if number is not None:
                found[row] = self._known[number]
            elif text in fresh:
                found[row] = fresh[text]
            else:
                found[row] = self._remembered[text]
                self._remembered.move_to_end(text)
        self._remembered.update(fresh)
        while len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return found
