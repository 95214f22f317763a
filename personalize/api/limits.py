"""How much one request may ask for, and how long anything may take."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Limits of the server; every one of them answers in a sentence when it is reached.

    Attributes:
        body_bytes: Largest body of a request.
        header_s: Time a client has to send the head of a request.
        body_s: Time it has to send the body; and to read something of an answer that waits.
        request_s: Time a request may wait and compute before it is given up.
        waiting_requests: Questions in the queue; more are answered with 429.
        batch_requests: Questions that are answered together.
        batch_texts: Texts that are encoded together.
        texts: Texts in one request for embeddings.
        text_characters: Length of one of them.
        drain_s: Time that accepted requests have to finish when the server is told to stop.

    Raises:
        ValueError: If one is not positive.
    """

    body_bytes: int = 2 * 1024 * 1024
    header_s: float = 10.0
    body_s: float = 20.0
    request_s: float = 60.0
    waiting_requests: int = 512
    batch_requests: int = 64
    batch_texts: int = 32
    texts: int = 2048
    text_characters: int = 20_000
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse a limit that lets nothing through."""
        for limit in fields(self):
            if getattr(self, limit.name) <= 0:
                raise ValueError(
                    f"{limit.name} must be positive, got {getattr(self, limit.name):g}."
                )
