"""What the server says about itself: metrics for Prometheus, and logs without anybody's words."""

import json
import logging
import sys
import time
import traceback

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from personalize.api.micro_batches import BatchFacts

LOGGER = logging.getLogger("personalize.api")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Monitor:
    """Counts requests and batches."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "personalize_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=own,
        )
        self._request_s = Histogram(
            "personalize_request_seconds",
            "From the first byte read to the last one written.",
            ["route"],
            buckets=_SECONDS,
            registry=own,
        )
        self._waited_s = Histogram(
            "personalize_queue_seconds",
            "How long the first question of a batch waited.",
            ["operation"],
            buckets=_SECONDS,
            registry=own,
        )
        self._computed_s = Histogram(
            "personalize_batch_seconds",
            "How long a batch computed.",
            ["operation"],
            buckets=_SECONDS,
            registry=own,
        )
        self._batch = Histogram(
            "personalize_batch_size",
            "Questions answered together.",
            ["operation"],
            buckets=_SIZES,
            registry=own,
        )
        self._failures = Counter(
            "personalize_batch_failures",
            "Batches that failed by our fault.",
            ["operation"],
            registry=own,
        )
        self._reloads = Counter("personalize_reloads", "Reloads.", ["result"], registry=own)
        self.waiting = Gauge("personalize_queue_length", "Questions that wait.", registry=own)
        self.in_flight = Gauge(
            "personalize_requests_in_flight", "Requests not yet done.", registry=own
        )
        self.generation = Gauge("personalize_generation", "How often was (re)loaded.", registry=own)

    def request(self, *, route: str, method: str, status: int, took_s: float) -> None:
        """Count one request by the pattern of its path, never by the path itself."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_s.labels(route).observe(took_s)

    def batch(self, facts: BatchFacts) -> None:
        """Count one batch."""
        self._waited_s.labels(facts.operation).observe(facts.waited_s)
        self._computed_s.labels(facts.operation).observe(facts.computed_s)
        self._batch.labels(facts.operation).observe(facts.questions)
        if facts.failed:
            self._failures.labels(facts.operation).inc()

    def reload(self, result: str) -> None:
        """Count one reload."""
        self._reloads.labels(result).inc()

    def text(self) -> bytes:
        """Everything, in the format that Prometheus reads."""
        return generate_latest(self._registry)


class _JsonLines(logging.Formatter):
    """A record as one line of JSON; its fields are those given as `extra={"facts": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage().partition("\n")[0],
        } | getattr(record, "facts", {})
        if record.exc_info and record.exc_info[1]:
            line["trace"] = _trace(record.exc_info[1])
        return json.dumps(line, default=str)


def _trace(error: BaseException) -> str:
    """Where an error and those it came from were raised; not what they say.

    Their messages may quote a text or an id that somebody sent.
    """
    lines: list[str] = []
    inner: BaseException | None = error
    while inner is not None:
        lines = [f"{type(inner).__qualname__}\n", *traceback.format_tb(inner.__traceback__), *lines]
        inner = inner.__cause__ or inner.__context__
    return "".join(lines)


def log_to_stderr() -> None:
    """Write the server's and uvicorn's logs as JSON lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in ("personalize.api", "uvicorn", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "personalize.api" else logging.WARNING)


def log(event: str, **facts: object) -> None:
    """One line of the log."""
    LOGGER.info(event, extra={"facts": facts})
