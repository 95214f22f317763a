"""The extractor that asks a chat server: one call a review, cached, repaired once, not trusted."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from personalize.preferences.answer_cache import AnswerCache, KeptAnswer
from personalize.preferences.extractor import Extractor, Refusal, Review, ReviewOpinions
from personalize.preferences.language_model import CallsSpentError, ChatClient, ServerError
from personalize.preferences.parse import (
    PreferenceParseError,
    answer_schema,
    grounded,
    parse_answer,
)
from personalize.preferences.prompt import (
    REVIEWS,
    VERSION,
    Task,
    clean,
    repair_prompt,
    request_key,
    review_prompt,
)

MOST_ANSWER_TOKENS = 1024
SAMPLING = {"temperature": 0, "max_tokens": MOST_ANSWER_TOKENS}
_CHARACTERS_PER_TOKEN = 4
_USUAL_ANSWER_TOKENS = 120


@dataclass(frozen=True)
class Outcome:
    """What asking about one review came to.

    Attributes:
        answer: The valid answer's text, if there is one.
        reason: Why there is none.
        cached: Whether it was known before.
        repaired: Whether the first answer was invalid.
    """

    answer: str | None
    reason: str = ""
    cached: bool = False
    repaired: bool = False


class ChatExtractor(Extractor):
    """Reads reviews with a chat server; the embedded extractor reads where the server fails.

    Args:
        client: Asks the server.
        aspects: Names of the aspects an opinion may be about.
        embedded: Reads a review that brought no valid answer.
        cache: Keeps answers between runs.
        concurrency: Calls in flight.
        task: What the server is asked to do.
    """

    name = "chat"

    def __init__(
        self,
        client: ChatClient,
        aspects: Sequence[str],
        embedded: Extractor,
        cache: AnswerCache,
        *,
        concurrency: int = 16,
        task: Task = REVIEWS,
    ) -> None:
        self.version = f"{VERSION}+{client.model}"
        self._client = client
        self._aspects = tuple(aspects)
        self._task = task
        self._schema = answer_schema(self._aspects, labels=task.labels)
        self._embedded = embedded
        self._cache = cache
        self._concurrency = concurrency
        self._counts = dict.fromkeys(
            ("reviews", "cached", "repaired", "read_embedded", "opinions", "ungrounded"), 0
        )

    def read(self, reviews: Sequence[Review]) -> Iterator[ReviewOpinions]:
        """The opinions in each review, in order, with a bounded number of calls in flight."""
        waiting: deque[tuple[Review, str, Future[Outcome]]] = deque()
        asked: dict[str, Future[Outcome]] = {}
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            for review in reviews:
                key = request_key(
                    self._client.model, review.text, self._schema, SAMPLING, task=self._task
                )
                if key not in asked:  # equal reviews share one question
                    asked[key] = pool.submit(self._outcome, key, review.text)
                waiting.append((review, key, asked[key]))
                if len(waiting) > 2 * self._concurrency:
                    yield self._collect(waiting.popleft(), asked)
            while waiting:
                yield self._collect(waiting.popleft(), asked)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def notes(self) -> dict[str, int | float | str]:
        """What the reading took: reviews, calls, tokens, repairs and fallbacks."""
        return {"model": self._client.model, **self._counts, **self._client.usage.counts()}

    def _collect(
        self, entry: tuple[Review, str, "Future[Outcome]"], asked: dict[str, "Future[Outcome]"]
    ) -> ReviewOpinions:
        review, key, promise = entry
        outcome = promise.result()
        asked.pop(key, None)  # from now on the cache knows it
        self._counts["reviews"] += 1
        self._counts["cached"] += outcome.cached
        self._counts["repaired"] += outcome.repaired
        if outcome.answer is None:
            self._counts["read_embedded"] += 1
            return fallen_back(self._embedded, review, outcome.reason)
        stated = parse_answer(outcome.answer, self._aspects, labels=self._task.labels)
        opinions, refusals = grounded(stated, review.review_id, review.text)
        self._counts["opinions"] += len(opinions)
        self._counts["ungrounded"] += len(refusals)
        return ReviewOpinions(
            review.review_id, opinions, self.name, self.version, refusals, stated.overall
        )

    def _outcome(self, key: str, text: str) -> Outcome:
        """The outcome for one text: from the cache, from the server, or a reason."""
        if not any(character.isalnum() for character in clean(text)):
            nothing = None if self._task.labels else '{"opinions": []}'
            return Outcome(nothing, "there is nothing to read")
        if (kept := self._cache.get(key)) is not None:
            valid = kept.text is not None and self._fault(kept.text) is None
            if valid:
                return Outcome(kept.text, cached=True)
            return Outcome(None, "the answer was invalid twice", cached=True)
        try:
            outcome = self._ask(text)
        except ServerError as fault:
            return Outcome(None, f"server: {fault}")
        except CallsSpentError:
            return Outcome(None, "no call was left")
        self._cache.put(key, KeptAnswer(outcome.answer))
        return outcome

    def _ask(self, text: str) -> Outcome:
        """Ask, and once more with what was wrong."""
        prompt = review_prompt(text, self._schema, task=self._task)
        answer = self._client.ask(prompt, self._schema, most_tokens=MOST_ANSWER_TOKENS)
        fault = self._fault(answer)
        if fault is None:
            return Outcome(answer)
        again = repair_prompt(prompt, answer, fault)
        answer = self._client.ask(again, self._schema, most_tokens=MOST_ANSWER_TOKENS)
        if self._fault(answer) is None:
            return Outcome(answer, repaired=True)
        return Outcome(None, "the answer was invalid twice", repaired=True)

    def _fault(self, answer: str) -> str | None:
        try:
            parse_answer(answer, self._aspects, labels=self._task.labels)
        except PreferenceParseError as error:
            return str(error)
        return None


def fallen_back(embedded: Extractor, review: Review, reason: str) -> ReviewOpinions:
    """The review as the embedded extractor reads it, with a refusal that says why it had to."""
    read = next(iter(embedded.read([review])))
    refusal = Refusal(review.review_id, f"read embedded: {reason}", review.text)
    return ReviewOpinions(
        read.review_id,
        read.opinions,
        read.extractor,
        read.extractor_version,
        (*read.refusals, refusal),
        read.overall,
    )


@dataclass(frozen=True)
class Estimate:
    """What a run would take, without the calls that are cached.

    Attributes:
        reviews: Reviews to read.
        cached: Reviews whose answer is known.
        calls: Calls to make, repairs not counted.
        tokens_in: Tokens to send, at four characters a token.
        tokens_out: Tokens to expect.
    """

    reviews: int
    cached: int
    calls: int
    tokens_in: int
    tokens_out: int


def estimate(
    reviews: Sequence[Review], model: str, aspects: Sequence[str], cache: AnswerCache | None
) -> Estimate:
    """What reading the reviews with a chat server would take; nothing is called."""
    schema = answer_schema(aspects)
    seen: set[str] = set()
    cached = characters = calls = 0
    for review in reviews:
        key = request_key(model, review.text, schema, SAMPLING)
        if key in seen or not any(character.isalnum() for character in review.text):
            continue
        seen.add(key)
        if cache is not None and cache.get(key) is not None:
            cached += 1
            continue
        calls += 1
        prompt = review_prompt(review.text, schema)
        characters += sum(len(message["content"]) for message in prompt.messages)
    return Estimate(
        len(reviews),
        cached,
        calls,
        characters // _CHARACTERS_PER_TOKEN,
        calls * _USUAL_ANSWER_TOKENS,
    )
