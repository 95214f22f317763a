"""One generation of what is served: opened, asked, and swapped for the next one in one step."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.artifact import package_version
from data_prep.errors import InputError
from personalize.api.configuration import Serving
from personalize.api.files import NotServedError, ServedFiles
from personalize.api.ports import HalfSource, ItemsHalf, ScenesHalf
from personalize.api.text_model import TextModel, Texts


@dataclass(frozen=True)
class Missing:
    """Why a half is not served."""

    reason: str


@dataclass(frozen=True)
class Generation:
    """Everything that answers, as of one moment.

    Attributes:
        number: 1 is the first since the server started.
        text: The sentence model.
        items: Recommendations, or why there are none.
        scenes: Driving, or why there is none.
    """

    number: int
    text: TextModel
    items: ItemsHalf | Missing
    scenes: ScenesHalf | Missing

    @property
    def halves(self) -> Mapping[str, ItemsHalf | ScenesHalf]:
        """The halves that are there."""
        found = {"items": self.items, "scenes": self.scenes}
        return {name: half for name, half in found.items() if not isinstance(half, Missing)}

    def self_query(self) -> None:
        """Ask everything one question.

        Raises:
            InputError: If something cannot answer.
        """
        self.text.embed([Texts(("Is anybody there?",))])
        for half in self.halves.values():
            half.self_query()

    def catch_up(self) -> None:
        """Take over what was added since this generation was opened."""
        for half in self.halves.values():
            half.catch_up()

    def facts(self) -> dict[str, Any]:
        """What is served, as plain JSON values."""
        facts: dict[str, Any] = {
            "package_version": package_version(),
            "generation": self.number,
            "text_model": {
                "id": self.text.name,
                "sha256": self.text.fingerprint,
                "width": self.text.width,
                "most_tokens": self.text.most_tokens,
            },
        }
        for name, half in (("items", self.items), ("scenes", self.scenes)):
            there = not isinstance(half, Missing)
            facts[name] = dict(half.facts()) if there else None
            facts[f"{name}_missing"] = None if there else half.reason
        return facts


def open_generation(serving: Serving, number: int) -> Generation:
    """Open what is configured and ask it one question of each kind.

    Args:
        serving: The configuration.
        number: Number of the generation.

    Raises:
        InputError: If something is damaged, does not fit or does not answer, or nothing is
            there at all.
    """
    files = ServedFiles(serving.root)
    opened = Generation(
        number=number,
        text=TextModel(serving.encoder, batch_size=serving.limits.batch_texts),
        items=_opened(serving.items, files),
        scenes=_opened(serving.scenes, files),
    )
    opened.self_query()
    return opened


def _opened(source: HalfSource | None, files: ServedFiles) -> Any:  # noqa: ANN401  (its half)
    if source is None:
        return Missing("It is not part of this server's configuration.")
    try:
        return source.open(files)
    except NotServedError as error:
        return Missing(str(error))


class Current:
    """The generation that answers new requests.

    Args:
        read_configuration: The configuration as it is now on disk.
    """

    def __init__(self, read_configuration: Callable[[], Serving]) -> None:
        self._read_configuration = read_configuration
        self._loading = threading.Lock()
        self.opened_at_s = time.time()
        self.generation = read_configuration().open()

    def load(self) -> Generation:
        """The next generation, ready but not yet answering; may run beside the present one.

        Raises:
            InputError: If it cannot be served, or another one is being loaded; the present one
                goes on.
        """
        if not self._loading.acquire(blocking=False):
            raise InputError("Another reload is under way; ask again when it is done.")
        try:
            return self._read_configuration().open(self.generation.number + 1)
        finally:
            self._loading.release()

    def swap(self, loaded: Generation) -> None:
        """Let a loaded generation answer from now on; called by the thread that computes.

        Raises:
            InputError: If it cannot take over what was added in the meantime.
        """
        loaded.catch_up()
        self.opened_at_s = time.time()
        self.generation = loaded
