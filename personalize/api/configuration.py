"""What `personalize serve` is configured with; it imports nothing heavy until it opens that."""

from pathlib import Path
from typing import TYPE_CHECKING

from personalize.api.limits import Limits
from personalize.api.ports import ItemsSource, ScenesSource

if TYPE_CHECKING:
    from personalize.api.served import Generation


class Serving:
    """What `personalize serve` is configured with.

    Args:
        root: Folder outside of which nothing is opened.
        items: Where recommendations are served from.
        scenes: Where driving is served from.
        encoder: Sentence model of `/v1/embeddings`: `embedded`, or the folder of a
            sentence-transformers model.
        host: Address to listen on; other machines reach it only if it is not 127.0.0.1.
        port: Port to listen on; 0 takes a free one.
        keys: YAML file of API keys' hashes, see `personalize key`; without it everybody may ask.
        threads: Threads of one computation.
        limits: How much a request may ask for.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        root: Path = Path("runs"),
        items: ItemsSource | None = None,
        scenes: ScenesSource | None = None,
        encoder: str = "embedded",
        host: str = "127.0.0.1",
        port: int = 8000,
        keys: Path | None = None,
        threads: int = 1,
        limits: Limits = Limits(),  # noqa: B008  (frozen, and shown by --help)
    ) -> None:
        self.root, self.items, self.scenes, self.encoder = root, items, scenes, encoder
        self.host, self.port, self.keys, self.threads = host, port, keys, threads
        self.limits = limits

    def open(self, number: int = 1) -> "Generation":
        """Open what is configured and ask it one question of each kind.

        Raises:
            InputError: If something is damaged, does not fit or does not answer. A half that is
                not there at all is left out.
        """
        from personalize.api.served import open_generation

        return open_generation(self, number)
