"""The benchmark of the server: what it sends is answered, and every question is a new one."""

import asyncio

import pytest

from benchmarks.serve import Numbers, load, request_bytes, works
from personalize.api.configuration import Serving
from personalize.api.messages import ItemQuery
from tests.personalize.api.served_here import served
from tests.personalize.api.small_halves import Small


def test_a_server_that_answers_this_machine_alone_answers_the_load(tmp_path):
    with served(Serving(root=tmp_path, items=Small())) as running:
        running.service.local_only = True
        for work in works(["ann"]):
            sent = [request_bytes(work.path, work.body(number)) for number in range(6)]
            took_s, latencies_s = asyncio.run(load(running.address, sent, 3))
            assert len(latencies_s) == 6
            assert 0 < max(latencies_s) <= took_s


def test_an_answer_that_is_none_ends_the_load(tmp_path):
    with served(Serving(root=tmp_path, items=Small())) as running:
        sent = [request_bytes("/v1/retrieve", {"k": 0})]
        with pytest.raises(RuntimeError, match="400"):
            asyncio.run(load(running.address, sent, 1))


def test_every_question_is_new_and_one_the_library_takes():
    numbers = Numbers()
    assert not set(numbers.take(5)) & set(numbers.take(5))
    for work in works(["ann", "bob"]):
        first, second = work.body(1), work.body(2)
        assert first != second
        if work.path == "/v1/retrieve":
            assert ItemQuery.model_validate(first).user == "bob"
