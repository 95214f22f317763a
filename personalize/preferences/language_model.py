"""A client of any OpenAI-compatible chat server, on the standard library.

Transport faults (a busy or broken server, a hang, a cut stream, no JSON) are retried a few times
with jitter; what the model *says* is nobody's business here. Every attempt is counted, with its
tokens, whether it ended well or not.
"""

import http.client
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from data_prep.errors import InputError
from personalize.preferences.prompt import Prompt

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REFUSED = {
    401: "refuses the key; name the variable that holds it with --api-key-env",
    403: "refuses the key; name the variable that holds it with --api-key-env",
    404: "knows no such address or model; check --url and --model",
}
_MOST_BYTES = 2_000_000
_LONGEST_PAUSE_S = 60.0


class ServerError(RuntimeError):
    """The server gave no usable reply, however often it was asked."""


class CallsSpentError(RuntimeError):
    """No call is left of those that were allowed."""


class _RetryError(RuntimeError):
    """A fault that may pass; `pause_s` is what the server asked to wait, if it asked."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


@dataclass
class Usage:
    """What calling has cost so far; failed attempts are in it."""

    calls: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    calls_without_usage: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **counts: int) -> None:
        """Add to counters by name."""
        with self._lock:
            for name, value in counts.items():
                setattr(self, name, getattr(self, name) + value)

    def counts(self) -> dict[str, int]:
        """All counters by name."""
        names = ("calls", "retries", "tokens_in", "tokens_out", "calls_without_usage")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Patience:
    """How long and how often to try.

    Attributes:
        attempts: Tries of one question, the first one included.
        timeout_s: Seconds one try may take, from connecting to the last byte.
        first_pause_s: Upper end of the first random pause; each later one doubles it.
        give_up_after: Questions in a row without any reply after which the server is not asked
            again.
    """

    attempts: int = 4
    timeout_s: float = 120.0
    first_pause_s: float = 1.0
    give_up_after: int = 5


class ChatClient:
    """Asks a chat server; may be used from several threads at once.

    Args:
        url: Address of the server, with or without the ending `/v1/chat/completions`.
        model: Name of the model there.
        api_key: Key to send; none when not given.
        most_calls: Attempts allowed in all.
        patience: How long and how often to try.
        sleep: Waits; a test need not.
        seed: Start of the random pauses.

    Raises:
        InputError: If the address is none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        most_calls: int | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.usage = Usage()
        self._address = _address(url)
        self._api_key = api_key
        self._most_calls = most_calls
        self._patience = patience or Patience()
        self._sleep = sleep
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._silent_in_a_row = 0
        self._schema_refused = False

    def ask(self, prompt: Prompt, schema: Mapping[str, Any], *, most_tokens: int) -> str:
        """The text of the model's answer.

        Raises:
            ServerError: If no try brought one, or the server has been given up.
            CallsSpentError: If no call is left.
            InputError: If the server refuses key, address or model.
        """
        if self._silent_in_a_row >= self._patience.give_up_after:
            raise ServerError("the server was given up after too many failures in a row")
        reason = "it was not asked"
        for attempt in range(self._patience.attempts):
            try:
                text = self._try_once(self._body(prompt, schema, most_tokens))
            except _RetryError as fault:
                reason = str(fault)
                if attempt + 1 < self._patience.attempts:
                    self.usage.add(retries=1)
                    self._sleep(self._pause(attempt, fault.pause_s))
            else:
                self._silent_in_a_row = 0
                return text
        with self._lock:
            self._silent_in_a_row += 1
        raise ServerError(reason)

    def _body(self, prompt: Prompt, schema: Mapping[str, Any], most_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(prompt.messages),
            "temperature": 0,
            "max_tokens": most_tokens,
        }
        if not self._schema_refused:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "opinions", "strict": True, "schema": schema},
            }
        return body

    def _try_once(self, body: Mapping[str, Any]) -> str:
        with self._lock:
            if self._most_calls is not None and self.usage.calls >= self._most_calls:
                raise CallsSpentError
            self.usage.add(calls=1)
        status, headers, content = self._exchange(json.dumps(body).encode())
        if status in _REFUSED:
            raise InputError(f"The server {self._address.netloc} {_REFUSED[status]}.")
        if status in (400, 422) and "response_format" in body:
            self._schema_refused = True  # some servers know no schema; the prompt holds it too
            raise _RetryError(f"status {status}", pause_s=0.0)
        if status in _RETRIED:
            raise _RetryError(f"status {status}", _retry_after(headers.get("retry-after")))
        if status != http.client.OK:
            raise ServerError(f"status {status}")
        return self._text_of(content)

    def _exchange(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """One request and its reply, within the time allowed.

        Raises:
            _RetryError: If the connection fails, hangs, is cut or brings too much.
        """
        deadline = time.monotonic() + self._patience.timeout_s
        connection = self._connection()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            connection.request("POST", self._address.path, body, headers)
            response = connection.getresponse()
            content = _read_all(response, deadline)
            found = {name.lower(): value for name, value in response.getheaders()}
        except TimeoutError as error:
            raise _RetryError("no reply in time") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _RetryError(f"connection: {type(error).__name__}") from error
        finally:
            connection.close()
        if len(content) < int(found.get("content-length") or 0):
            raise _RetryError("the reply was cut short")
        return response.status, found, content

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        if self._address.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=self._patience.timeout_s, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=self._patience.timeout_s)

    def _text_of(self, content: bytes) -> str:
        """The answer's text in a reply; its tokens are counted on the way."""
        try:
            reply = json.loads(content)
            usage = reply.get("usage") or {}
            text = reply["choices"][0]["message"]["content"] or ""
            self.usage.add(
                tokens_in=int(usage.get("prompt_tokens") or 0),
                tokens_out=int(usage.get("completion_tokens") or 0),
                calls_without_usage=int(not usage),
            )
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise _RetryError("the reply is no chat completion") from error
        if not isinstance(text, str):
            raise _RetryError("the reply is no chat completion")
        return text

    def _pause(self, attempt: int, asked_s: float | None) -> float:
        """Seconds to wait: what the server asks for, else a random part of a doubling span."""
        with self._lock:
            share = self._random.random()
        if asked_s is not None:
            return min(asked_s, _LONGEST_PAUSE_S) + 0.1 * share
        return min(self._patience.first_pause_s * 2**attempt, _LONGEST_PAUSE_S) * (0.5 + share / 2)


def _address(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        known = False
    if not known:
        raise InputError(f"--url must be an http or https address, got {url!r}.")
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path or '/v1'}/chat/completions"
    return parts._replace(path=path)


def _read_all(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The whole body: neither larger than allowed nor drop by drop past the deadline."""
    pieces: list[bytes] = []
    size = 0
    while piece := response.read1(65_536):
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_BYTES:
            raise _RetryError("the reply is too large")
        if time.monotonic() > deadline:
            raise _RetryError("no reply in time")
    return b"".join(pieces)


def _retry_after(value: str | None) -> float | None:
    """Seconds a server asks to wait; it may name seconds or a date.

    Example:
        >>> _retry_after("3"), _retry_after("soon"), _retry_after(None)
        (3.0, None, None)
    """
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None
