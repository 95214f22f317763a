"""Tests of the chat extractor over real HTTP, against a server that can be told to fail."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import InputError
from personalize.preferences.answer_cache import AnswerCache, KeptAnswer
from personalize.preferences.chat import ChatExtractor, estimate
from personalize.preferences.extractor import Review, ReviewOpinions
from personalize.preferences.language_model import ChatClient, Patience
from tests.personalize.preferences.scripted_server import (
    Reply,
    Script,
    opinions,
    scripted_server,
    shown_review,
)
from tests.personalize.preferences.small_reviews import small_aspects, small_extractor

STURDY = Review(7, "We went to the lake. It is very sturdy and well built.", 5.0)
GOOD = opinions(("durability", "like", "very sturdy"))
QUICK = Patience(attempts=3, timeout_s=0.4, first_pause_s=1.0)
EMBEDDED = small_extractor()


def read(
    script: Script, reviews: Sequence[Review] = (STURDY,), **options: Any
) -> tuple[list[ReviewOpinions], dict[str, Any], list[dict[str, Any]], list[float]]:
    """Answers, notes, the requests the server saw, and the pauses made."""
    pauses: list[float] = []
    cache = options.pop("cache", None) or AnswerCache(Path(":memory:"))
    with scripted_server(script) as record:
        client = ChatClient(
            record.url,
            "tiny",
            patience=options.pop("patience", QUICK),
            sleep=pauses.append,
            **options,
        )
        extractor = ChatExtractor(client, small_aspects().names, EMBEDDED, cache, concurrency=4)
        found = list(extractor.read(reviews))
        return found, dict(extractor.notes()), record.bodies, pauses


def always(*replies: Reply) -> Script:
    """The replies in turn, the last one for ever."""
    return lambda number, body: replies[min(number, len(replies) - 1)]


def test_an_opinion_comes_back_with_its_place() -> None:
    found, notes, bodies, _ = read(always(Reply(GOOD)))
    (opinion,) = found[0].opinions
    assert (opinion.aspect, opinion.polarity, opinion.weight) == ("durability", "like", 0.8)
    assert STURDY.text[opinion.start : opinion.end] == "very sturdy"
    assert found[0].extractor == "chat"
    assert (notes["calls"], notes["tokens_in"], notes["tokens_out"]) == (1, 10, 5)
    assert bodies[0]["response_format"]["json_schema"]["strict"] is True


def test_the_schema_stands_in_the_request_and_in_the_prompt() -> None:
    _, _, bodies, _ = read(always(Reply(GOOD)))
    schema = bodies[0]["response_format"]["json_schema"]["schema"]
    assert json.dumps(schema) in bodies[0]["messages"][0]["content"]
    assert "$ref" not in json.dumps(schema)
    assert "$defs" not in json.dumps(schema)


def test_every_call_has_its_own_delimiter() -> None:
    reviews = [Review(n, f"Sturdy number {n}.") for n in range(5)]
    _, _, bodies, _ = read(always(Reply()), reviews)
    marks = {body["messages"][1]["content"].split("\n")[0] for body in bodies}
    assert len(marks) == 5


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=500),
        Reply(status=503),
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(hang_s=0.8),
        Reply(GOOD, cut=True),
        Reply(raw=b"<html>busy</html>", headers={"Content-Type": "text/html"}),
        Reply(raw=b'{"choices": [{"mess'),
        Reply(raw=b'{"choices": []}'),
        Reply(raw=b"[1, 2]"),
        Reply(raw=b"x" * 2_100_000),
        Reply(raw=b'{"choices": ' + b"[" * 100_000),
    ],
    ids=[
        *["500", "503", "429", "hang", "cut", "html", "truncated", "empty", "list", "huge"],
        "nested",
    ],
)
def test_a_fault_that_passes_is_tried_again(fault: Reply) -> None:
    found, notes, _, pauses = read(always(fault, Reply(GOOD)))
    assert found[0].extractor == "chat"
    assert found[0].opinions
    assert (notes["calls"], notes["retries"]) == (2, 1)
    assert len(pauses) == 1


@pytest.mark.parametrize(
    "fault",
    [Reply(status=500), Reply(status=429, headers={"Retry-After": "1"}), Reply(GOOD, cut=True)],
    ids=["500", "429", "cut"],
)
def test_a_fault_that_stays_ends_in_the_embedded_extractor(fault: Reply) -> None:
    found, notes, _, _ = read(always(fault))
    assert found[0].extractor == "extractive"
    assert ("durability", "like") in [(o.aspect, o.polarity) for o in found[0].opinions]
    assert found[0].refusals[0].reason.startswith("read embedded: server: ")
    assert (notes["calls"], notes["read_embedded"]) == (3, 1)


def test_retry_after_is_honoured_and_capped() -> None:
    script = always(
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(status=429, headers={"Retry-After": "9999"}),
        Reply(GOOD),
    )
    _, _, _, pauses = read(script)
    assert 7.0 <= pauses[0] < 7.2
    assert 60.0 <= pauses[1] < 60.2


def test_pauses_double_with_jitter_that_repeats() -> None:
    first = read(always(Reply(status=500)))[3]
    again = read(always(Reply(status=500)))[3]
    assert first == again
    assert 0.5 <= first[0] <= 1.0 <= first[1] <= 2.0


@pytest.mark.parametrize(
    "broken",
    [
        "I am sorry, I cannot do that.",
        '{"opinions": [{"aspect": "durability"',
        '{"opinions": [{"aspect": "durability", "polarity": "love", "strength": "clear", '
        '"evidence": "sturdy"}]}',
        opinions(("colour of the sky", "like", "sturdy")),
        '{"opinions": [], "note": "extra"}',
        '{"opinions": [' + "[" * 5000 + "]" * 5000 + "]}",
    ],
    ids=["prose", "truncated", "polarity", "aspect", "extra", "nested"],
)
def test_an_invalid_answer_is_repaired_once(broken: str) -> None:
    found, notes, bodies, _ = read(always(Reply(broken), Reply(GOOD)))
    assert found[0].extractor == "chat"
    assert (notes["calls"], notes["repaired"], notes["retries"]) == (2, 1, 0)
    assert bodies[1]["messages"][2] == {"role": "assistant", "content": broken[:4000]}
    assert "no valid answer" in bodies[1]["messages"][3]["content"]


def test_an_answer_invalid_twice_ends_in_the_embedded_extractor() -> None:
    found, notes, _, _ = read(always(Reply("no"), Reply("never"), Reply(GOOD)))
    assert found[0].extractor == "extractive"
    assert found[0].refusals[0].reason == "read embedded: the answer was invalid twice"
    assert (notes["calls"], notes["tokens_in"]) == (2, 20)


def test_evidence_that_is_not_in_the_review_is_refused() -> None:
    answer = opinions(("durability", "like", "very sturdy"), ("price", "like", "dirt cheap"))
    found, notes, _, _ = read(always(Reply(answer)))
    assert [o.aspect for o in found[0].opinions] == ["durability"]
    assert [r.reason for r in found[0].refusals] == ["the evidence is not in the review"]
    assert notes["ungrounded"] == 1


def test_a_server_without_schemas_is_asked_without_one() -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        return Reply(status=400) if "response_format" in body else Reply(GOOD)

    found, _, bodies, _ = read(script)
    assert found[0].extractor == "chat"
    assert "response_format" not in bodies[1]


def test_a_server_that_is_gone_is_given_up() -> None:
    reviews = [Review(n, f"It is very sturdy, number {n}.") for n in range(40)]
    patience = Patience(attempts=2, timeout_s=1.0, first_pause_s=0.0, give_up_after=3)
    found, notes, _, _ = read(always(Reply(status=500)), reviews, patience=patience)
    assert [answer.review_id for answer in found] == list(range(40))
    assert {answer.extractor for answer in found} == {"extractive"}
    assert notes["calls"] <= 2 * (3 + 4)  # what was in flight may still end


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_address_stops_the_command(status: int) -> None:
    with pytest.raises(InputError, match=r"The server 127\.0\.0\.1:\d+ (refuses|knows no)"):
        read(always(Reply(status=status)))


def test_no_more_calls_than_allowed() -> None:
    reviews = [Review(n, f"It is very sturdy, number {n}.") for n in range(9)]
    found, notes, bodies, _ = read(always(Reply()), reviews, most_calls=4)
    assert len(bodies) == notes["calls"] == 4
    assert [answer.extractor for answer in found].count("extractive") == 5
    assert (
        sum(a.refusals[0].reason == "read embedded: no call was left" for a in found if a.refusals)
        == 5
    )


def test_a_second_run_repeats_no_call(tmp_path: Path) -> None:
    reviews = [Review(n, f"It is very sturdy, number {n}.") for n in range(6)]
    reviews += [Review(9, reviews[0].text), Review(10, "  ...  ")]
    first = read(always(Reply(GOOD), Reply("no")), reviews, cache=AnswerCache(tmp_path / "a"))
    again = read(always(Reply(status=500)), reviews, cache=AnswerCache(tmp_path / "a"))
    assert first[0] == again[0]
    assert len(again[2]) == 0
    assert again[1]["cached"] == 7


def test_a_killed_run_keeps_what_was_answered(tmp_path: Path) -> None:
    reviews = [Review(n, f"It is very sturdy, number {n}.") for n in range(30)]
    with scripted_server(always(Reply())) as record:
        client = ChatClient(record.url, "tiny", patience=QUICK)
        cache = AnswerCache(tmp_path / "a")
        reading = ChatExtractor(client, small_aspects().names, EMBEDDED, cache, concurrency=2).read(
            reviews
        )
        for _ in range(10):
            next(reading)
        assert isinstance(reading, Generator)
        reading.close()
        asked = len(record.bodies)
    rest = read(always(Reply()), reviews, cache=AnswerCache(tmp_path / "a"))
    assert asked + len(rest[2]) == 30


def test_answers_keep_the_order_of_the_reviews() -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        word = shown_review(body).split()[-1].rstrip(".")
        return Reply(opinions(("size", "like", word)), hang_s=0.05 if number % 3 == 0 else 0.0)

    reviews = [Review(100 + n, f"This is big number n{n}.") for n in range(25)]
    found, _, _, _ = read(script, reviews)
    texts = [
        r.text[a.opinions[0].start : a.opinions[0].end] for r, a in zip(reviews, found, strict=True)
    ]
    assert texts == [f"n{n}" for n in range(25)]


def test_the_estimate_counts_distinct_reviews_that_are_not_cached(tmp_path: Path) -> None:
    reviews = [Review(0, "Sturdy."), Review(1, "Sturdy."), Review(2, "Cheap."), Review(3, "!")]
    cache = AnswerCache(tmp_path / "a")
    read(always(Reply()), [reviews[2]], cache=cache)
    found = estimate(reviews, "tiny", small_aspects().names, cache)
    assert (found.reviews, found.cached, found.calls) == (4, 1, 1)
    assert found.tokens_in > 300


def test_the_key_is_sent_and_kept_out_of_the_notes() -> None:
    with scripted_server(always(Reply())) as record:
        client = ChatClient(record.url, "tiny", api_key="secret-42", patience=QUICK)
        extractor = ChatExtractor(
            client, small_aspects().names, EMBEDDED, AnswerCache(Path(":memory:"))
        )
        list(extractor.read([STURDY]))
        assert record.keys == ["Bearer secret-42"]
        assert "secret-42" not in json.dumps(extractor.notes())


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host/v1", "http://", "http://h:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="--url must be an http or https address, got"):
        ChatClient(url, "tiny")


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"Cannot use .* as a cache of answers"):
        AnswerCache(tmp_path / "a")


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a")
    cache.close()
    with pytest.raises(InputError, match="Cannot write the cache"):
        cache.put("key", KeptAnswer("text"))
