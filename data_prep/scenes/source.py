"""SLOT SceneSource: one per raw format of driving logs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.scenes.raw_scene import RawScene, RejectedInput


class SceneSource(ABC):
    """Reads the driving logs of one format.

    Laws:
        - Scenes come in a fixed order; reading twice gives the same.
        - What cannot be read comes out as a `RejectedInput` in its place; nothing is dropped
          silently, and one bad file does not end the reading.
        - Nothing in a file is executed, fetched or followed outside the given folders.
        - Units are SI, headings radians, positions box centres, in one frame per map.

    Attributes:
        name: Name of the format, the same as the command's.
    """

    name: str

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Every file that is read, for the hashes in the manifest.

        Raises:
            InputError: If there is none.
        """

    @abstractmethod
    def scenes(self) -> Iterator[RawScene | RejectedInput]:
        """The scenes, one after another, and what was refused on the way."""
